"""Something in so many seconds: once, not at all, put off, and again and again."""

import asyncio

from aioconc import move_on_after
from aioconc.sync import Timer, every


async def main() -> None:
    async with Timer(0.01, print, "hello, a little later"):
        await asyncio.sleep(0.05)

    async with Timer(0.01, print, "never printed") as timer:
        pass  # done in time: leaving the block cancels it
    print(timer)

    async with Timer(1.0, print, "never printed either") as watchdog:
        for _ in range(4):
            await asyncio.sleep(0.01)
            watchdog.reset()  # as long as something happens

    with move_on_after(0.5):
        await every(0.1, print, "tick")


if __name__ == "__main__":
    asyncio.run(main())
