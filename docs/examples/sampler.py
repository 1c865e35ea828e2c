"""What the machine does, in one line: `set -g status-right '#(python sampler.py)'` in tmux.conf."""

import asyncio
import sys
from collections.abc import Awaitable

import psutil

from aioconc import gather_limited, move_on_after, offload_io


async def cpu(seconds: float) -> str:
    busy = await offload_io(psutil.cpu_percent, seconds)  # measures for so long, in a thread
    return f"cpu {busy:3.0f}%"


async def memory() -> str:
    return f"mem {psutil.virtual_memory().percent:3.0f}%"


async def network(seconds: float) -> str:
    before = psutil.net_io_counters()
    await asyncio.sleep(seconds)
    now = psutil.net_io_counters()
    down = (now.bytes_recv - before.bytes_recv) / seconds / 1e3
    up = (now.bytes_sent - before.bytes_sent) / seconds / 1e3
    return f"net {down:.0f}/{up:.0f} kB/s"


async def root_disk() -> str:
    usage = await offload_io.options(on_cancel="abandon")(psutil.disk_usage, "/")
    return f"disk {usage.percent:3.0f}%"


async def in_time(part: Awaitable[str], seconds: float) -> str:
    with move_on_after(seconds):
        return await part
    return "..."  # a file server that does not answer costs its own part only


async def sample(seconds: float) -> str:
    parts = [cpu(seconds), memory(), network(seconds), root_disk()]
    return " | ".join(await gather_limited((in_time(p, seconds + 2) for p in parts), limit=4))


async def main(seconds: float, lines: int) -> None:
    for _ in range(lines):
        print(await sample(seconds), flush=True)


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    asyncio.run(main(seconds, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
