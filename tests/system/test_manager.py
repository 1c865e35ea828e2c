"""Shared objects in worker processes: the same object everywhere, told when a process or call ends."""

import asyncio
import functools
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aioconc.channels import Manager, open_manager
from aioconc.channels._manager import _shared
from aioconc.errors import ManagerClosed, OwnerDied, WorkerCrashed
from aioconc.executors import ProcessExecutor
from tests.system import manager_work as work
from tests.system.process_tools import pids, until

pytestmark = pytest.mark.slow


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    async with open_manager() as found:
        yield found


@pytest.fixture
async def pool() -> AsyncIterator[ProcessExecutor]:
    async with ProcessExecutor(2) as found:
        yield found


async def set_of(event: Any) -> None:
    """Wait until a worker has set it."""
    async with asyncio.timeout(20):
        await event.wait()


async def died(lock: Any) -> OwnerDied:
    """What is told of the lock, within a second."""
    async with asyncio.timeout(5):
        with pytest.raises(OwnerDied) as caught:
            await lock.acquire()
    return caught.value


# ------------------------------------------------------------------ sharing


async def test_processes_and_tasks_exclude_each_other(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """Plain functions and coroutine functions in workers, and tasks and threads beside them."""
    lock, table = manager.Lock(), manager.dict({"n": 0})
    await asyncio.gather(
        *(pool.run(work.count, lock, table, 20) for _ in range(3)),
        *(pool.run(work.count_async, lock, table, 20) for _ in range(3)),
        work.count_async(lock, table, 20),
        asyncio.to_thread(work.count, lock, table, 20),
    )
    assert await table["n"] == 8 * 20


async def test_a_process_has_one_connection_however_many_objects_it_gets(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """The same object again is equal; the connections that are not needed are closed."""
    lock, event = manager.Lock(), manager.Event()
    for _ in range(5):
        assert await pool.run(work.same, lock, lock) == (True, 1)
        assert await pool.run(work.same, lock, event) == (False, 1)
    await until(lambda: len(manager._client.server.lines) <= 2)


async def test_calls_that_never_begin_leave_no_connection(manager: Manager) -> None:
    """They were pickled, and cancelled while they waited for a worker."""
    lock, event = manager.Lock(), manager.Event()
    async with ProcessExecutor(1) as pool:
        running = asyncio.create_task(pool.run(work.wait_for, event))
        while not (await event.statistics()).waiting:
            await asyncio.sleep(0.002)
        waiting = [asyncio.create_task(pool.run(work.same, lock)) for _ in range(20)]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        event.set()
        assert await running
        await until(lambda: len(manager._client.server.lines) == 1)
    await until(lambda: not manager._client.server.lines)


async def test_an_object_that_comes_home_is_the_one_that_went_out(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """A result that is a shared object belongs to the manager of this process."""
    lock = manager.Lock()
    again = await pool.run(work.give_back, lock)
    assert again == lock and again._client is lock._client
    async with lock:
        assert await again.locked()


async def test_a_worker_hands_objects_on_to_a_process_of_its_own(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """Which has a connection of its own, and is a party of its own."""
    lock, table = manager.Lock(), manager.dict()
    assert await pool.run(work.hand_on, lock, table) == 0
    assert await table["n"] == 3


async def test_objects_travel_in_arguments_of_every_kind(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """In containers, partial functions, map items and closures."""
    lock, table = manager.Lock(), manager.dict({"n": 0})
    assert await pool.map(functools.partial(work.count, lock, table), [1, 2, 3])
    assert await pool.run(lambda: work.count(lock, table, 1))
    assert await pool.run(lambda both: work.count(*both, 1), [lock, table])
    assert await table["n"] == 8


async def test_a_process_of_multiprocessing_that_is_killed_is_told_of(manager: Manager) -> None:
    """With its exit status, while this process still has the object that stands for it."""
    lock, held = manager.Lock(), manager.Event()
    process = multiprocessing.get_context("spawn").Process(target=work.hold, args=(lock, held))
    process.start()
    await set_of(held)
    process.kill()
    error = await died(lock)
    assert (error.pid, error.exitcode) == (process.pid, -signal.SIGKILL)
    await until(lambda: not manager._client.server.lines)
    await asyncio.to_thread(process.join)


def test_processes_of_multiprocessing_take_part() -> None:
    """Started by spawn, with objects as arguments."""

    async def main(context: Any) -> int:
        async with open_manager() as manager:
            lock, table = manager.Lock(), manager.dict({"n": 0})
            processes = [
                context.Process(target=work.count, args=(lock, table, 10)) for _ in range(2)
            ]
            for process in processes:
                process.start()
            for process in processes:
                await asyncio.to_thread(process.join)
                assert process.exitcode == 0
            found: int = await table["n"]
            return found

    assert asyncio.run(main(multiprocessing.get_context("spawn"))) == 20


async def test_what_a_process_said_last_is_heard(manager: Manager) -> None:
    """Also if the manager was slow to listen, and the process had nothing more to do."""
    lock, event = manager.Lock(), manager.Event()
    process = multiprocessing.get_context("spawn").Process(
        target=work.talk_and_end, args=(lock, event)
    )
    process.start()
    async with asyncio.timeout(20):
        while not await lock.locked():
            await asyncio.sleep(0.001)
        time.sleep(0.3)  # the loop is held, so the socket fills
        while await lock.locked():
            await asyncio.sleep(0.001)
    async with lock:
        pass
    await asyncio.to_thread(process.join)
    assert process.exitcode == 0


async def test_a_forked_child_is_refused_and_keeps_nothing_open(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """Its copies of the descriptors are closed, so that the end of the parent is still heard."""
    lock, ready = manager.Lock(), manager.Event()
    waits = asyncio.ensure_future(pool.run(work.wait_for, ready))
    while not (await ready.statistics()).waiting:
        await asyncio.sleep(0.002)
    (line,) = manager._client.server.lines
    fd = line._fd
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for use in (lock.release, lock.sync.acquire, manager.Lock, lock.__reduce__):
                try:
                    use()
                except RuntimeError as error:
                    status = 0 if "forked process" in str(error) else 2
                if status:
                    break
            try:
                os.fstat(fd)
                status = 3
            except OSError:
                pass
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    ready.set()
    assert await waits


# ------------------------------------------------------------------ deaths of workers


async def test_a_cancelled_call_is_killed_and_what_it_held_is_told(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """The worker of the call is dead, so the lock is not taken for good."""
    lock, held = manager.Lock(), manager.Event()
    call = asyncio.ensure_future(pool.run(work.hold, lock, held))
    await set_of(held)
    waits = asyncio.ensure_future(died(lock))
    call.cancel()
    error = await waits
    assert error.pid is not None and error.pid not in pids(pool)
    async with lock.recover() as told:
        assert isinstance(told, OwnerDied) and told.pid == error.pid
    async with lock:
        pass


async def test_a_crash_is_told_with_the_process(manager: Manager, pool: ProcessExecutor) -> None:
    """Also a clean exit: nobody else will release it."""
    for code in (3, 0):
        lock = manager.Lock()
        with pytest.raises(WorkerCrashed) as crash:
            await pool.run(work.hold_and_exit, lock, code)
        assert (await died(lock)).pid == crash.value.pid


async def test_a_call_that_returns_with_a_lock_has_ended_like_one_that_dies(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """The worker lives on and runs other calls, so nobody else would release it."""
    lock, permits = manager.Lock(), manager.BoundedSemaphore(1)
    await pool.run(work.hold, lock)
    error = await died(lock)
    assert "a call of hold in process" in str(error) and error.exitcode is None
    await pool.run(work.hold, permits)
    async with asyncio.timeout(5), permits:
        pass
    assert len(pids(pool)) == 1
    again = manager.Lock(on_owner_death="release")
    await pool.run(work.hold, again)
    async with asyncio.timeout(5), again:
        pass


@pytest.mark.parametrize("holder", [work.hold, work.hold_async])
async def test_others_go_on_when_the_holder_is_killed(
    manager: Manager, pool: ProcessExecutor, holder: Any
) -> None:
    """With SIGKILL, in plain code and in coroutines."""
    lock, held = manager.Lock(on_owner_death="release"), manager.Event()
    call = asyncio.ensure_future(pool.run(holder, lock, held))
    await set_of(held)
    table = manager.dict({"n": 0})
    waits = asyncio.ensure_future(pool.run(work.count, lock, table, 1))
    while not (await lock.statistics()).waiting:
        await asyncio.sleep(0.002)
    (pid,) = {int((await lock.statistics()).owner.split()[1])}  # type: ignore[union-attr]
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        await waits
    with pytest.raises(WorkerCrashed):
        await call


async def test_join_tells_of_an_item_that_died_with_its_worker(
    manager: Manager, pool: ProcessExecutor
) -> None:
    """It was taken and not done: it is lost, and that is said."""
    items, taken = manager.Queue(), manager.Event()
    await items.put_many(range(5))
    call = asyncio.ensure_future(pool.run(work.get_and_hang, items, taken))
    await set_of(taken)
    others = asyncio.ensure_future(pool.run(work.consume, items))
    while (await items.statistics()).unfinished > 1:
        await asyncio.sleep(0.002)
    call.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(OwnerDied, match="with 1 item of this queue that was not done"):
            await items.join()
    items.shutdown()
    assert await others == [1, 2, 3, 4]


# ------------------------------------------------------------------ the end of the manager


async def test_workers_that_wait_hear_of_the_end_of_the_manager(pool: ProcessExecutor) -> None:
    """And the pool goes on; what they had of it is closed when they meet the next one."""
    for waits in (work.wait_for, work.wait_for_async):
        async with open_manager() as manager:
            event = manager.Event()
            call = asyncio.ensure_future(pool.run(waits, event))
            while not (await event.statistics()).waiting:
                await asyncio.sleep(0.002)
        with pytest.raises(ManagerClosed):
            await call
    async with open_manager() as manager:
        assert await pool.run(work.same, manager.Lock()) == (True, 1)
        assert await pool.run(work.same, manager.Lock()) == (True, 1)
    assert not any(client.is_closed for client in _shared._clients.values())


async def test_a_manager_of_another_loop_serves_the_same_workers(pool: ProcessExecutor) -> None:
    """One after the other, in loops of their own."""

    async def main() -> int:
        async with open_manager() as manager, ProcessExecutor(1) as own:
            table = manager.dict({"n": 0})
            await own.run(work.count_async, manager.Lock(), table, 2)
            found: int = await table["n"]
            return found

    assert await asyncio.to_thread(asyncio.run, main()) == 2
    assert await asyncio.to_thread(asyncio.run, main()) == 2
