"""A producer and consumers on a condition: as a task, and in a thread that waits for the same one."""

import asyncio
import sys

from aioconc import Condition, TaskGroup, offload_io


class Store:
    def __init__(self) -> None:
        self.changed = Condition()
        self.items: list[int] = []

    async def produce(self, count: int, *, fails: bool) -> None:
        for number in range(count):
            await asyncio.sleep(0.01)  # stands for work
            if fails and number == 1:
                raise RuntimeError("the supplier is closed")
            async with self.changed:
                self.items.append(number)
                self.changed.notify()

    async def consume(self, count: int) -> None:
        for _ in range(count):
            async with self.changed:
                await self.changed.wait_for(lambda: self.items)
                print("task took", self.items.pop(0))

    def consume_in_thread(self, count: int) -> None:
        for _ in range(count):
            with self.changed.sync:
                self.changed.sync.wait_for(lambda: self.items)
                print("thread took", self.items.pop(0))


async def main(*, fails: bool) -> None:
    store = Store()
    async with TaskGroup() as group:
        group.create_task(store.consume(2))
        if not fails:
            group.create_task(offload_io(store.consume_in_thread, 2))
        group.create_task(store.produce(4, fails=fails))


if __name__ == "__main__":
    try:
        asyncio.run(main(fails="fail" in sys.argv))
    except* RuntimeError as errors:
        print("the consumers were cancelled, since", errors.exceptions[0])
