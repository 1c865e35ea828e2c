"""Children that serve the others: they end with the block, after their clean-up."""

import asyncio
import time

from aioconc import ProcessExecutor, TaskGroup


async def heartbeat() -> None:
    try:
        while True:
            print("beat")
            await asyncio.sleep(0.02)
    finally:
        await asyncio.sleep(0.01)  # a clean-up may wait
        print("heartbeat: put everything back")


async def work() -> None:
    await asyncio.sleep(0.05)
    print("work: done")


def spin() -> None:
    while True:
        time.sleep(0.01)


async def main() -> None:
    async with ProcessExecutor(1) as pool, TaskGroup() as group:
        group.start_background(heartbeat)  # cancelled when all that is not in the background ended
        group.start_background(pool.run, spin)  # in a process, which is killed then
        group.start_soon(work)
    print("nothing is left")


if __name__ == "__main__":
    asyncio.run(main())
