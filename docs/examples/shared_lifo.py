"""A stack of work that processes share: the newest first, and all of it done."""

import asyncio

from aioconc import ProcessExecutor, TaskGroup
from aioconc.channels import SharedLifoQueue, open_manager


def work(stack: SharedLifoQueue[int]) -> list[int]:
    done = []
    for depth in stack.sync:  # ends once it was shut down and is empty
        done.append(depth)
        stack.task_done()
    return done


async def main() -> None:
    async with ProcessExecutor(2) as pool, open_manager() as manager:
        stack = manager.LifoQueue()
        for depth in range(20):
            await stack.put(depth)
        stack.shutdown()
        async with TaskGroup() as group:
            workers = [group.start_soon(pool.run, work, stack) for _ in range(2)]
        done = [each.result() for each in workers]
    print("newest first:", all(each == sorted(each, reverse=True) for each in done))
    print("left undone:", 20 - sum(map(len, done)))


if __name__ == "__main__":
    asyncio.run(main())
