"""What the language and the standard library do by themselves."""

import asyncio
from collections.abc import Callable


async def one() -> int:
    return 1


async def awaits(count: int) -> int:
    total = 0
    for _ in range(count):
        total += await one()
    return total


async def in_thread(fn: Callable[[int], int], argument: int) -> int:
    return await asyncio.to_thread(fn, argument)
