"""A countdown, done twice: one after the other, in two threads, and in two processes."""

import asyncio
import sys
import time

from aioconc import ProcessExecutor, ThreadExecutor
from aioconc.executors import Executor, InlineExecutor


def countdown(n: int) -> None:
    while n > 0:
        n -= 1


async def seconds_for_two(pool: Executor, n: int) -> float:
    async with pool:
        await pool.map(countdown, [1, 1])  # now the workers are there
        begun = time.perf_counter()
        await pool.map(countdown, [n, n])
        return time.perf_counter() - begun


async def measure(n: int) -> dict[str, float]:
    pools: dict[str, Executor] = {
        "one after the other": InlineExecutor(),
        "two threads": ThreadExecutor(2),
        "two processes": ProcessExecutor(2),
    }
    return {name: await seconds_for_two(pool, n) for name, pool in pools.items()}


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000_000
    for name, seconds in asyncio.run(measure(n)).items():
        print(f"{name:<20} {seconds:7.3f} s")
