"""Awaitables of aioconc inside of each other and of time limits, cancelled at each of their awaits.

Here two cancels meet: that of a limit and one from outside, also in one tick.
"""

import asyncio
import contextlib

import anyio
import pytest

from aioconc import (
    RateLimiter,
    Supervisor,
    TaskGroup,
    fail_after,
    gather_limited,
    map_limited,
    move_on_after,
    race,
    shielded,
)
from aioconc.tasks import TaskStatus
from tests.conftest import LoopFactory
from tests.properties.cancelling import FOREVER, TICK, Body, Books, on_every_loop, sweep


async def gather_out_of_time(books: Books) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TICK):
            await gather_limited(*(books.forever() for _ in range(3)), limit=2)
    await books.work(1)


async def stream_out_of_time(books: Books) -> None:
    with move_on_after(2.5 * TICK):
        async with map_limited(books.work, books.source(99), limit=2) as results:
            async for _ in results:
                await asyncio.sleep(0)
    await books.work(1)


async def stream_with_time_limit_inside(books: Books) -> None:
    async with map_limited(books.work, [3, 1], limit=2) as results:
        with move_on_after(TICK):
            async for _ in results:
                pass


async def race_out_of_time(books: Books) -> None:
    with move_on_after(TICK):
        await race(books.forever, books.forever)
    await books.work(1)


async def race_of_groups(books: Books) -> None:
    async def group(ticks: int) -> None:
        async with TaskGroup() as group:
            group.start_soon(books.work, ticks)
            await books.work(ticks)

    await race(lambda: group(1), lambda: group(20))


async def race_in_race(books: Books) -> None:
    async def inner() -> None:
        await race(lambda: books.work(1), books.forever)

    await race(inner, books.forever)


async def slot_out_of_time(books: Books) -> None:
    async with TaskGroup(limit=1) as group:
        group.start_soon(books.work, 3)
        with move_on_after(TICK):
            await group.spawn(books.work, 1)
        await group.spawn(books.work, 1)


async def handshake_out_of_time(books: Books) -> None:
    async def slow(*, task_status: TaskStatus[None]) -> None:
        await books.forever()
        task_status.started()

    async with TaskGroup() as group:
        group.start_soon(books.work, 3)
        with contextlib.suppress(RuntimeError), move_on_after(TICK):
            await group.start(slow)


async def handle_out_of_time(books: Books) -> None:
    async with TaskGroup() as group:
        handle = group.start_soon(books.work, 3)
        with move_on_after(TICK):
            await handle


async def handle_cancelled(books: Books) -> None:
    async with TaskGroup() as group:
        handle = group.start_soon(books.forever)
        await books.work(1)
        handle.cancel()


async def turn_out_of_time(books: Books) -> None:
    limiter = RateLimiter(500)

    async def call() -> None:
        with move_on_after(TICK):
            await limiter.acquire()
        await limiter.acquire()

    await gather_limited(*(call() for _ in range(3)), limit=3)


async def supervisor_out_of_time(books: Books) -> None:
    with move_on_after(TICK):
        async with Supervisor() as supervisor:
            supervisor.start_child(books.forever)
            supervisor.start_child(books.forever, shutdown=None)
    await books.work(1)


async def shield_out_of_time(books: Books) -> None:
    with contextlib.suppress(TimeoutError), fail_after(TICK):
        await shielded(books.work(3))
    await books.work(1)


async def shield_out_of_grace(books: Books) -> None:
    with move_on_after(TICK):
        await shielded(books.forever(), grace=TICK)
    await books.work(1)


async def map_of_groups(books: Books) -> None:
    async def item(ticks: int) -> None:
        async with TaskGroup() as group:
            group.start_soon(books.work, ticks)
            group.start_soon(books.work, 1)

    await map_limited(item, [1, 2, 1], limit=2)


async def map_with_limit_that_changes(books: Books) -> None:
    run = map_limited(books.work, [1] * 5, limit=1)
    async with run as results:
        async for _ in results:
            run.limit = 3 - run.limit


async def map_with_progress(books: Books) -> None:
    await map_limited(books.work, books.source(3), limit=2, progress=lambda event: None)


async def group_of_maps(books: Books) -> None:
    async def stream() -> None:
        async with map_limited(books.work, books.source(3), limit=2) as results:
            async for _ in results:
                pass

    async with TaskGroup() as group:
        group.start_soon(stream)
        group.start_soon(stream)


async def group_of_failing_maps(books: Books) -> None:
    async def fails() -> None:
        await map_limited(books.fail, [1, 2], limit=2)

    async with TaskGroup() as group:
        group.start_soon(fails)
        group.start_soon(books.forever)


async def group_in_asyncio_group(books: Books) -> None:
    async def inner() -> None:
        async with TaskGroup() as group:
            group.start_soon(books.work, 1)

    async with asyncio.TaskGroup() as outer:
        outer.create_task(inner())
        outer.create_task(books.work(2))


async def asyncio_group_in_group(books: Books) -> None:
    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(books.work(1))

    async with TaskGroup() as outer:
        outer.start_soon(inner)
        outer.start_soon(books.work, 2)


async def gather_in_anyio_scope(books: Books) -> None:
    with anyio.move_on_after(TICK):
        await gather_limited(books.forever(), books.forever(), limit=2)
    await books.work(1)


async def group_in_anyio_scope(books: Books) -> None:
    with anyio.move_on_after(FOREVER):
        async with TaskGroup() as group:
            group.start_soon(books.work, 1)
            await books.work(1)


PROGRAMS: list[Body] = [
    gather_out_of_time,
    stream_out_of_time,
    stream_with_time_limit_inside,
    race_out_of_time,
    race_of_groups,
    race_in_race,
    slot_out_of_time,
    handshake_out_of_time,
    handle_out_of_time,
    handle_cancelled,
    turn_out_of_time,
    supervisor_out_of_time,
    shield_out_of_time,
    shield_out_of_grace,
    map_of_groups,
    map_with_limit_that_changes,
    map_with_progress,
    group_of_maps,
    group_of_failing_maps,
    group_in_asyncio_group,
    asyncio_group_in_group,
    gather_in_anyio_scope,
    group_in_anyio_scope,
]


@on_every_loop
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_cancelled_outermost(program: Body, new_loop: LoopFactory) -> None:
    """A cancel from outside ends the program with everything in it, whatever limit it meets."""
    assert sweep(program, new_loop).points


@on_every_loop
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_cancelled_inside(program: Body, new_loop: LoopFactory) -> None:
    """Where somebody cancels a task inside, the program still ends, and leaves nothing."""
    sweep(program, new_loop, "children")
