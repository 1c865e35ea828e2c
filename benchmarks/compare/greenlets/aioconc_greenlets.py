"""aioconc: in a greenlet of the task, and from a thread that calls in the loop."""

from collections.abc import Callable

import greenlet  # noqa: F401  # named as missing where it is not installed

from aioconc import ThreadExecutor, offload_io, worker
from aioconc.executors.greenlets import await_, greenlet_run


async def one() -> int:
    return 1


def _add(count: int) -> int:
    total = 0
    for _ in range(count):
        total += await_(one())
    return total


async def awaits(count: int) -> int:
    return await greenlet_run(_add, count)


def _add_from_thread(count: int) -> int:
    total = 0
    for _ in range(count):
        total += worker.call_in_loop(one)
    return total


async def awaits_from_thread(count: int) -> int:
    return await offload_io(_add_from_thread, count)


_threads = ThreadExecutor(4)  # idle threads end by themselves


async def in_thread(fn: Callable[[int], int], argument: int) -> int:
    return await _threads.run(fn, argument)
