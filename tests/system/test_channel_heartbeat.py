"""A loop that reads as fast as items come has time for others."""

import asyncio
import time
from typing import Any

import pytest

from aioconc.channels import Channel, open_channel
from aioconc.executors import ProcessExecutor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def pour(channel: Channel[Any], count: int) -> None:
    with channel.sync as sender:
        sender.send_many(range(count))


async def turns_beside(count: int, *, many: bool) -> tuple[int, float]:
    """How often a task beside it had its turn, and the processor time of its longest wait."""
    ours, theirs = open_channel(capacity=10_000)
    turns, longest, last = 0, 0.0, time.thread_time()

    async def beside() -> None:
        nonlocal turns, longest, last
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            # What this thread has done meanwhile; what others did to the machine is not counted.
            now = time.thread_time()
            turns, longest, last = turns + 1, max(longest, now - last), now

    async with ours, ProcessExecutor(max_workers=1) as pool:
        work = asyncio.ensure_future(pool.run(pour, theirs, count))
        received = await ours.receive() + 1
        beating = asyncio.create_task(beside())
        while received < count:
            if many:
                received += len(await ours.receive_many(10_000))
            else:
                received = await ours.receive() + 1
        beating.cancel()
        await work
    return turns, longest


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)], ids=["short", "million"]
)
@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("many", [False, True], ids=["one by one", "many"])
async def test_a_heartbeat_slips_by_less_than_ten_milliseconds(count: int, many: bool) -> None:
    """By the clock of the processor, so that a busy machine does not count."""
    turns, longest = await turns_beside(count, many=many)
    assert turns >= count // 1_000
    assert longest < 0.010
