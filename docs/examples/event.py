"""Wait for an event: as long as it takes, and for so many seconds at most; in a task and in a thread."""

import asyncio

from aioconc import Event, TaskGroup, move_on_after, offload_io


async def patient(opened: Event) -> None:
    await opened.wait()
    print("patient: it is open")


async def impatient(opened: Event) -> None:
    while not opened.is_set():
        with move_on_after(0.02):
            await opened.wait()
            continue
        print("impatient: not yet, so do something else")
    print("impatient: it is open")


def in_thread(opened: Event) -> None:
    print("thread: open within 0.02 s?", opened.sync.wait(timeout=0.02))
    print("thread: open at last?", opened.sync.wait())


async def main() -> None:
    opened = Event()
    async with TaskGroup() as group:
        group.create_task(patient(opened))
        group.create_task(impatient(opened))
        group.create_task(offload_io(in_thread, opened))
        await asyncio.sleep(0.1)
        opened.set()


if __name__ == "__main__":
    asyncio.run(main())
