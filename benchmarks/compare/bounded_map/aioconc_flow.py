"""aioconc: `gather_limited`, and `map_limited` awaited and as a stream."""

from collections.abc import Awaitable, Callable, Iterable

from aioconc import gather_limited, map_limited


async def gathered(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    return await gather_limited((fn(item) for item in items), limit=limit)


async def awaited(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    return await map_limited(fn, items, limit=limit)


async def streamed(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    async with map_limited(fn, items, limit=limit) as results:
        return [result async for result in results]


async def streamed_unordered(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    async with map_limited(fn, items, limit=limit, ordered=False) as results:
        return [result async for result in results]


async def consume(fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int) -> int:
    seen = 0
    async with map_limited(fn, items, limit=limit) as results:
        async for _ in results:
            seen += 1
    return seen


async def consume_unordered(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> int:
    seen = 0
    async with map_limited(fn, items, limit=limit, ordered=False) as results:
        async for _ in results:
            seen += 1
    return seen
