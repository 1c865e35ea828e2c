"""aioconc, with chunks that it chooses."""

from collections.abc import Callable, Sequence
from functools import cache

from aioconc.executors import ProcessExecutor
from compare.process_map.work import WORKERS


@cache
def _pool() -> ProcessExecutor:
    return ProcessExecutor(max_workers=WORKERS)


async def awaited(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    return await _pool().map(fn, items)


async def stream(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    found: list[int] = []
    async with _pool().map(fn, items) as results:
        found = [each async for each in results]
    return found


async def item_wise(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    """As with keys, rates, retries, progress or a buffer of one's own."""
    found: list[int] = []
    async with _pool().map(fn, items, buffer=2_000) as results:
        found = [each async for each in results]
    return found
