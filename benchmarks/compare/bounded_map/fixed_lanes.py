"""Below the floor: `limit` tasks, each with its share of the items settled beforehand.

No map works like this: a slow item holds up all those behind it in its lane. It shows what the
calls and the passes of the loop cost by themselves, with nothing that hands out items.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable


async def collect(
    fn: Callable[[int], Awaitable[int]], items: Iterable[int], limit: int
) -> list[int]:
    known = list(items)
    results = [0] * len(known)

    async def lane(first: int) -> None:
        for index in range(first, len(known), limit):
            results[index] = await fn(known[index])

    await asyncio.gather(*(lane(first) for first in range(min(limit, len(known)))))
    return results
