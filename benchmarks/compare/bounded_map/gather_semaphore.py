"""The recipe of most code bases: a task per item, all created at once, held by a semaphore."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable


async def collect(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    semaphore = asyncio.Semaphore(limit)

    async def one(item: int) -> int:
        async with semaphore:
            return await fn(item)

    return await asyncio.gather(*(one(item) for item in items))
