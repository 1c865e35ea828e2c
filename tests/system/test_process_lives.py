"""Births and deaths of worker processes: starts that fail, spares, limits, and who notices the end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aioconc._internal import _hooks
from aioconc.errors import ExecutorClosed, WorkerCrashed
from aioconc.executors import ProcessExecutor
from aioconc.executors.process import _launch
from tests.contracts import executor_work as work
from tests.system.process_tools import (
    STARTS,
    executor_started_by,
    idle,
    is_dead,
    kill,
    pids,
    until,
)

pytestmark = pytest.mark.slow

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(autouse=True, params=STARTS)
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test is run for each way of starting workers."""
    if request.param == "forkserver" and "uvloop" in request.node.name:
        pytest.skip("the loop that starts workers is the same")
    monkeypatch.setattr(request.module, "ProcessExecutor", executor_started_by(request.param))
    return str(request.param)


def fail_to_start(text: str) -> None:
    raise ValueError(text)


def die_at_start() -> None:
    os._exit(9)


def start_slowly(mark: str) -> None:
    Path(mark).touch()
    time.sleep(60)


# -- starting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 5])
async def test_a_failing_initializer_is_reported_and_not_tried_for_ever(calls: int) -> None:
    """Every waiting call gets the worker's traceback; few processes were started for it."""
    started = []
    end = _hooks.subscribe(lambda name, _: started.append(name) if "started" in name else None)
    async with ProcessExecutor(2, initializer=fail_to_start, initargs=("of mine",)) as pool:
        failures = await asyncio.gather(
            *(pool.run(work.add, each) for each in range(calls)), return_exceptions=True
        )
        for failure in failures:
            assert isinstance(failure, WorkerCrashed)
            assert "of mine" in str(failure)
            assert "fail_to_start" in str(failure)
        assert pool.statistics().failed == calls
    end()
    # Three for those that wait, and as many again for each batch that then gets its turn.
    assert len(started) <= 3 * calls + 2


async def test_an_initializer_that_dies_is_reported() -> None:
    """A worker that ends before it is ready fails the call with its exit status."""
    async with ProcessExecutor(1, initializer=die_at_start) as pool:
        with pytest.raises(WorkerCrashed, match="no worker could be started") as caught:
            await pool.run(work.add, 1)
        assert caught.value.exitcode == 9


