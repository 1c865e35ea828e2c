"""anyio: a task per item in a task group, held by a capacity limiter; results by index."""

from collections.abc import Awaitable, Callable, Iterable

import anyio


async def collect(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    limiter = anyio.CapacityLimiter(limit)
    results: dict[int, int] = {}

    async def one(index: int, item: int) -> None:
        async with limiter:
            results[index] = await fn(item)

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(one, index, item)
    return [results[index] for index in range(len(results))]
