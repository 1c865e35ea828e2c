"""Threads and tasks share ends under switches at nearly every line: nothing is lost, nobody hangs."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioconc.channels import Channel, open_channel

pytestmark = pytest.mark.slow

# Items of each sender.
COUNT = 60


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(*calls: Callable[[], object]) -> None:
    """Call each in a thread of its own, and wait for all."""
    threads = [threading.Thread(target=call) for call in calls]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def send(channel: Channel[Any], first: int) -> None:
    for number in range(first, first + COUNT):
        channel.sync.send(number)


@pytest.mark.parametrize("capacity", [1, 3, 50])
def test_threads_that_send_and_receive_at_once(capacity: int) -> None:
    """Whoever leads hands over, also when it was woken to lead and has what it waited for."""
    for _ in range(8):
        ours, theirs = open_channel(capacity=capacity)
        received: list[int] = []
        receivers = [
            threading.Thread(target=lambda: received.extend(theirs.sync))  # noqa: B023
            for _ in range(4)
        ]
        for each in receivers:
            each.start()
        firsts = range(0, 240, COUNT)
        in_threads(*(lambda first=first, end=ours: send(end, first) for first in firsts))
        ours.sync.close_send()
        for each in receivers:
            each.join()
        assert sorted(received) == list(range(240))
        ours.sync.close()
        theirs.sync.close()


def test_threads_of_both_ends_go_both_ways() -> None:
    """Each end sends and receives in several threads."""
    for _ in range(6):
        ends = open_channel(capacity=2)
        received: tuple[list[int], list[int]] = ([], [])

        def receive(which: int) -> None:
            for _ in range(COUNT):
                received[which].append(ends[which].sync.receive())  # noqa: B023

        in_threads(
            *(lambda which=which: receive(which) for which in (0, 0, 1, 1)),
            *(lambda which=which: send(ends[which], which) for which in (0, 0, 1, 1)),  # noqa: B023
        )
        for which in (0, 1):
            first = 1 - which
            assert sorted(received[which]) == sorted([*range(first, first + COUNT)] * 2)
        for end in ends:
            end.sync.close()


async def test_tasks_and_threads_of_both_ends() -> None:
    """The loop and the thread that leads move the same bytes."""
    for _ in range(6):
        ours, theirs = open_channel(capacity=2)
        received: list[int] = []

        async def receive(channel: Channel[Any]) -> None:
            received.extend([item async for item in channel])  # noqa: B023

        async def send_all(channel: Channel[Any], first: int) -> None:
            for number in range(first, first + COUNT):
                await channel.send(number)

        receivers = [
            *(asyncio.create_task(receive(theirs)) for _ in range(2)),
            *(
                asyncio.create_task(asyncio.to_thread(lambda: received.extend(theirs.sync)))  # noqa: B023
                for _ in range(2)
            ),
        ]
        await asyncio.gather(
            send_all(ours, 0),
            asyncio.to_thread(send, ours, 60),
            send_all(ours, 120),
            asyncio.to_thread(send, ours, 180),
        )
        await ours.close_send()
        await asyncio.gather(*receivers)
        assert sorted(received) == list(range(240))
        await ours.aclose()
        await theirs.aclose()


def test_time_outs_among_threads_that_wait() -> None:
    """Who gives up hands over the lead, and takes nothing along."""
    ours, theirs = open_channel(capacity=4)
    received: list[int] = []
    lock = threading.Lock()

    def impatient() -> None:
        while True:
            try:
                item = theirs.sync.receive(timeout=0.0005)
            except TimeoutError:
                continue
            with lock:
                received.append(item)
            if item < 0:
                return

    receivers = [threading.Thread(target=impatient) for _ in range(4)]
    for each in receivers:
        each.start()
    in_threads(*(lambda first=first: send(ours, first) for first in range(0, 240, COUNT)))
    for _ in receivers:
        ours.sync.send(-1)
    for each in receivers:
        each.join()
    assert sorted(received) == [-1] * 4 + list(range(240))
    ours.sync.close()
    theirs.sync.close()
