"""Numbers that processes share: each adds to them under the lock of the array."""

import asyncio
import os
import signal
import sys

from aioconc import TaskGroup, WorkerCrashed, offload_cpu
from aioconc.channels import SharedArray
from aioconc.errors import OwnerDied


def count(numbers: SharedArray, times: int) -> None:
    for _ in range(times):
        with numbers.lock.sync:
            numbers.view[0] += 1


def die_with_the_lock(numbers: SharedArray) -> None:
    with numbers.lock.sync:
        numbers.view[0] += 1
        os.kill(os.getpid(), signal.SIGKILL)


async def main(*, dies: bool) -> None:
    with SharedArray(3, "int64", lock=True) as numbers:
        async with TaskGroup() as group:
            for _ in range(2):
                group.create_task(offload_cpu(count, numbers, 1_000))
        print("counted to", numbers.view[0])
        if dies:
            try:
                await offload_cpu(die_with_the_lock, numbers)
            except WorkerCrashed:
                pass
            try:
                async with numbers.lock:
                    print("nobody said that the holder died")
            except OwnerDied:
                async with numbers.lock.recover():
                    numbers.view[0] -= 1  # put right what was half done
                print("recovered, and counted to", numbers.view[0])


if __name__ == "__main__":
    asyncio.run(main(dies="die" in sys.argv))
