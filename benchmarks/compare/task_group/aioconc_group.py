"""aioconc's task group: the drop-in `create_task`, and `start_soon` with its handle."""

from collections.abc import Callable, Coroutine

from aioconc import TaskGroup


async def spawn_and_join(
    fn: Callable[[list[int]], Coroutine[object, object, None]], argument: list[int], size: int
) -> None:
    async with TaskGroup() as group:
        for _ in range(size):
            group.create_task(fn(argument))


async def spawn_and_join_soon(
    fn: Callable[[list[int]], Coroutine[object, object, None]], argument: list[int], size: int
) -> None:
    async with TaskGroup() as group:
        for _ in range(size):
            group.start_soon(fn, argument)
