"""Workers belong to no loop: they are taken from loop to loop, and survive the end of each."""

import asyncio
import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from aioconc.executors import ProcessExecutor
from tests.contracts import executor_work as work
from tests.system.process_tools import idle, is_dead, kill, pids, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def pool() -> Iterator[ProcessExecutor]:
    """At most one worker, so that every loop needs the same one."""
    executor = ProcessExecutor(1)
    yield executor
    executor.close(cancel=True)


async def pid_of(pool: ProcessExecutor) -> int:
    import os

    return await pool.run(os.getpid)


def test_one_worker_serves_loop_after_loop(pool: ProcessExecutor) -> None:
    """Each `asyncio.run` closes its loop, and the next finds the same process."""
    assert len({asyncio.run(pid_of(pool)) for _ in range(4)}) == 1


def test_a_worker_is_taken_from_a_loop_that_stands_still(pool: ProcessExecutor) -> None:
    """A loop that is not closed but does not run cannot hand anything over, and need not."""
    with asyncio.Runner() as standing:
        pid = standing.run(pid_of(pool))
        assert asyncio.run(pid_of(pool)) == pid
        assert pool.futures.submit(len, "abc").result() == 3
        assert standing.run(pid_of(pool)) == pid
        assert asyncio.run(pid_of(pool)) == pid
    assert asyncio.run(pid_of(pool)) == pid


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_worker_that_cannot_be_taken_along_costs_no_call(pool: ProcessExecutor) -> None:
    """Two loops need two descriptors; without one for the copy the worker is replaced."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with asyncio.Runner() as standing, asyncio.Runner() as other:
        pid = standing.run(pid_of(pool))
        other.get_loop()

        async def move() -> int:
            used = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
            holes = []
            try:
                with pytest.raises(OSError):
                    while True:
                        holes.append(os.dup(0))
                call = asyncio.ensure_future(pid_of(pool))
                await asyncio.sleep(0)
            finally:
                for fd in holes:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            return await call

        assert other.run(move()) != pid
        assert standing.run(pid_of(pool)) != pid
    assert pids(pool) != [pid]


def test_a_worker_keeps_no_loop_alive(pool: ProcessExecutor) -> None:
    """A loop that was dropped without being closed is collected, and its worker serves on."""
    loop = asyncio.new_event_loop()
    pid = loop.run_until_complete(pid_of(pool))
    ref = weakref.ref(loop)
    del loop
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert ref() is None
    assert asyncio.run(pid_of(pool)) == pid


def test_a_call_whose_loop_was_closed_keeps_no_slot(pool: ProcessExecutor, tmp_path: Path) -> None:
    """Its worker is killed, since nobody can be told any more, and the next call runs."""
    gate = str(tmp_path / "a")
    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.run(work.hold, gate))
    while not Path(gate + ".started").exists():
        loop.run_until_complete(asyncio.sleep(0.002))
    (pid,) = pids(pool)
    loop.close()
    assert asyncio.run(pool.run(work.add, 1, 1)) == 2
    assert is_dead(pid)
    now = pool.statistics()
    assert (now.busy, now.queued) == (0, 0)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was closed on purpose


def test_an_abandoned_call_outlives_its_loop(pool: ProcessExecutor, tmp_path: Path) -> None:
    """It runs on to its end, and frees its worker then."""
    gate = str(tmp_path / "a")

    async def leave() -> None:
        call = asyncio.ensure_future(pool.options(on_cancel="abandon").run(work.hold, gate))
        while not Path(gate + ".started").exists():
            await asyncio.sleep(0.002)
        call.cancel()
        await asyncio.wait([call])

    asyncio.run(leave())
    assert pool.statistics().abandoned == 1
    Path(gate + ".go").touch()
    wait_until(lambda: not pool.statistics().abandoned)
    assert Path(gate + ".ended").exists()
    assert asyncio.run(pool.run(work.add, 1, 1)) == 2


def test_a_call_that_waits_when_its_loop_is_closed_is_forgotten(
    pool: ProcessExecutor, tmp_path: Path
) -> None:
    """A queued call of a closed loop is not run, and does not hold up the others."""
    gate = str(tmp_path / "a")
    mark = tmp_path / "mark"
    first = pool.futures.submit(work.hold, gate)
    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.run(work.touch, str(mark)))
    loop.run_until_complete(asyncio.sleep(0))
    wait_until(lambda: pool.statistics().queued == 1)
    loop.close()
    Path(gate + ".go").touch()
    assert first.result(20) == gate
    assert asyncio.run(pool.run(work.add, 1, 1)) == 2
    assert not mark.exists()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was closed on purpose


def test_an_idle_worker_that_died_with_a_closed_loop_costs_nothing(pool: ProcessExecutor) -> None:
    """The service sees it die, whatever became of the loop."""
    pid = asyncio.run(pid_of(pool))
    kill(pid)
    wait_until(lambda: is_dead(pid) and not pool.statistics().workers)
    assert asyncio.run(pool.run(work.add, 1, 1)) == 2


def test_loops_in_several_threads_share_the_workers() -> None:
    """Two workers, three loops and the futures face: all calls end rightly, no worker is lost."""
    with ProcessExecutor(2) as pool:

        async def calls(base: int) -> list[int]:
            return await asyncio.gather(*(pool.run(work.add, base, each) for each in range(40)))

        def loops(base: int) -> None:
            for turn in range(5):
                found = asyncio.run(calls(base + turn))
                results.append(found == [base + turn + each for each in range(40)])

        results: list[bool] = []
        threads = [threading.Thread(target=loops, args=(1000 * each,)) for each in range(3)]
        for thread in threads:
            thread.start()
        futures = [pool.futures.submit(work.add, each, 1) for each in range(200)]
        for thread in threads:
            thread.join()
        assert [each.result() for each in futures] == [each + 1 for each in range(200)]
        assert results == [True] * 15
        assert idle(pool) == len(pids(pool)) <= 2
        now = pool.statistics()
        assert (now.completed, now.failed, now.busy) == (800, 0, 0)
