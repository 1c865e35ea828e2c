"""anyio's task group."""

from collections.abc import Callable, Coroutine

import anyio


async def spawn_and_join(
    fn: Callable[[list[int]], Coroutine[object, object, None]], argument: list[int], size: int
) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(size):
            group.start_soon(fn, argument)
