"""A function that crashes every worker: it is slowed down, and nothing else happens."""

import asyncio
import itertools
import os
import time
from typing import Any

import pytest

from aioconc._internal import _hooks
from aioconc.errors import WorkerCrashed
from aioconc.executors import ProcessExecutor
from aioconc.executors.process import _crash_loop
from tests.system.process_tools import STARTS, executor_started_by, until

pytestmark = [pytest.mark.slow, pytest.mark.loops("asyncio")]


@pytest.fixture(autouse=True, params=STARTS)
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test is run for each way of starting workers."""
    monkeypatch.setattr(request.module, "ProcessExecutor", executor_started_by(request.param))
    return str(request.param)


async def crash(pool: ProcessExecutor, times: int) -> None:
    for _ in range(times):
        with pytest.raises(WorkerCrashed):
            await pool.run(os._exit, 3)


def count(pool: ProcessExecutor) -> int:
    return pool._processes.starts._crash_loop.count


async def test_crashes_in_a_row_slow_down_the_starts(caplog: pytest.LogCaptureFixture) -> None:
    """The first five cost no time, each further start waits longer; one call that ends resets it."""
    starts: list[float] = []
    end = _hooks.subscribe(
        lambda name, _: starts.append(time.monotonic()) if name == "worker.started" else None
    )
    async with ProcessExecutor(1) as pool:
        await crash(pool, 8)
        end()
        pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
        assert len(starts) == 8
        for pause, least in zip(pauses[4:], (0.1, 0.2, 0.4), strict=True):
            assert pause >= least
        assert caplog.text.count("5 calls in a row have lost their worker") == 1
        assert "_exit" in caplog.text
        assert await pool.run(len, "abc") == 3
        assert count(pool) == 0
        assert pool.statistics().failed == 8


async def test_retries_do_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are crashes in a row like any others."""
    async with ProcessExecutor(1) as pool:
        began = time.monotonic()
        with pytest.raises(WorkerCrashed) as caught:
            await pool.options(retries=6).run(os._exit, 3)
        assert caught.value.attempt == 7
        assert time.monotonic() - began >= 0.1 + 0.2


async def test_kills_are_no_crashes() -> None:
    """A call that is cancelled or times out says nothing of the function."""
    async with ProcessExecutor(1) as pool:
        for _ in range(_crash_loop.FREE + 1):
            with pytest.raises(TimeoutError):
                await pool.options(timeout=0.01).run(time.sleep, 60)
        assert count(pool) == 0


async def test_a_map_in_which_items_end_is_no_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Every chunk loses its worker, and each time some items are done."""

    def crash_on_every_third(number: int) -> int:  # here, so that workers need not import the test
        if number % 3 == 0:
            os._exit(3)
        return number

    async with ProcessExecutor(1) as pool:
        run = pool.map(crash_on_every_third, range(30), chunk=10, on_error="return")
        results: list[Any] = await run
        assert [each for each in results if isinstance(each, int)] == [
            each for each in range(30) if each % 3
        ]
    assert "in a row" not in caplog.text


@pytest.mark.parametrize("cancel", [False, True])
async def test_closing_does_not_wait_for_a_start_that_is_held_back(
    monkeypatch: pytest.MonkeyPatch, cancel: bool
) -> None:
    """Nobody needs that worker any more."""
    monkeypatch.setattr(_crash_loop, "_FIRST", 60.0)
    monkeypatch.setattr(_crash_loop, "_LONGEST", 60.0)
    pool = ProcessExecutor(1)
    await crash(pool, _crash_loop.FREE)
    call = asyncio.ensure_future(pool.run(len, "abc"))
    await until(lambda: pool._processes.starts._crash_loop._held)
    if not cancel:
        call.cancel()
        await asyncio.wait([call])
    async with asyncio.timeout(10):
        await pool.aclose(cancel=cancel)
    await asyncio.gather(call, return_exceptions=True)
    assert pool.statistics().workers == 0


async def test_a_call_that_waits_for_a_start_can_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like any call that waits for a worker."""
    monkeypatch.setattr(_crash_loop, "_FIRST", 60.0)
    monkeypatch.setattr(_crash_loop, "_LONGEST", 60.0)
    pool = ProcessExecutor(1)
    await crash(pool, _crash_loop.FREE)
    with pytest.raises(TimeoutError):
        await pool.options(queue_timeout=0.05).run(len, "abc")
    await pool.aclose()
