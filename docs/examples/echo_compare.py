"""The echo servers under the same load: clients that all come at once, say a few words and go."""

import asyncio
import math
import subprocess
import sys
import time
from pathlib import Path

import psutil
from downloads_compare import memory_of

from aioconc import TaskGroup, fail_after, gather_limited, offload_io
from aioconc.sync import every

HERE = Path(__file__).parent
WORDS = 20
PATIENCE = 10.0  # seconds
SERVERS = [
    ("classic/echo.py", "iterate"),
    ("classic/echo.py", "process"),
    ("classic/echo.py", "thread"),
    ("echo.py", "iterate"),
    ("echo.py", "process"),
    ("echo.py", "thread"),
    ("echo.py", "task"),
]


async def talk(port: int) -> None:
    with fail_after(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(WORDS):
            writer.write(b"x" * 1000)
            await reader.readexactly(1000)
        writer.close()


async def load(server: "subprocess.Popen[str]", clients: int) -> tuple[int, float, int]:
    """How many were served, the seconds until then, and the server's most memory."""
    assert server.stdout is not None
    port = int((await offload_io(server.stdout.readline)).split()[-1])
    process, peaks = psutil.Process(server.pid), [0]

    async def watch() -> None:
        peaks.append(await offload_io(memory_of, process))

    begun = time.perf_counter()
    async with TaskGroup() as group:
        group.start_background(every, 0.02, watch)
        ended = await gather_limited(
            (talk(port) for _ in range(clients)), limit=math.inf, return_exceptions=True
        )
    seconds = time.perf_counter() - begun
    return sum(each is None for each in ended), seconds, max(peaks)


def main(clients: int) -> None:
    print(f"{clients} clients, {WORDS} words each   served     seconds    memory")
    for script, way in SERVERS:
        command = [sys.executable, str(HERE / script), way, "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            served, seconds, peak = asyncio.run(load(server, clients))
            server.kill()
        print(
            f"{script:<16} {way:<10} {served:8} {seconds:9.2f} s {peak / 1e6:6.0f} MB", flush=True
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
