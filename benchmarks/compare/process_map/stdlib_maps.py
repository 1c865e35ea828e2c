"""The standard library's two pools."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing.pool import Pool

from compare.process_map.work import WORKERS

# Spawned, as nobody should fork a program that runs threads.
CONTEXT = multiprocessing.get_context("spawn")


@cache
def _executor() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, mp_context=CONTEXT)


@cache
def _pool() -> Pool:
    return CONTEXT.Pool(WORKERS)


def _eighth(items: Sequence[int]) -> int:
    """What `multiprocessing.Pool.map` takes: four chunks for each worker."""
    return -(-len(items) // (4 * WORKERS))


async def executor_single(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    return [*_executor().map(fn, items)]


async def executor_chunks(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    return [*_executor().map(fn, items, chunksize=_eighth(items))]


async def pool_map(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    return _pool().map(fn, items)


async def pool_imap(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    return [*_pool().imap(fn, items, chunksize=_eighth(items))]
