"""aiometer: `amap`, which wants a sequence and gives results in completion order."""

from collections.abc import Awaitable, Callable, Iterable

import aiometer


async def collect(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    async with aiometer.amap(fn, list(items), max_at_once=limit) as results:
        return [result async for result in results]


async def consume(fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int) -> int:
    seen = 0
    async with aiometer.amap(fn, list(items), max_at_once=limit) as results:
        async for _ in results:
            seen += 1
    return seen
