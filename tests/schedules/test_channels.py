"""Explored orders and cancels at every await of two ends of a channel in one process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aioconc.channels import BrokenChannel, Channel, ChannelClosed, EndOfStream, open_channel
from aioconc.testing import cancel_everywhere, explore

Program = Callable[[], Awaitable[None]]


async def conservation() -> None:
    """What was sent was received or is left, in order for each sender, whoever is cancelled."""
    ours, theirs = open_channel(capacity=2)
    sent: list[int] = []
    received: list[int] = []

    async def send(first: int) -> None:
        for number in range(first, first + 3):
            await ours.send(number)
            sent.append(number)

    async def receive() -> None:
        async for item in theirs:
            received.append(item)
            await asyncio.sleep(0)

    async with ours, theirs:
        senders = [asyncio.create_task(send(first)) for first in (0, 10)]
        receivers = [asyncio.create_task(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        senders[0].cancel()
        receivers[0].cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        await ours.close_send()
        await asyncio.gather(*receivers, return_exceptions=True)
        received += [item async for item in theirs]
    assert sorted(received) == sorted(sent)


async def batches() -> None:
    """Many at once, in both directions, more than there is room for."""
    ours, theirs = open_channel(capacity=3)

    async def both(channel: Channel[Any]) -> list[int]:
        sending = asyncio.create_task(channel.send_many(range(8)))
        found: list[int] = []
        while len(found) < 8:
            found += await channel.receive_many(4)
        await sending
        return found

    async with ours, theirs:
        for found in await asyncio.gather(both(ours), both(theirs)):
            assert found == list(range(8))


async def closing() -> None:
    """Who waits when the other end is closed hears of it."""
    ours, theirs = open_channel(capacity=1)
    await ours.send(1)
    waits = [
        asyncio.create_task(ours.send(2)),
        asyncio.create_task(ours.receive()),
        asyncio.create_task(theirs.aclose()),
    ]
    outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(outcomes[0], BrokenChannel)
    assert isinstance(outcomes[1], EndOfStream)
    await ours.aclose()
    with pytest.raises(ChannelClosed):
        await ours.receive()


PROGRAMS: dict[str, Program] = {each.__name__: each for each in (conservation, batches, closing)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_promise_holds_in_every_explored_order(name: str) -> None:
    """Thirty orders each."""
    explore(PROGRAMS[name], budget=30)


def test_a_receive_cancelled_anywhere_takes_nothing() -> None:
    """At every await: what was sent is received, or is left for the next one."""
    made: list[Any] = []

    async def program() -> None:
        ours, theirs = open_channel(capacity=2)
        received: list[int] = []
        made.append((theirs, received))
        try:
            sending = asyncio.create_task(ours.send_many(range(5)))
            try:
                while len(received) < 5:
                    received.append(await theirs.receive())
            finally:
                while len(received) < 5:
                    received.append(await theirs.receive())
                await asyncio.wait([sending])
        finally:
            await ours.aclose()
            await theirs.aclose()

    def check() -> None:
        _, received = made[-1]
        assert received == list(range(5))

    cancel_everywhere(program, check=check)


def test_a_send_cancelled_anywhere_sends_all_or_nothing() -> None:
    """At every await: an item whose send did not end was not sent."""
    made: list[Any] = []

    async def program() -> None:
        ours, theirs = open_channel(capacity=1)
        sent: list[int] = []
        received: list[int] = []
        made.append((sent, received))

        async def drain() -> None:
            async for item in theirs:
                received.append(item)  # noqa: PERF401  # seen while it goes on

        async with ours, theirs:
            draining = asyncio.create_task(drain())
            try:
                for number in range(4):
                    await ours.send(number)
                    sent.append(number)
            finally:
                await ours.close_send()
                try:
                    await asyncio.wait([draining])
                finally:
                    # The task goes on also if this one was cancelled just now.
                    await asyncio.wait([draining])

    def check() -> None:
        sent, received = made[-1]
        assert received == sent

    cancel_everywhere(program, check=check)
