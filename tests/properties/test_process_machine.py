"""Any order of submitting, cancelling, crashing, shrinking and closing: the books always balance."""

import asyncio
import os
import signal
import time
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aioconc.errors import ExecutorClosed, WorkerCrashed
from aioconc.executors import ProcessExecutor
from tests.contracts import executor_work as work

pytestmark = pytest.mark.slow


class Machine(RuleBasedStateMachine):
    """One pool, one loop that turns between the steps, and what is known of every call."""

    @initialize(workers=st.integers(1, 2), spares=st.integers(0, 1))
    def open(self, workers: int, spares: int) -> None:
        self.runner = asyncio.Runner()
        self.pool = ProcessExecutor(workers, spares=spares)
        self.calls: dict[asyncio.Task[Any], int | None] = {}
        self.ended: list[str] = []
        self.cancelled = 0
        self.killed = 0
        self.closed = False

    def turn(self, seconds: float = 0) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule(number=st.integers(0, 99))
    def submit(self, number: int) -> None:
        async def start() -> None:
            self.calls[asyncio.ensure_future(self.pool.run(work.add, number, 1))] = number + 1
            await asyncio.sleep(0)

        self.runner.run(start())

    @precondition(lambda self: not self.closed)
    @rule()
    def submit_one_that_never_ends(self) -> None:
        async def start() -> None:
            self.calls[asyncio.ensure_future(self.pool.run(time.sleep, 3600))] = None
            await asyncio.sleep(0)

        self.runner.run(start())

    # Which calls and workers there are depends on the processes: only numbers are drawn.
    @rule(which=st.integers(0, 5))
    def cancel(self, which: int) -> None:
        if self.calls:
            call = [*self.calls][which % len(self.calls)]
            self.cancelled += call.cancel()

    @rule(which=st.integers(0, 5))
    def crash(self, which: int) -> None:
        alive = [each for each in self.pool._processes.workers if not each.dead]
        if alive:
            try:
                os.kill(alive[which % len(alive)].pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.killed += 1

    @rule()
    def shrink(self) -> None:
        pool = self.pool._processes
        with pool.lock:
            idle, pool.idle = pool.idle, []
        for worker in idle:
            pool._let_go(worker)

    @rule(seconds=st.sampled_from((0, 0.01, 0.1)))
    def wait(self, seconds: float) -> None:
        self.turn(seconds)

    @rule()
    def run_another_loop(self) -> None:
        """Workers go to a second loop and back; nothing of the first is disturbed.

        Only while a place is free: the calls of the first loop end when it runs again.
        """
        now = self.pool.statistics()
        if not self.closed and now.busy < now.max_workers:
            assert asyncio.run(self.pool.run(work.add, 1, 1)) == 2
            self.ended.append("value")

    @rule()
    def close(self) -> None:
        async def begin() -> None:
            self.calls[asyncio.ensure_future(self.pool.aclose(cancel=True))] = None
            await asyncio.sleep(0)

        if not self.closed:
            self.closed = True
            self.runner.run(begin())

    @invariant()
    def no_more_run_than_may(self) -> None:
        now = self.pool.statistics()
        assert now.busy <= now.max_workers
        assert not now.queued or now.busy == now.max_workers

    @invariant()
    def what_has_ended_has_ended_rightly(self) -> None:
        for call in [each for each in self.calls if each.done()]:
            expected = self.calls.pop(call)
            if call.cancelled():
                assert self.cancelled
                self.ended.append("cancelled")
            elif (error := call.exception()) is None:
                assert call.result() == expected
                self.ended.append("closed" if expected is None else "value")
            elif isinstance(error, WorkerCrashed):
                assert self.killed
                self.ended.append("crashed")
            else:
                assert isinstance(error, ExecutorClosed)
                assert self.closed
                self.ended.append("closed")

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        try:
            self.runner.run(self.end())
            self.what_has_ended_has_ended_rightly()
            now = self.pool.statistics()
            assert now.completed >= self.ended.count("value")
            assert now.failed >= self.ended.count("crashed")
            assert self.ended.count("crashed") <= self.killed
            assert (now.busy, now.queued, now.abandoned, now.workers) == (0, 0, 0, 0)
        finally:
            self.runner.close()

    async def end(self) -> None:
        self.closed = True
        async with asyncio.timeout(20):
            await self.pool.aclose(cancel=True)
            if self.calls:
                await asyncio.wait([*self.calls])


TestProcesses = Machine.TestCase
TestProcesses.settings = hypothesis.settings(max_examples=40, stateful_step_count=25, deadline=None)
