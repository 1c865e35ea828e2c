"""Ctrl-C while something must not be cut short: asked once it ends in order, asked twice at once."""

import asyncio
import os
import signal
import sys

from aioconc import ProcessExecutor
from aioconc.runtime import graceful


def write_record(number: int) -> int:
    return number  # in a process that Ctrl-C does not reach, though the terminal sends it to all


async def main(times: int) -> None:
    written = []
    async with ProcessExecutor(1) as pool, graceful(signal.SIGINT, drain=5) as shutdown:
        for number in range(1_000_000):
            if shutdown.requested.is_set():
                break
            written.append(await pool.run(write_record, number))
            if number == 3:  # stands for somebody at the keyboard
                os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.1)  # stands for a last record
        if times > 1:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
    print("whole records:", written == list(range(len(written))))
    print("cut short:", shutdown.cancelled)


if __name__ == "__main__":
    asyncio.run(main(2 if "twice" in sys.argv else 1))
