"""The floor: `limit` tasks that pull one shared iterator and store by index.

This is about the least that a bounded map can cost. It keeps no item's context from the next, has
no care for cancellation, failures or fairness, and wants all items in a list first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable


async def collect(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    known = list(items)
    results = [0] * len(known)
    shared = iter(enumerate(known))

    async def worker() -> None:
        for index, item in shared:
            results[index] = await fn(item)

    await asyncio.gather(*(worker() for _ in range(min(limit, len(known)))))
    return results
