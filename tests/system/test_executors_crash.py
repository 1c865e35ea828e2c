"""What a worker process that dies costs, and what it does not."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from aioconc._internal import _hooks
from aioconc.errors import UnsupportedOption, WorkerCrashed
from aioconc.executors import Executor, FuturesExecutor
from tests.contracts import executor_work as work

pytestmark = pytest.mark.slow


LOKY = pytest.param(
    "loky",
    marks=pytest.mark.may_leave(
        "children", "fds", reason="loky's resource tracker serves the whole interpreter"
    ),
)


def plain_pool() -> concurrent.futures.ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=context)


@pytest.fixture(params=["over_processes", "plain", LOKY])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[FuturesExecutor]:
    """At most two workers, which are not started yet."""
    if request.param == "loky":
        loky = pytest.importorskip("loky")
        executor = FuturesExecutor(lambda: loky.ProcessPoolExecutor(2), max_workers=2)
    elif request.param == "plain":
        executor = FuturesExecutor(plain_pool, max_workers=2)
    else:
        executor = FuturesExecutor.over_processes(2)
    async with executor:
        yield executor


async def started(path: str) -> None:
    async with asyncio.timeout(30):
        while not Path(path + ".started").exists():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("how", ["exit", "kill"])
async def test_a_crash_costs_what_was_in_flight_and_no_more(
    pool: FuturesExecutor, tmp_path: Path, how: str
) -> None:
    """Both running calls fail; those in the queue run in new workers."""
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    innocent = asyncio.ensure_future(pool.run(work.hold, first))
    await started(first)
    fatal: Callable[..., Any] = os._exit if how == "exit" else _kill_myself
    guilty = asyncio.ensure_future(pool.run(fatal, 7))
    queued = [asyncio.ensure_future(pool.run(work.add, each, 1)) for each in range(5)]
    with pytest.raises(WorkerCrashed, match="in flight") as caught:
        await guilty
    if type(pool._feeder.executor).__name__ == "WorkerPool" and caught.value.pid is not None:
        assert caught.value.exitcode == (7 if how == "exit" else -signal.SIGKILL)
    with pytest.raises(WorkerCrashed):
        await innocent
    assert await asyncio.gather(*queued) == [1, 2, 3, 4, 5]
    Path(second + ".go").touch()
    assert await pool.run(work.hold, second) == second


def _kill_myself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_a_crash_of_a_worker_just_started_in_a_given_pool_is_noticed(
    tmp_path: Path,
) -> None:
    """The pool that is handed in starts a second worker for the call that crashes it."""
    gate = str(tmp_path / "a")
    with plain_pool() as standard:
        async with FuturesExecutor(standard) as pool:
            innocent = asyncio.ensure_future(pool.run(work.hold, gate))
            await started(gate)
            for call in (pool.run(os._exit, 3), innocent):
                with pytest.raises(WorkerCrashed):
                    await asyncio.wait_for(call, 30)


async def test_retries_run_a_crashed_call_again(tmp_path: Path) -> None:
    """The second attempt finds what the first one left, and succeeds; the event names both."""
    mark = tmp_path / "mark"
    events: list[str] = []
    end = _hooks.subscribe(lambda name, fields: events.append(name))

    def crash_once() -> int:
        if not mark.exists():
            mark.touch()
            os._exit(1)
        from aioconc.worker import info

        return info().attempt

    async with FuturesExecutor.over_processes(1) as pool:
        assert await pool.options(retries=2).run(crash_once) == 2
        with pytest.raises(WorkerCrashed) as caught:
            await pool.options(retries=1).run(os._exit, 3)
        assert caught.value.attempt == 2
        assert (caught.value.exitcode, caught.value.signal) == (3, None)
    end()
    assert events.count("worker.crashed") == 3


async def test_a_given_executor_stays_broken_and_says_what_to_do() -> None:
    """An executor that is the caller's cannot be replaced; the error names the remedy."""
    context = multiprocessing.get_context("forkserver")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as standard:
        async with FuturesExecutor(standard) as pool:
            assert pool.max_workers == 1
            with pytest.raises(UnsupportedOption):
                pool.options(retries=1)
            for _ in range(2):
                with pytest.raises(WorkerCrashed, match="a function that makes the executor"):
                    await pool.run(os._exit, 1)


async def test_a_cancelled_call_of_a_dying_worker_is_cancelled(tmp_path: Path) -> None:
    """The worker dies while a cancelled call waits for its end: the cancellation is what counts."""
    gate = str(tmp_path / "a")
    pool: Executor
    async with FuturesExecutor.over_processes(1) as pool:
        pid = await pool.run(os.getpid)
        call = asyncio.ensure_future(pool.run(work.hold, gate))
        await started(gate)
        call.cancel("mine")
        await asyncio.sleep(0.01)
        assert not call.done()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(asyncio.CancelledError, match="mine"):
            await call
        assert await pool.run(work.add, 1, 1) == 2


async def test_a_factory_that_fails_fails_the_call() -> None:
    """Its error is that of the call, and the next call asks it again."""
    tries = 0

    def factory() -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("no room")
        return "not an executor"

    async with FuturesExecutor(factory, max_workers=1) as pool:
        with pytest.raises(OSError, match="no room"):
            await pool.run(work.add, 1)
        with pytest.raises(TypeError, match=r"must return a concurrent\.futures\.Executor"):
            await pool.run(work.add, 1)
