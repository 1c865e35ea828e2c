"""Permits and items are conserved, and nobody is overtaken, in any sequence of calls and cancels."""

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given, settings, strategies as st

from aioconc import sync
from aioconc.testing import Schedule, run as simulate, schedules

# What is done next, and to which of those who wait.
STEPS = st.lists(
    st.tuples(st.sampled_from(["acquire", "release", "cancel", "turn"]), st.integers(0, 5)),
    max_size=40,
)
QUEUE_STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "cancel", "turn", "nowait"]), st.integers(0, 5)),
    max_size=40,
)


@given(permits=st.integers(1, 3), steps=STEPS, schedule=schedules())
@settings(max_examples=150)
def test_permits_are_conserved_and_granted_in_order(
    permits: int, steps: list[tuple[str, int]], schedule: Schedule
) -> None:
    """Held and free permits are as many as at the start, and grants follow the order of arrival."""

    async def main() -> None:
        semaphore = sync.BoundedSemaphore(permits)
        tasks: list[asyncio.Task[Any]] = []
        arrived: list[int] = []
        granted: list[int] = []
        held: list[int] = []

        async def acquire(number: int) -> None:
            arrived.append(number)
            await semaphore.acquire()
            granted.append(number)
            held.append(number)

        for step, which in steps:
            if step == "acquire":
                tasks.append(asyncio.create_task(acquire(len(tasks))))
            elif step == "release" and held:
                held.pop()
                semaphore.release()
            elif step == "cancel" and tasks:
                tasks[which % len(tasks)].cancel()
            else:
                await asyncio.sleep(0)
        while any(not each.done() for each in tasks):
            if held:
                held.pop()
                semaphore.release()
            await asyncio.sleep(0)
        # Tasks of one loop go on in the order in which they were granted, unless the schedule
        # under which they run says otherwise.
        if schedule == Schedule.parse("fifo"):
            assert granted == [each for each in arrived if each in set(granted)]
        assert semaphore.statistics().permits_free == permits - len(held)

    simulate(main, schedule=schedule)


@given(
    kind=st.sampled_from([sync.Queue, sync.LifoQueue, sync.PriorityQueue]),
    maxsize=st.integers(0, 3),
    steps=QUEUE_STEPS,
    schedule=schedules(),
)
@settings(max_examples=200)
def test_items_are_conserved_within_the_bound(
    kind: Any, maxsize: int, steps: list[tuple[str, int]], schedule: Schedule
) -> None:
    """What was put is what was got and what is left, once each; never more than the bound is in."""

    async def main() -> None:
        items = kind(maxsize)
        tasks: list[asyncio.Task[Any]] = []
        sent: list[int] = []
        got: list[int] = []

        async def put(number: int) -> None:
            await items.put(number)
            sent.append(number)

        async def get() -> None:
            got.append(await items.get())

        for number, (step, which) in enumerate(steps):
            if step == "put":
                tasks.append(asyncio.create_task(put(number)))
            elif step == "get":
                tasks.append(asyncio.create_task(get()))
            elif step == "cancel" and tasks:
                tasks[which % len(tasks)].cancel()
            elif step == "nowait":
                if which % 2 and not items.full():
                    items.put_nowait(number)
                    sent.append(number)
                elif not items.empty():
                    got.append(items.get_nowait())
            else:
                await asyncio.sleep(0)
            assert not maxsize or items.qsize() + items._reserved <= maxsize
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left = [items.get_nowait() for _ in range(items.qsize())]
        assert Counter(sent) == Counter(got + left)
        counts = items.statistics()
        assert (counts.items, counts.getters_waiting, counts.putters_waiting) == (0, 0, 0)

    simulate(main, schedule=schedule)
