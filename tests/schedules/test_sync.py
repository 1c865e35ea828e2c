"""Explored orders and cancels at every await of all that `aioconc.sync` has."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aioconc import sync
from aioconc.testing import cancel_everywhere, explore

Program = Callable[[], Awaitable[None]]

HELD: dict[str, tuple[Callable[[], Any], int]] = {
    "Lock": (sync.Lock, 1),
    "RLock": (sync.RLock, 1),
    "Semaphore": (lambda: sync.Semaphore(2), 2),
    "BoundedSemaphore": (lambda: sync.BoundedSemaphore(2), 2),
    "CapacityLimiter": (lambda: sync.CapacityLimiter(2), 2),
    "Condition": (sync.Condition, 1),
}
QUEUES: dict[str, Callable[[int], Any]] = {
    "Queue": sync.Queue,
    "LifoQueue": sync.LifoQueue,
    "PriorityQueue": sync.PriorityQueue,
}


def holders(name: str, *, cancels: bool) -> Program:
    """Never more holders than permits, whoever is cancelled when; at the end all are free."""
    make, permits = HELD[name]

    async def program() -> None:
        primitive, inside = make(), 0

        async def hold() -> None:
            nonlocal inside
            async with primitive:
                inside += 1
                try:
                    assert inside <= permits
                    await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(hold()) for _ in range(4)]

        async def cancel() -> None:
            await asyncio.sleep(0)
            tasks[1].cancel()
            tasks[2].cancel()

        if cancels:
            await cancel()
        await asyncio.gather(*tasks, return_exceptions=cancels)
        for _ in range(permits):
            if name == "CapacityLimiter":
                await primitive.acquire_on_behalf_of(object())
            else:
                await asyncio.create_task(primitive.acquire())

    return program


def queue_program(name: str) -> Program:
    """What was sent is what was received and what is left, and the bound holds."""

    async def program() -> None:
        items = QUEUES[name](1)
        sent: list[int] = []
        received: list[int] = []

        async def send(first: int) -> None:
            for number in range(first, first + 3):
                await items.put(number)
                sent.append(number)
                assert items.qsize() <= 1

        async def receive() -> None:
            async for item in items:
                received.append(item)
                await asyncio.sleep(0)

        senders = [asyncio.create_task(send(first)) for first in (0, 10)]
        receivers = [asyncio.create_task(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        senders[0].cancel()
        receivers[0].cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        items.shutdown()
        await asyncio.gather(*receivers, return_exceptions=True)
        left = [items.get_nowait() for _ in range(items.qsize())]
        assert sorted(received + left) == sorted(sent)

    return program


async def notifications() -> None:
    """Each notification wakes somebody who acts on it, though one waiter is cancelled."""
    condition, tickets, served = sync.Condition(), 0, 0

    async def customer() -> None:
        nonlocal tickets, served
        async with condition:
            await condition.wait_for(lambda: tickets)
            tickets -= 1
            served += 1

    customers = [asyncio.create_task(customer()) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(2):
        async with condition:
            tickets += 1
            condition.notify()
        customers[0].cancel()
    while served + sum(each.cancelled() for each in customers) < 3 and tickets:
        await asyncio.sleep(0)
    for each in customers:
        each.cancel()
    await asyncio.gather(*customers, return_exceptions=True)
    assert served + tickets == 2
    assert not tickets or all(each.done() for each in customers)


async def parties() -> None:
    """A party passes whole, with a number for each."""
    barrier = sync.Barrier(3)

    async def one() -> int:
        await asyncio.sleep(0)
        return await barrier.wait()

    leaver = asyncio.create_task(one())
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    for _ in range(2):
        assert sorted(await asyncio.gather(one(), one(), one())) == [0, 1, 2]


async def events() -> None:
    """All who wait go on."""
    event = sync.Event()
    waiters = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    event.set()
    event.clear()
    event.set()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert all(each.cancelled() or each.result() for each in waiters)


async def many() -> None:
    """Whole lists at once, and `join`."""
    items: sync.Queue[int] = sync.Queue(2)
    received: list[int] = []

    async def receive() -> None:
        while len(received) < 7:
            for item in await items.get_many(3):
                received.append(item)
                items.task_done()

    task = asyncio.create_task(receive())
    await items.put_many(range(7))
    await items.join()
    await task
    assert received == list(range(7))


PROGRAMS: dict[str, Program] = (
    {f"{name}, held": holders(name, cancels=False) for name in HELD}
    | {f"{name}, cancelled": holders(name, cancels=True) for name in HELD}
    | {name: queue_program(name) for name in QUEUES}
    | {each.__name__: each for each in (notifications, parties, events, many)}
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_promise_holds_in_every_explored_order(name: str) -> None:
    """Sixty orders each."""
    explore(PROGRAMS[name], budget=60)


# ------------------------------------------------------------------ cancels


def cancelled_holder(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A program that waits for what is held, and the look whether all is free after it."""
    make, permits = HELD[name]
    made: list[Any] = []

    async def program() -> None:
        primitive = make()
        made.append(primitive)

        async def hold() -> None:
            async with primitive:
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            for _ in range(permits):
                group.create_task(hold())
            await asyncio.sleep(0)
            async with primitive:
                await asyncio.sleep(0.01)

    async def check() -> None:
        for primitive in made:
            counts = getattr(primitive, "_internal_lock", primitive).statistics()
            assert not counts.tasks_waiting
            free = getattr(counts, "permits_free", permits)
            assert free == permits
            assert not getattr(counts, "locked", False)
            assert not getattr(counts, "borrowed_tokens", 0)
        made.clear()

    return program, check


