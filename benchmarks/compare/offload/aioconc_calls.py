"""aioconc's ways off the loop, on the default executors."""

from collections.abc import Callable

from aioconc import offload_cpu, offload_io


async def io(fn: Callable[[int], int], argument: int) -> int:
    return await offload_io(fn, argument)


async def cpu(fn: Callable[[int], int], argument: int) -> int:
    return await offload_cpu(fn, argument)
