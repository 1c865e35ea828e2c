"""Ten at the door and room for three: tasks, threads, and the short form."""

import asyncio

from aioconc import Semaphore, TaskGroup, gather_limited, offload_io, worker


class Room:
    def __init__(self) -> None:
        self.inside = self.most = 0

    async def stay(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0.01)
        self.inside -= 1


async def visit(room: Room, door: Semaphore) -> None:
    async with door:
        await room.stay()


def visit_in_thread(room: Room, door: Semaphore) -> None:
    with door.sync:  # the same three places, for a thread
        worker.call_in_loop(room.stay)  # counted in the loop, so nothing is shared


async def main() -> None:
    room, door = Room(), Semaphore(3)
    async with TaskGroup() as group:
        for _ in range(5):
            group.create_task(visit(room, door))
            group.create_task(offload_io(visit_in_thread, room, door))
    print("most at a time, five tasks and five threads:", room.most)

    room, door = Room(), Semaphore(10)
    await gather_limited((visit(room, door) for _ in range(10)), limit=3)
    print("most at a time, gather_limited(..., limit=3):", room.most)


if __name__ == "__main__":
    asyncio.run(main())
