"""Producers and a consumer in processes, with items of any size between them and no sentinel."""

import asyncio
import os
import signal
import sys

from aioconc import ProcessExecutor, TaskGroup, WorkerCrashed
from aioconc.channels import Manager, SharedQueue, open_manager


def produce(queue: SharedQueue[bytes], count: int) -> None:
    for _ in range(count):
        queue.sync.put(bytes(100_000))  # waits while the queue is full


def consume(queue: SharedQueue[bytes]) -> int:
    return sum(len(item) for item in queue.sync)  # ends at the shutdown


def produce_and_die(queue: SharedQueue[bytes], count: int) -> None:
    produce(queue, count)
    os.kill(os.getpid(), signal.SIGKILL)


async def pipeline(pool: ProcessExecutor, manager: Manager, *, dies: bool) -> int:
    queue = manager.Queue(maxsize=4)
    async with TaskGroup() as group:
        total = group.start_soon(pool.run, consume, queue)
        async with TaskGroup() as producers:
            producers.start_soon(pool.run, produce, queue, 10)
            producers.start_soon(pool.run, produce_and_die if dies else produce, queue, 10)
        queue.shutdown()
    return total.result()


async def main(*, dies: bool) -> None:
    async with ProcessExecutor(3) as pool, open_manager() as manager:
        print("consumed", await pipeline(pool, manager, dies=dies), "bytes")


if __name__ == "__main__":
    try:
        asyncio.run(main(dies="die" in sys.argv))
    except* WorkerCrashed:
        print("the consumer was ended too, since a producer crashed")
