"""Every awaitable of `aioconc.flow`, cancelled at each of its awaits: nothing is left or lost."""

import asyncio
import weakref
from contextlib import aclosing
from typing import Any

import pytest

from aioconc import RateLimiter, backoff, gather_limited, map_limited, race
from tests.conftest import LoopFactory
from tests.properties.cancelling import TICK, Body, Books, on_every_loop, sweep


async def gather_few(books: Books) -> None:
    await gather_limited(*(books.work(n) for n in (1, 2, 1)), limit=2)


async def gather_lazily(books: Books) -> None:
    await gather_limited((books.work(n) for n in (1, 2, 1)), limit=2)


async def gather_from_async_source(books: Books) -> None:
    async def jobs() -> Any:
        async with aclosing(books.source(3)) as numbers:
            async for number in numbers:
                yield books.work(number)

    await gather_limited(jobs(), limit=2)


async def gather_with_failure(books: Books) -> None:
    await gather_limited(books.work(3), books.fail(1), books.work(2), limit=2)


async def gather_exceptions(books: Books) -> None:
    await gather_limited(books.fail(1), books.work(2), limit=2, return_exceptions=True)


async def gather_tasks(books: Books) -> None:
    tasks = [asyncio.ensure_future(books.work(n)) for n in (1, 2)]
    await gather_limited(*tasks, limit=1)


async def map_list(books: Books) -> None:
    await map_limited(books.work, [1, 2, 1], limit=2)


async def map_async_source(books: Books) -> None:
    await map_limited(books.work, books.source(4), limit=2, ordered=False)


async def map_tasks(books: Books) -> None:
    await map_limited(books.work, [1, 2, 1], limit=2, isolate="task")


async def map_stream(books: Books) -> None:
    async with map_limited(books.work, books.source(4), limit=2) as results:
        async for _ in results:
            await asyncio.sleep(0)


async def map_stream_unordered(books: Books) -> None:
    async with map_limited(books.work, [3, 1, 2], limit=2, ordered=False, buffer=0) as results:
        async for _ in results:
            await asyncio.sleep(TICK)


async def map_stream_left_early(books: Books) -> None:
    async with map_limited(books.work, books.source(9), limit=2) as results:
        async for _ in results:
            break


async def map_stream_isolated(books: Books) -> None:
    async with map_limited(books.work, books.source(3), limit=2, isolate="task") as results:
        async for _ in results:
            pass


async def map_failing(books: Books) -> None:
    await map_limited(books.fail, [1, 2, 3], limit=2)


async def map_skipping(books: Books) -> None:
    await map_limited(books.fail, [1, 2, 3], limit=2, on_error="skip")


async def map_returning(books: Books) -> None:
    await map_limited(books.fail, books.source(3), limit=2, on_error="return")


async def map_failing_source(books: Books) -> None:
    async def source() -> Any:
        async with aclosing(books.source(2)) as numbers:
            async for number in numbers:
                yield number
        raise OSError("as planned")

    await map_limited(books.work, source(), limit=2)


async def map_retrying(books: Books) -> None:
    tries: list[int] = []

    async def flaky(number: int) -> int:
        await books.work(1)
        tries.append(number)
        if tries.count(number) < 2:
            raise OSError("as planned")
        return number

    retry = backoff(attempts=3, base=TICK, max=TICK)
    await map_limited(flaky, [1, 2, 3], limit=2, retry=retry)


async def map_timing_out(books: Books) -> None:
    async def stuck(_: int) -> None:
        await books.forever()

    await map_limited(stuck, [1, 2], limit=2, timeout=TICK, on_error="return")


async def map_at_a_rate(books: Books) -> None:
    await map_limited(books.work, [1, 1, 1], limit=2, rate=RateLimiter(1000, burst=1))


async def map_by_key(books: Books) -> None:
    await map_limited(
        books.work, books.source(4), limit=3, key=lambda number: number % 2, limit_per_key=1
    )


async def map_rates_by_key(books: Books) -> None:
    limiters = {key: RateLimiter(1000) for key in (0, 1)}
    await map_limited(
        books.work, [1, 2, 1, 2], limit=3, key=lambda number: number % 2, rate=limiters.__getitem__
    )


async def map_of_maps(books: Books) -> None:
    async def inner(count: int) -> None:
        await map_limited(books.work, [1] * count, limit=2)

    await map_limited(inner, [1, 2], limit=2)


async def race_one(books: Books) -> None:
    await race(lambda: books.work(1), lambda: books.work(50), books.forever)


async def race_two_of_three(books: Books) -> None:
    await race(lambda: books.work(1), lambda: books.fail(1), lambda: books.work(2), want=2)


async def race_all_fail(books: Books) -> None:
    await race(lambda: books.fail(1), lambda: books.fail(2))


_limiters: Any = weakref.WeakKeyDictionary()


async def acquire_in_turn(books: Books) -> None:
    # One for all calls in a loop: what a cancelled call has spoilt, the next one finds.
    limiter = _limiters.setdefault(asyncio.get_running_loop(), RateLimiter(500, burst=2))

    async def call() -> None:
        async with limiter:
            await books.work(1)

    await gather_limited(*(call() for _ in range(4)), limit=4)


async def acquire_while_paused(books: Books) -> None:
    limiter = RateLimiter(1000)
    limiter.pause(2 * TICK)
    await limiter.acquire()
    await limiter.acquire()


PROGRAMS: list[Body] = [
    gather_few,
    gather_lazily,
    gather_from_async_source,
    gather_with_failure,
    gather_exceptions,
    gather_tasks,
    map_list,
    map_async_source,
    map_tasks,
    map_stream,
    map_stream_unordered,
    map_stream_left_early,
    map_stream_isolated,
    map_failing,
    map_skipping,
    map_returning,
    map_failing_source,
    map_retrying,
    map_timing_out,
    map_at_a_rate,
    map_by_key,
    map_rates_by_key,
    map_of_maps,
    race_one,
    race_two_of_three,
    race_all_fail,
    acquire_in_turn,
    acquire_while_paused,
]


@on_every_loop
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_cancelled_caller(program: Body, new_loop: LoopFactory) -> None:
    """A cancelled call ends, with everything that it has started, and is raised."""
    report = sweep(program, new_loop)
    assert report.points


@on_every_loop
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_cancelled_inner_task(program: Body, new_loop: LoopFactory) -> None:
    """Where somebody cancels a task inside of a call, the call still ends, and tells it."""
    sweep(program, new_loop, "children")
