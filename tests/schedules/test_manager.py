"""Explored orders, and cancels at every await, of shared objects: here and over a connection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aioconc.channels import Manager, open_manager
from aioconc.channels._manager._remote_client import RemoteClient
from aioconc.testing import cancel_everywhere, explore

HELD: dict[str, Callable[[Manager], Any]] = {
    "Lock": lambda manager: manager.Lock(),
    "RLock": lambda manager: manager.RLock(),
    "Semaphore": lambda manager: manager.Semaphore(1),
    "BoundedSemaphore": lambda manager: manager.BoundedSemaphore(1),
    "Condition": lambda manager: manager.Condition(),
}
QUEUES: dict[str, Callable[[Manager, int], Any]] = {
    "Queue": lambda manager, maxsize: manager.Queue(maxsize),
    "LifoQueue": lambda manager, maxsize: manager.LifoQueue(maxsize),
    "PriorityQueue": lambda manager, maxsize: manager.PriorityQueue(maxsize),
}
SCOPES = ["own", "socket"]

There = Callable[[Any], Any]


@asynccontextmanager
async def managed(scope: str) -> AsyncIterator[tuple[Manager, There]]:
    """A manager, and what gives an object as another process has it, in this loop all the same."""
    async with open_manager() as manager:
        if scope == "own":
            yield manager, lambda shared: shared
            return
        client = RemoteClient(manager._client.new_end(), manager._client.token)
        try:
            yield manager, lambda shared: type(shared)(client, shared._number, *shared._options())
        finally:
            with client._mutex:
                woken = client._close()
            client._wake(woken)


def cancel_at_all(program: Callable[[], Any]) -> None:
    """The program ends well by itself, and cancelled wherever it is cancelled."""
    asyncio.run(program())
    assert not cancel_everywhere(program).swallowed


async def settled(items: Any) -> None:
    """Until all that was said has arrived: nothing is on its way, and nobody waits."""
    async with asyncio.timeout(5):
        while True:
            counts = await items.statistics()
            if counts.used == counts.items and not counts.getters_waiting + counts.putters_waiting:
                return
            await asyncio.sleep(0.001)


async def free(shared: Any) -> None:
    """It can be taken: nobody has it, and nobody waits."""
    async with asyncio.timeout(5):
        await shared.acquire()
    shared.release()
    assert not (await shared.statistics()).waiting


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", HELD)
def test_nothing_is_lost_at_any_cancel_of_a_holder(name: str, scope: str) -> None:
    """Cancelled before, while and after it waits, also as the answer arrives: it is free again."""

    async def program() -> None:
        async with managed(scope) as (manager, there):
            shared = HELD[name](manager)
            try:

                async def hold() -> None:
                    async with shared:
                        await asyncio.sleep(0.01)

                async with asyncio.TaskGroup() as group:
                    group.create_task(hold())
                    await asyncio.sleep(0)
                    async with there(shared):
                        await asyncio.sleep(0.01)
            finally:
                await free(shared)

    cancel_at_all(program)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", QUEUES)
def test_nothing_is_lost_at_any_cancel_of_a_queue(name: str, scope: str) -> None:
    """What was sent is what was received and what is left, whoever is cancelled where."""

    async def program() -> None:
        async with managed(scope) as (manager, there):
            items = QUEUES[name](manager, 1)
            far = there(items)
            sent: list[int] = []
            received: list[int] = []
            try:

                async def send() -> None:
                    for number in range(3):
                        await far.put(number)
                        sent.append(number)

                async with asyncio.TaskGroup() as group:
                    group.create_task(send())
                    for _ in range(3):
                        received.append(await far.get())  # noqa: PERF401  # seen while it goes on
            finally:
                await settled(items)
                left = []
                while not await items.empty():
                    left.append(await items.get())
                assert sorted(received + left) == sorted(sent)

    cancel_at_all(program)


@pytest.mark.parametrize("scope", SCOPES)
def test_the_lock_is_held_after_any_cancel_of_a_condition(scope: str) -> None:
    """And the notification is for another, if the one that had it does not go on."""

    async def program() -> None:
        async with managed(scope) as (manager, there):
            condition = manager.Condition()
            far = there(condition)
            try:

                async def notify() -> None:
                    async with condition:
                        condition.notify_all()

                async with asyncio.TaskGroup() as group, far:
                    group.create_task(notify())
                    try:
                        await far.wait()
                    finally:
                        owner = (await condition.statistics()).owner
                        assert owner is not None
            finally:
                await free(condition)

    cancel_at_all(program)


@pytest.mark.parametrize("scope", SCOPES)
def test_nothing_hangs_at_any_cancel_of_the_others(scope: str) -> None:
    """Barriers, events, dicts, lists and `join`."""

    async def program() -> None:
        async with managed(scope) as (manager, there):
            barrier, event = manager.Barrier(2), manager.Event()
            items, table, found = manager.Queue(1), manager.dict(), manager.list()

            async def other() -> None:
                await there(barrier).wait()
                event.set()
                await there(items).put_many(range(3))

            async with asyncio.TaskGroup() as group:
                group.create_task(other())
                await barrier.wait()
                await there(event).wait()
                for number in range(3):
                    assert await items.get() == number
                    await there(table).update_item("n", lambda n: n + 1, default=0)
                    await there(found).append(number)
                    items.task_done()
                await there(items).join()
            assert (await table["n"], await found.copy()) == (3, [0, 1, 2])

    cancel_at_all(program)


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "Condition"])
def test_one_holder_in_any_order(name: str) -> None:
    """Tasks here and, as it were, in another process, some of which are cancelled."""

    async def program() -> None:
        async with managed("own") as (manager, _):
            shared, inside = HELD[name](manager), 0

            async def hold() -> None:
                nonlocal inside
                async with shared:
                    inside += 1
                    try:
                        assert inside == 1
                        await asyncio.sleep(0)
                    finally:
                        inside -= 1

            tasks = [asyncio.create_task(hold()) for _ in range(4)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            tasks[2].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await free(shared)

    explore(program, budget=60)


@pytest.mark.parametrize("name", QUEUES)
def test_items_are_conserved_in_any_order(name: str) -> None:
    """Two senders, two receivers, one of each cancelled."""

    async def program() -> None:
        async with managed("own") as (manager, _):
            items = QUEUES[name](manager, 1)
            sent: list[int] = []
            received: list[int] = []

            async def send(first: int) -> None:
                for number in (first, first + 1):
                    await items.put(number)
                    sent.append(number)

            async def receive() -> None:
                while True:
                    received.append(await items.get())

            tasks = [asyncio.create_task(send(0)), asyncio.create_task(send(10))]
            takers = [asyncio.create_task(receive()) for _ in range(2)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            takers[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            takers[1].cancel()
            await asyncio.gather(*takers, return_exceptions=True)
            while not await items.empty():
                received.append(await items.get())
            assert sorted(received) == sorted(sent)
            assert (await items.statistics()).used == 0

    explore(program, budget=60)