async def test_an_interpreter_that_is_missing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own error is the cause; with the interpreter back the same pool works."""
    async with ProcessExecutor(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere/python")
            with pytest.raises(WorkerCrashed, match="/nowhere/python") as caught:
                await pool.run(work.add, 1)
            assert isinstance(caught.value.__cause__, FileNotFoundError)
        assert await pool.run(work.add, 1, 1) == 2


@LINUX
async def test_no_descriptor_left_for_a_worker_is_an_error_of_the_call() -> None:
    """At the limit of descriptors no worker can be made, nothing leaks, and later one can."""
    import resource

    async with ProcessExecutor(1) as pool:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = len(list(Path("/proc/self/fd").iterdir()))
        await pool.run(work.add, 1)  # the service and the life pipe exist from here on
        kill(*pids(pool))
        await until(lambda: not pool.statistics().workers)
        used = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
        holes = []
        try:
            with pytest.raises(OSError):
                while True:
                    holes.append(os.open(os.devnull, os.O_RDONLY))
            os.close(holes.pop())
            with pytest.raises(WorkerCrashed, match="Too many open files"):
                await pool.run(work.add, 1)
        finally:
            for fd in holes:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await pool.run(work.add, 1, 1) == 2
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 12


async def test_large_arguments_of_an_initializer_that_never_reads_them_hold_up_nobody() -> None:
    """A worker that dies at once leaves megabytes unread; other pools start workers meanwhile."""
    async with (
        ProcessExecutor(1, env={"PYTHONHOME": "/nowhere"}) as broken,
        ProcessExecutor(1) as pool,
    ):
        broken._processes.recipe = _launch.Recipe("x", b"x" * 5_000_000, {"PYTHONHOME": "/nowhere"})
        failing = asyncio.ensure_future(broken.run(work.add, 1))
        assert await asyncio.wait_for(pool.run(work.add, 1, 1), 20) == 2
        with pytest.raises(WorkerCrashed):
            await asyncio.wait_for(failing, 20)


async def test_a_worker_killed_while_it_starts_is_replaced(tmp_path: Path) -> None:
    """The call has not begun, so it costs it nothing."""
    mark = str(tmp_path / "mark")
    async with ProcessExecutor(1, initializer=wait_the_first_time, initargs=(mark,)) as pool:
        call = asyncio.ensure_future(pool.run(work.add, 1, 1))
        await until(Path(mark).exists)
        kill(*pids(pool))
        assert await call == 2


def wait_the_first_time(mark: str) -> None:
    if not Path(mark).exists():
        start_slowly(mark)


async def test_closing_does_not_wait_for_a_worker_that_starts(tmp_path: Path) -> None:
    """Nobody needs it any more: it is killed."""
    mark = str(tmp_path / "mark")
    pool = ProcessExecutor(1, initializer=start_slowly, initargs=(mark,))
    call = asyncio.ensure_future(pool.run(work.add, 1))
    await until(Path(mark).exists)
    call.cancel()
    await asyncio.wait([call])
    async with asyncio.timeout(5):
        await pool.aclose()
    assert not pool.statistics().workers


async def test_closing_with_cancel_refuses_what_waits_for_a_worker(tmp_path: Path) -> None:
    """A call that has a slot and no worker yet has not started, and is told so."""
    mark = str(tmp_path / "mark")
    pool = ProcessExecutor(1, initializer=start_slowly, initargs=(mark,))
    call = asyncio.ensure_future(pool.run(work.add, 1))
    await until(Path(mark).exists)
    await pool.aclose(cancel=True)
    with pytest.raises(ExecutorClosed, match="before add started"):
        await call


# -- what a worker finds -------------------------------------------------------------------------


def what_it_finds() -> dict[str, Any]:
    return {
        "path": sys.path,
        "prefix": sys.prefix,
        "argv": sys.argv,
        "cwd": str(Path.cwd()),
        "sigint": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "blocked": signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "mine": os.environ.get("MINE"),
        "stdin": sys.stdin.read(),
        "depth": os.environ[_launch.DEPTH_VARIABLE],
    }


async def test_a_worker_finds_what_the_program_has() -> None:
    """Path, prefix, arguments and folder are those of the program; input is empty."""
    async with ProcessExecutor(2, env={"MINE": "yes"}, blas_threads=3) as pool:
        found = await pool.run(what_it_finds)
    assert found["path"] == [each or str(Path.cwd()) for each in sys.path]
    assert (found["prefix"], found["argv"], found["cwd"]) == (sys.prefix, sys.argv, str(Path.cwd()))
    assert (found["sigint"], found["blocked"], found["stdin"]) == (True, False, "")
    expected = os.environ.get("OMP_NUM_THREADS", "3")
    assert (found["omp"], found["mine"], found["depth"]) == (expected, "yes", "1")


def nest(depth: int) -> str:
    pool = ProcessExecutor()
    with pool:
        if depth == 0:
            return f"{pool.max_workers} at most"
        return pool.futures.submit(nest, depth - 1).result()


async def test_pools_nest_to_a_depth_and_no_further() -> None:
    """A worker may have one worker of its own by default, and that one none."""
    async with ProcessExecutor(1) as pool:
        assert await pool.run(nest, 0) == "1 at most"
        with pytest.raises(RuntimeError, match="2 levels deep"):
            await pool.run(nest, 1)


@LINUX
async def test_processes_that_a_call_starts_hold_nothing_of_the_worker() -> None:
    """The worker's own descriptors are not inherited, also by what inherits all it can."""
    async with ProcessExecutor(1) as pool:
        listed = await pool.run(list_descriptors_of_a_child)
    assert not [each for each in listed.split() if "socket" in each or "memfd" in each]


