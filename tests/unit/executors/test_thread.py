"""ThreadExecutor: when threads start, are reused, replaced and end."""

import asyncio
import threading

import pytest

from aioconc import worker
from aioconc.executors import ThreadExecutor, _thread


async def test_threads_start_on_demand_and_are_reused() -> None:
    """Calls one after another use one thread."""
    async with ThreadExecutor(4) as pool:
        assert pool.statistics().workers == 0
        idents = {await pool.run(threading.get_ident) for _ in range(5)}
        assert len(idents) == 1
        assert pool.statistics().workers == 1
    assert pool.statistics().workers == 0


async def test_an_abandoned_thread_is_replaced() -> None:
    """With its only thread abandoned, the pool still runs calls; the late thread then ends."""
    release = threading.Event()
    started = threading.Event()

    def hold() -> None:
        started.set()
        release.wait()

    async with ThreadExecutor(1) as pool:
        call = asyncio.ensure_future(pool.options(on_cancel="abandon").run(hold))
        queued = asyncio.ensure_future(pool.run(pow, 2, 3))
        await asyncio.sleep(0)
        while not started.is_set():
            await asyncio.sleep(0.001)
        call.cancel()
        assert await queued == 8
        assert pool.statistics().abandoned == 1
        assert pool.statistics().workers == 2
        release.set()
        while pool.statistics().workers > 1:
            await asyncio.sleep(0.001)
        assert await pool.run(pow, 2, 4) == 16


async def test_an_idle_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without work the pool holds no thread, and still works."""
    monkeypatch.setattr(_thread, "_IDLE", 0.005)
    async with ThreadExecutor(2) as pool:
        for _ in range(3):
            assert await pool.run(pow, 2, 2) == 4
            while pool.statistics().workers:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (True, TypeError), (1.5, TypeError)])
def test_max_workers_is_checked(value: int, kind: type[Exception]) -> None:
    """An int >= 1 and nothing else."""
    with pytest.raises(kind, match="max_workers must be an int >= 1"):
        ThreadExecutor(value)


def test_worker_functions_outside_a_call_say_so() -> None:
    """In a thread that no executor runs there is nobody to report to."""
    for call in (worker.check_cancelled, worker.info, lambda: worker.report(1)):
        with pytest.raises(RuntimeError, match="outside a call of an executor"):
            call()
