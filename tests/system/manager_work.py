"""What worker processes do with shared objects in the tests."""

import asyncio
import os
import time
from typing import Any


def hold(lock: Any, event: Any = None) -> None:
    """Take it and never give it back."""
    lock.sync.acquire()
    if event is not None:
        event.sync.set()
        time.sleep(60)


def hold_and_exit(lock: Any, code: int) -> None:
    """Take it and end the process."""
    lock.sync.acquire()
    os._exit(code)


async def hold_async(lock: Any, event: Any) -> None:
    """Take it in the worker's loop, and stay."""
    async with lock:
        event.set()
        await asyncio.sleep(60)


def count(lock: Any, table: Any, times: int) -> int:
    """Add to a number under a lock."""
    for _ in range(times):
        with lock.sync:
            table.sync["n"] = table.sync.get("n", 0) + 1
    return os.getpid()


async def count_async(lock: Any, table: Any, times: int) -> int:
    """The same in the worker's loop."""
    for _ in range(times):
        async with lock:
            await table.set("n", await table.get("n", 0) + 1)
    return os.getpid()


def give_back(shared: Any) -> Any:
    """Return the object itself."""
    return shared


def same(*objects: Any) -> tuple[bool, int]:
    """Whether they are equal, and how many connections the process has."""
    from aioconc.channels._manager import _shared

    return len({*objects}) == 1, len(_shared._clients)


def hand_on(lock: Any, table: Any) -> Any:
    """Give the objects to a process of this process."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    process = context.Process(target=count, args=(lock, table, 3))
    process.start()
    process.join()
    return process.exitcode


def get_and_hang(items: Any, event: Any) -> None:
    """Take an item, and do nothing with it."""
    items.sync.get()
    event.sync.set()
    time.sleep(60)


def consume(items: Any) -> list[Any]:
    """All items until the end."""
    found = []
    for item in items.sync:
        found.append(item)
        items.sync.task_done()
    return found


def wait_for(event: Any) -> bool:
    """Wait."""
    waited: bool = event.sync.wait()
    return waited


async def wait_for_async(event: Any) -> bool:
    """Wait in the worker's loop."""
    return bool(await event.wait())


def talk_and_end(lock: Any, event: Any) -> None:
    """Say more than a socket takes, the release last, and end without waiting."""

    async def main() -> None:
        await lock.acquire()
        for _ in range(20_000):
            event.set()
        lock.release()

    asyncio.run(main())