def list_descriptors_of_a_child() -> str:
    return subprocess.run(
        ["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True
    ).stdout


# -- replacement, spares, shrinking ----------------------------------------------------------------


async def test_a_spare_takes_over_from_a_killed_worker(start: str) -> None:
    """The next call does not wait for a start: the process that runs it was there before."""
    async with ProcessExecutor(1, spares=1) as pool:
        await pool.run(work.add, 1)
        await until(lambda: idle(pool) == 2)
        ready = pids(pool)
        call = asyncio.ensure_future(pool.run(time.sleep, 60))
        await until(lambda: idle(pool) == 1)
        call.cancel()
        await asyncio.wait([call])
        ran = await pool.run(os.getpid)
        if start == "exec":  # one that is forked may have come in the meantime
            assert ran in ready
        await until(lambda: idle(pool) == 2)


async def test_idle_workers_end_and_come_back() -> None:
    """After `idle_timeout` none is left; the next call starts one."""
    async with ProcessExecutor(2, idle_timeout=0.1) as pool:
        await asyncio.gather(*(pool.run(time.sleep, 0.1) for _ in range(2)))
        dead = pids(pool)
        await until(lambda: not pool.statistics().workers)
        assert all(map(is_dead, dead))
        assert await pool.run(work.add, 1, 1) == 2


async def test_a_worker_is_replaced_after_so_many_calls() -> None:
    """Each process runs as many as it may, and none is lost in the change."""
    async with ProcessExecutor(1, max_tasks_per_worker=3) as pool:
        ran = await asyncio.gather(*(pool.run(os.getpid) for _ in range(9)))
    assert [ran.count(pid) for pid in dict.fromkeys(ran)] == [3, 3, 3]


@LINUX
async def test_a_worker_that_has_grown_is_replaced() -> None:
    """Beyond the limit it ends after its call; below it, it stays."""
    async with ProcessExecutor(1, memory_limit=150_000_000) as pool:
        small = await pool.run(os.getpid)
        assert await pool.run(os.getpid) == small
        assert await pool.run(grow, 200_000_000) == small
        assert await pool.run(os.getpid) != small


KEPT = []


def grow(size: int) -> int:
    KEPT.append(b"x" * size)
    return os.getpid()


# -- death ---------------------------------------------------------------------------------------


async def test_an_idle_worker_that_dies_costs_no_call() -> None:
    """Also in the very moment in which it is given one: what has not begun goes to another."""
    async with ProcessExecutor(1) as pool:
        for _ in range(10):
            pid = await pool.run(os.getpid)
            kill(pid)
            assert await pool.run(work.add, 1, 1) == 2
        assert pool.statistics().failed == 0


async def test_a_stopped_worker_that_never_read_its_call_loses_none() -> None:
    """It was stopped while idle, given a call, and killed: the call runs elsewhere."""
    async with ProcessExecutor(1) as pool:
        pid = await pool.run(os.getpid)
        kill(pid, signal.SIGSTOP)
        call = asyncio.ensure_future(pool.run(os.getpid))
        await until(lambda: pool.statistics().busy == 1 and not idle(pool))
        kill(pid)
        assert await call != pid


async def test_a_stopped_worker_can_be_killed() -> None:
    """A time-out ends also a call whose process does nothing at all."""
    async with ProcessExecutor(1) as pool:
        pid = await pool.run(os.getpid)
        kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await pool.options(timeout=0.05).run(work.add, 1)
        assert await pool.run(work.add, 1, 1) == 2


async def test_a_stopped_idle_worker_does_not_hold_up_closing() -> None:
    """It cannot say goodbye, and is killed after a while."""
    pool = ProcessExecutor(1)
    kill(await pool.run(os.getpid), signal.SIGSTOP)
    async with asyncio.timeout(10):
        await pool.aclose()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="else only the socket's end tells")
async def test_a_grandchild_that_holds_the_socket_hides_no_death() -> None:
    """The process is what counts, not its socket."""
    async with ProcessExecutor(1) as pool:
        with pytest.raises(WorkerCrashed) as caught:
            await asyncio.wait_for(pool.run(fork_for_a_while), 10)
        assert caught.value.exitcode == 5
        assert await pool.run(work.add, 1, 1) == 2


def fork_for_a_while() -> None:
    if not os.fork():
        time.sleep(3)
        os._exit(0)
    os._exit(5)


def close_everything() -> None:
    os.closerange(3, 100)
    time.sleep(60)


async def test_a_worker_that_closes_its_socket_and_lives_on_is_a_crash() -> None:
    """Nothing can be heard of it any more, so it is ended and its call fails."""
    async with ProcessExecutor(1) as pool:
        with pytest.raises(WorkerCrashed):
            await asyncio.wait_for(pool.run(close_everything), 10)
        assert await pool.run(work.add, 1, 1) == 2


async def test_a_killed_worker_names_its_signal_and_a_fault_its_traceback() -> None:
    """A crash says which signal it was; a segmentation fault also where it was."""
    async with ProcessExecutor(1) as pool:
        with pytest.raises(WorkerCrashed, match="SIGABRT") as caught:
            await pool.run(os.abort)
        assert caught.value.signal == signal.SIGABRT
        assert "Fatal Python error" in caught.value.stderr_tail
        assert not caught.value.oom_suspected


async def test_an_exit_status_that_somebody_else_took_is_unknown(start: str) -> None:
    """A program that waits for all its children hides how a worker ended, not that it did."""
    if start == "forkserver":
        pytest.skip("its workers are no children of this process")
    async with ProcessExecutor(1) as pool:
        pid = await pool.run(os.getpid)
        call = asyncio.ensure_future(pool.run(time.sleep, 60))
        await until(lambda: not idle(pool))
        worker = next(iter(pool._processes.workers))
        with worker.process._lock:  # so that the service comes second
            kill(pid)
            os.waitpid(pid, 0)
        with pytest.raises(WorkerCrashed, match="somebody else") as caught:
            await call
        assert caught.value.exitcode is None
