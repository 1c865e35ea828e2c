"""Lost wake-ups: a signal that comes while nobody waits, or is wiped before anybody looks."""

import asyncio

from aioconc.errors import DeadlockError
from tests.testing.gallery.bugs import check_bug, check_fix, steps


async def notified_before_waiting() -> None:
    condition = asyncio.Condition()

    async def consumer() -> None:
        async with condition:
            await condition.wait()  # no look at what it waits for

    async def producer() -> None:
        async with condition:
            condition.notify()

    await asyncio.gather(consumer(), producer())


async def waiting_for_a_fact() -> None:
    condition = asyncio.Condition()
    items: list[int] = []

    async def consumer() -> None:
        async with condition:
            await condition.wait_for(lambda: items)

    async def producer() -> None:
        async with condition:
            items.append(1)
            condition.notify()

    await asyncio.gather(consumer(), producer())


async def cleared_after_the_look() -> None:
    arrived = asyncio.Event()
    inbox: list[int] = []
    handled: list[int] = []

    async def consumer() -> None:
        while True:
            handled.extend(inbox)
            inbox.clear()
            if len(handled) == 2:
                return
            await steps(1)  # writes a log
            arrived.clear()  # and wipes what arrived meanwhile
            await arrived.wait()

    async def producer() -> None:
        for item in range(2):
            await steps(4)
            inbox.append(item)
            arrived.set()

    await asyncio.gather(consumer(), producer())


async def cleared_before_the_look() -> None:
    arrived = asyncio.Event()
    inbox: list[int] = []
    handled: list[int] = []

    async def consumer() -> None:
        while True:
            arrived.clear()
            handled.extend(inbox)
            inbox.clear()
            if len(handled) == 2:
                return
            await steps(1)
            await arrived.wait()

    async def producer() -> None:
        for item in range(2):
            await steps(4)
            inbox.append(item)
            arrived.set()

    await asyncio.gather(consumer(), producer())


def test_a_condition_notified_before_anybody_waits_is_found() -> None:
    """A consumer that runs second waits for ever."""
    check_bug(notified_before_waiting, schedule="d0", within=10, raises=DeadlockError)


def test_a_condition_waited_for_with_a_predicate_holds() -> None:
    """Who comes late sees that it need not wait."""
    check_fix(waiting_for_a_fact)


def test_an_event_cleared_after_the_look_is_found() -> None:
    """What is set between look and clear is lost."""
    check_bug(cleared_after_the_look, schedule="d2", within=20, raises=DeadlockError)


def test_an_event_cleared_before_the_look_holds() -> None:
    """What is set after the clear is seen, now or at the next wait."""
    check_fix(cleared_before_the_look)
