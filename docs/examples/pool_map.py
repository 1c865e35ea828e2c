"""A function over many items in processes, and one call with a time limit that is kept."""

import asyncio
import os
import time

import psutil

from aioconc import ProcessExecutor, worker


def square(number: int) -> int:
    return number * number


def compute_for(seconds: float) -> float:
    worker.report(os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


async def main() -> None:
    async with ProcessExecutor(2) as pool:
        print(await pool.map(square, range(10)))
        print(await pool.run(square, 7))

        pids: list[int] = []
        try:
            await pool.options(timeout=0.2, on_report=pids.append).run(compute_for, 60)
        except TimeoutError as error:
            print("TimeoutError:", error)
        print("the process computes on:", psutil.pid_exists(pids[0]))
        print("the pool works on:", await pool.run(square, 8))


if __name__ == "__main__":
    asyncio.run(main())
