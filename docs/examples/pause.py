"""Wait for signals: read the configuration again at each SIGHUP, until SIGTERM."""

import asyncio
import os
import signal

from aioconc.runtime import open_signals


async def main() -> None:
    async with open_signals(signal.SIGHUP, signal.SIGTERM) as arriving:
        # Nothing is lost from here on, whatever the program does before it looks.
        os.kill(os.getpid(), signal.SIGHUP)
        print("ready")
        async for number in arriving:
            print("got", number.name)
            if number == signal.SIGTERM:
                break
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    asyncio.run(main())
