"""The standard library's ways off the loop."""

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache

WORKERS = 2


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor()


@cache
def _processes() -> ProcessPoolExecutor:
    # Spawned, as nobody should fork a program that runs threads.
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn"))


async def to_thread(fn: Callable[[int], int], argument: int) -> int:
    return await asyncio.to_thread(fn, argument)


async def in_threads(fn: Callable[[int], int], argument: int) -> int:
    return await asyncio.get_running_loop().run_in_executor(_threads(), fn, argument)


async def in_processes(fn: Callable[[int], int], argument: int) -> int:
    return await asyncio.get_running_loop().run_in_executor(_processes(), fn, argument)
