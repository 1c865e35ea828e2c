"""A function over many items in processes, and one call with a time limit that is kept."""

import asyncio
import os
import signal
import time

import psutil

from aioconc import ProcessExecutor, WorkerCrashed, worker


def square(number: int) -> int:
    return number * number


def compute_for(seconds: float) -> float:
    worker.report(os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


def crash(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short
    return number


async def main() -> None:
    async with ProcessExecutor(2) as pool:
        print(await pool.map(square, range(10)))
        print(await pool.run(square, 7))

        pids: list[int] = []
        try:
            await pool.options(timeout=0.5, on_report=pids.append).run(compute_for, 60)
        except TimeoutError as error:
            print("TimeoutError:", error)
        print("the process computes on:", psutil.pid_exists(pids[0]))

        found = await pool.map(crash, range(6), on_error="return")
        print("crashed:", sum(isinstance(each, WorkerCrashed) for each in found), "of", len(found))
        print("the pool works on:", await pool.run(square, 8))


if __name__ == "__main__":
    asyncio.run(main())
