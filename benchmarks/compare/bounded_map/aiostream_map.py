"""aiostream: its `map` operator with a task limit, in completion order."""

from collections.abc import Awaitable, Callable, Iterable

from aiostream import pipe, stream


async def collect(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    mapped = stream.iterate(items) | pipe.map(fn, ordered=False, task_limit=limit)
    async with mapped.stream() as results:
        return [result async for result in results]


async def consume(fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int) -> int:
    seen = 0
    mapped = stream.iterate(items) | pipe.map(fn, ordered=False, task_limit=limit)
    async with mapped.stream() as results:
        async for _ in results:
            seen += 1
    return seen
