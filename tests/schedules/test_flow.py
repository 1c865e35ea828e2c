"""Explored orders of the window, the race and the rate limiter: their promises hold in each.

Each program is small, uses what it tests at its edges, and checks what is promised. The default
budget is a sample; `nox -s schedules` runs more.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from aioconc import RateLimiter, backoff, gather_limited, map_limited, race
from aioconc.testing import explore

Program = Callable[[], Awaitable[None]]


class Meter:
    """Counts calls in flight, and how often each item ran."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = 0
        self.runs: dict[int, int] = {}

    async def call(self, item: int, steps: int = 2) -> int:
        self.now += 1
        assert self.now <= self.most
        self.runs[item] = self.runs.get(item, 0) + 1
        try:
            for _ in range(steps):
                await asyncio.sleep(0)
            return item * 10
        finally:
            self.now -= 1


async def no_tasks_are_left() -> None:
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def map_in_order() -> None:
    """Every item runs once, at most two at a time, and the results are in order."""
    meter = Meter(2)
    results = await map_limited(meter.call, range(5), limit=2)
    assert results == [0, 10, 20, 30, 40]
    assert meter.runs == dict.fromkeys(range(5), 1)
    await no_tasks_are_left()


async def map_streamed_with_a_small_buffer() -> None:
    """A slow reader sees every result once; what runs ahead of it is bounded."""
    meter = Meter(2)
    seen = []
    async with map_limited(meter.call, range(5), limit=2, buffer=1) as results:
        async for result in results:
            seen.append(result)
            assert len(meter.runs) - len(seen) <= 3
            await asyncio.sleep(0)
    assert seen == [0, 10, 20, 30, 40]
    await no_tasks_are_left()


async def map_left_early() -> None:
    """Leaving a stream ends its calls and closes its source once."""
    meter = Meter(2)
    closed = 0

    def source() -> Iterator[int]:
        nonlocal closed
        try:
            yield from range(100)
        finally:
            closed += 1

    async with map_limited(meter.call, source(), limit=2, ordered=False) as results:
        async for _ in results:
            break
    assert meter.now == 0
    assert closed == 1
    await no_tasks_are_left()


async def map_over_an_async_source() -> None:
    """The reader task reads no further than calls start, and closes what it read."""
    meter = Meter(2)
    closed = 0

    async def source() -> AsyncIterator[int]:
        nonlocal closed
        try:
            for number in range(4):
                await asyncio.sleep(0)
                yield number
        finally:
            closed += 1

    assert await map_limited(meter.call, source(), limit=2) == [0, 10, 20, 30]
    assert closed == 1
    await no_tasks_are_left()


async def map_whose_item_fails() -> None:
    """The first failure ends the others, which have ended when it is raised."""
    meter = Meter(3)

    async def call(item: int) -> int:
        result = await meter.call(item)
        if item == 1:
            raise ValueError(item)
        return result

    with pytest.raises(ValueError, match="1"):
        await map_limited(call, range(6), limit=3)
    assert meter.now == 0
    await no_tasks_are_left()


async def map_that_is_cancelled() -> None:
    """A cancellation at any moment ends every call before it is raised."""
    meter = Meter(2)
    task = asyncio.create_task(gather_limited((meter.call(item) for item in range(5)), limit=2))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    try:
        assert await task == [0, 10, 20, 30, 40]
    except asyncio.CancelledError:
        pass
    assert meter.now == 0
    await no_tasks_are_left()


async def map_with_keys_and_retries() -> None:
    """Never two calls of one key; an item that fails once gets its second attempt."""
    running: set[str] = set()
    attempts: dict[str, int] = {}

    async def call(item: str) -> str:
        key = item[0]
        assert key not in running
        running.add(key)
        try:
            await asyncio.sleep(0)
            attempts[item] = attempts.get(item, 0) + 1
            if item == "a1" and attempts[item] == 1:
                raise OSError
            return item
        finally:
            running.discard(key)

    items = ["a1", "a2", "b1", "b2"]
    results = await map_limited(
        call,
        items,
        limit=3,
        key=lambda item: item[0],
        limit_per_key=1,
        retry=backoff(2, on=OSError, base=0.1),
    )
    assert results == items
    assert attempts == {"a1": 2, "a2": 1, "b1": 1, "b2": 1}
    await no_tasks_are_left()


async def map_whose_limit_changes() -> None:
    """The limit may be set while calls run; it holds for what starts from then on."""
    started = 0

    async def call(item: int) -> int:
        nonlocal started
        started += 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return item

    run = map_limited(call, range(8), limit=1)
    async with run as results:
        seen = []
        async for result in results:
            seen.append(result)
            run.limit = 3 if len(seen) < 4 else 1
    assert seen == list(range(8))
    await no_tasks_are_left()


async def race_has_one_winner() -> None:
    """The losers have ended when it returns."""
    running = 0

    def entrant(steps: int) -> Callable[[], Awaitable[int]]:
        async def run() -> int:
            nonlocal running
            running += 1
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
                return steps
            finally:
                running -= 1

        return run

    winners = await race(entrant(2), entrant(2), entrant(3))
    assert len(winners) == 1
    assert running == 0
    await no_tasks_are_left()


async def rate_is_kept() -> None:
    """Whoever comes in whatever order: no more than the rate allows in any stretch of time."""
    limiter = RateLimiter(2, per=1.0, burst=2)
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def start() -> None:
        await limiter.acquire()
        times.append(loop.time())

    async def cancelled() -> None:
        try:
            async with asyncio.timeout(0.3):
                await limiter.acquire()
                times.append(loop.time())
        except TimeoutError:
            pass

    await asyncio.gather(start(), start(), cancelled(), start(), start())
    times.sort()
    for at in range(len(times) - 2):
        assert times[at + 2] - times[at] >= 0.5 - 1e-6


PROGRAMS = [
    map_in_order,
    map_streamed_with_a_small_buffer,
    map_left_early,
    map_over_an_async_source,
    map_whose_item_fails,
    map_that_is_cancelled,
    map_with_keys_and_retries,
    map_whose_limit_changes,
    race_has_one_winner,
    rate_is_kept,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.__name__)
def test_the_promise_holds_in_every_explored_order(program: Program) -> None:
    """No schedule of the sample breaks it."""
    explore(program, budget=120)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.__name__)
def test_the_promise_holds_in_thousands_of_orders(program: Program) -> None:
    """The same with a budget that exhausts two demotions where that is feasible."""
    explore(program, budget=3_000)  # type: ignore[arg-type]
