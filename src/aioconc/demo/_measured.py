"""The program in which one approach is measured: a process of its own, so that nothing is shared.

Runs as `python -m aioconc.demo._measured`, reads one `Task` as JSON from its standard input,
prints a line of JSON for each page as soon as it is known, so that what was done before a crash is
not lost, and a last one with the figures. Ends when its standard input ends.
"""

import asyncio
import importlib
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass

from aioconc.demo._approaches import ASYNC, SYNC
from aioconc.demo._heartbeat import Heartbeat, heartbeat


@dataclass(frozen=True, slots=True)
class Task:
    """Which approach is to visit which pages; `run` names its history of faults.

    `parse_timeout` is how many seconds a page may take to parse, for the one that can set that.
    """

    approach: str
    urls: list[str]
    run: str
    parse_timeout: float = 30.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> int:
    task = Task(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    if task.approach in ASYNC:
        # Loading it is no part of the work; the others do not need it, nor its memory.
        importlib.import_module("aiohttp")
        importlib.import_module("aioconc.demo._crawl")
    started = time.monotonic()
    stall = None
    if task.approach in SYNC:
        SYNC[task.approach](task.urls, task.run, _tell)
    else:
        stall = asyncio.run(_with_heartbeat(task))
    _print({"wall": time.monotonic() - started, "stall": stall})
    return 0


async def _with_heartbeat(task: Task) -> float:
    heart = Heartbeat()
    async with heartbeat(heart):
        await ASYNC[task.approach](task.urls, task.run, _tell, task.parse_timeout)
    return heart.worst


def _tell(url: str, error: BaseException | None) -> None:
    _print({"url": url, "error": None if error is None else _name(error)})


def _name(error: BaseException) -> str:
    """A word for the error: its HTTP status if it has one, else its class."""
    status = getattr(error, "status", None)
    return f"HTTP {status}" if status else type(error).__name__


def _print(message: object) -> None:
    print(json.dumps(message), flush=True)


def _end_with_parent() -> None:
    """However the parent ends, its end of the pipe is closed, and so are we."""
    # Not through sys.stdin, whose lock a forked worker would inherit, held, and wait for.
    while os.read(0, 1024):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
