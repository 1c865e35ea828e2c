"""What the tests of the task layer are made of: children, and waiting in passes of the loop."""

import asyncio


async def forever():
    await asyncio.Event().wait()


async def fails(error=None):
    await asyncio.sleep(0)
    raise error or ValueError("child")


def cancelling():
    """How many cancels of the current task are not taken back."""
    return asyncio.current_task().cancelling()


async def passes(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def ends_within(task, limit=200):
    """Wait for the task in passes of the loop; a group that hangs fails instead of waiting."""
    for _ in range(limit):
        if task.done():
            return await task
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    raise AssertionError("did not end")
