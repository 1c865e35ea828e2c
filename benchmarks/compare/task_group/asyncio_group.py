"""The standard library's task group."""

import asyncio
from collections.abc import Callable, Coroutine


async def spawn_and_join(
    fn: Callable[[list[int]], Coroutine[object, object, None]], argument: list[int], size: int
) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(size):
            group.create_task(fn(argument))
