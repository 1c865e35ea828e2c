"""The standard library's loop: one order, real time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

stock = asyncio.SelectorEventLoop


def runs(body: Callable[[], Coroutine[Any, Any, None]], count: int) -> int:
    for _ in range(count):
        with asyncio.Runner(loop_factory=stock) as runner:
            runner.run(body())
    return count


async def many_sleeps(count: int, seconds_of: Callable[[int], int]) -> float:
    """For the loops of others, which run asyncio's own code."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(asyncio.sleep(seconds_of(number)) for number in range(count)))
    return loop.time() - began
