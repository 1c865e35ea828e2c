"""anyio's ways off the loop; its processes belong to one event loop."""

from collections.abc import Callable

import anyio.to_process
import anyio.to_thread


async def in_thread(fn: Callable[[int], int], argument: int) -> int:
    return await anyio.to_thread.run_sync(fn, argument)


async def in_process(fn: Callable[[int], int], argument: int) -> int:
    return await anyio.to_process.run_sync(fn, argument)
