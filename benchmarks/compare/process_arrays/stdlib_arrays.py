"""The standard library's pools: arrays are pickled, and go through a pipe."""

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing.pool import Pool
from typing import Any


@cache
def _executor(start: str) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(start))


@cache
def _pool() -> Pool:
    return multiprocessing.get_context("spawn").Pool(1)


async def spawned(fn: Callable[[Any], Any], array: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_executor("spawn"), fn, array)


async def from_forkserver(fn: Callable[[Any], Any], array: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_executor("forkserver"), fn, array)


async def pool(fn: Callable[[Any], Any], array: Any) -> Any:
    loop = asyncio.get_running_loop()
    result = loop.create_future()

    def settle(value: Any) -> None:
        loop.call_soon_threadsafe(result.set_result, value)

    _pool().apply_async(fn, (array,), callback=settle)
    return await result
