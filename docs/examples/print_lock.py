"""Lines of many workers that never mix: workers report, and one place prints."""

import asyncio
import sys

from aioconc import ProcessExecutor, worker


def greet(number: int) -> None:
    worker.report(f"hello from {number}\nworld from {number}")  # what belongs together


async def main(count: int) -> None:
    async with ProcessExecutor(2) as pool:
        # `print` runs in the event loop, one report after the other: there is nothing to lock.
        await pool.options(on_report=print).map(greet, range(count))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
