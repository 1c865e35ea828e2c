"""Faults of worker processes: each strikes at its step, in its own call, and nowhere else."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aioconc import ThreadExecutor
from aioconc.errors import WorkerCrashed
from aioconc.executors import FuturesExecutor
from aioconc.testing import hang_worker, kill_worker


def mark(path: str) -> str:
    Path(path).touch()
    return path


def mark_and_spin(path: str) -> None:
    Path(path).touch()
    while True:
        pass


@pytest.fixture
async def pool() -> AsyncIterator[FuturesExecutor]:
    def new() -> concurrent.futures.Executor:
        context = multiprocessing.get_context("forkserver")
        return concurrent.futures.ProcessPoolExecutor(1, mp_context=context)

    async with FuturesExecutor(new, max_workers=1) as executor:
        yield executor


@pytest.mark.slow
async def test_kill_before_the_function_starts(pool: FuturesExecutor, tmp_path: Path) -> None:
    """The function has done nothing; the next call works."""
    path = str(tmp_path / "mark")
    with pytest.raises(WorkerCrashed):
        await pool.run(kill_worker(mark, when="before"), path)
    assert not Path(path).exists()
    assert await pool.run(mark, path) == path


@pytest.mark.slow
async def test_kill_during_the_function(pool: FuturesExecutor, tmp_path: Path) -> None:
    """The function has begun and would never have ended."""
    path = str(tmp_path / "mark")
    with pytest.raises(WorkerCrashed):
        await pool.run(kill_worker(mark_and_spin, when="during"), path)
    assert Path(path).exists()


@pytest.mark.slow
async def test_kill_during_a_short_function_hits_its_own_call(pool: FuturesExecutor) -> None:
    """A call that is over before the fault strikes waits for it; the next one is not hit."""
    with pytest.raises(WorkerCrashed):
        await pool.run(kill_worker(os.getpid, when="during", delay=0.2))
    assert [await pool.run(abs, -each) for each in range(3)] == [0, 1, 2]


@pytest.mark.slow
async def test_kill_after_the_function(pool: FuturesExecutor, tmp_path: Path) -> None:
    """The work is done and its result is lost."""
    path = str(tmp_path / "mark")
    with pytest.raises(WorkerCrashed):
        await pool.run(kill_worker(mark, when="after"), path)
    assert Path(path).exists()


@pytest.mark.slow
async def test_later_attempts_may_succeed(pool: FuturesExecutor) -> None:
    """A fault of the first attempts only, for tests of `retries`."""
    once = kill_worker(abs, when="before", attempts=1)
    assert await pool.options(retries=1).run(once, -3) == 3
    with pytest.raises(WorkerCrashed) as caught:
        await pool.run(once, -3)
    assert caught.value.attempt == 1


@pytest.mark.slow
async def test_a_worker_that_hangs_keeps_its_result(pool: FuturesExecutor, tmp_path: Path) -> None:
    """The function has returned, and no answer comes."""
    path = str(tmp_path / "mark")
    call = asyncio.create_task(
        pool.options(on_cancel="abandon").run(hang_worker(mark, when="after"), path)
    )
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(call), 0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await pool.aclose(cancel=True, timeout=0)


async def test_a_fault_refuses_the_process_that_made_it() -> None:
    """On threads, or called directly, it would end the test run."""
    async with ThreadExecutor(1) as threads:
        with pytest.raises(RuntimeError, match="would strike the process that made it"):
            await threads.run(kill_worker(mark, when="before"), "x")
    with pytest.raises(RuntimeError, match="would strike"):
        hang_worker(time.sleep)(0)


def test_faults_pickle_and_carry_the_name() -> None:
    """They travel as the function does, and errors name the function."""
    fault = pickle.loads(pickle.dumps(kill_worker(mark, when="after", signal=signal.SIGTERM)))
    assert fault.__name__ == "mark"


def test_bad_arguments_are_refused() -> None:
    """Before anything is sent to a worker."""
    with pytest.raises(ValueError, match="when must be one of 'before', 'during', 'after'"):
        kill_worker(mark, when="later")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attempts must be an int >= 1, got 0"):
        kill_worker(mark, attempts=0)
    with pytest.raises(ValueError, match="when must be one of 'before', 'after'"):
        hang_worker(mark, when="during")  # type: ignore[arg-type]