@pytest.mark.parametrize("target", ["root", "children"])
@pytest.mark.parametrize("name", HELD)
def test_nothing_is_lost_at_any_cancel_of_a_holder(name: str, target: Any) -> None:
    """Cancelled before, while and after it waits: all permits are free at the end."""
    program, check = cancelled_holder(name)
    cancel_everywhere(program, target=target, check=check)


@pytest.mark.parametrize("target", ["root", "children"])
@pytest.mark.parametrize("name", QUEUES)
def test_nothing_is_lost_at_any_cancel_of_a_queue(name: str, target: Any) -> None:
    """Sent is received and left, wherever a sender or a receiver is cancelled."""
    books: list[tuple[Any, list[int], list[int]]] = []

    async def program() -> None:
        items = QUEUES[name](1)
        sent: list[int] = []
        received: list[int] = []
        books.append((items, sent, received))

        async def send(first: int) -> None:
            for number in (first, first + 1):
                await items.put(number)
                sent.append(number)

        async def receive() -> None:
            async for item in items:
                received.append(item)
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            async with asyncio.TaskGroup() as senders:
                senders.create_task(send(0))
                senders.create_task(send(10))
            items.shutdown()

    async def check() -> None:
        for items, sent, received in books:
            counts = items.statistics()
            assert not counts.tasks_waiting
            left = [items.get_nowait() for _ in range(items.qsize())]
            assert sorted(received + left) == sorted(sent)
            assert not items._reserved and items._room == items.maxsize
        books.clear()

    # Without its receiver the program hangs, as any would: senders then wait for room.
    chosen = target if target == "root" else lambda task: "send" in repr(task.get_coro())
    cancel_everywhere(program, target=chosen, check=check)


async def all_others() -> None:
    """Barriers, events, conditions and whole lists, in a group that ends what it has started."""
    barrier, event, condition = sync.Barrier(2), sync.Event(), sync.Condition()
    items: sync.Queue[int] = sync.Queue(1)
    found: list[int] = []

    async def other() -> None:
        await barrier.wait()
        event.set()
        async with condition:
            found.append(1)
            condition.notify()
        await items.put_many(range(3))

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        await barrier.wait()
        await event.wait()
        async with condition:
            await condition.wait_for(lambda: found)
        for number in range(3):
            assert await items.get() == number
            items.task_done()
        await items.join()


def test_nothing_is_left_at_any_cancel_of_the_others() -> None:
    """The program ends cancelled, and nothing hangs."""
    cancel_everywhere(all_others)
