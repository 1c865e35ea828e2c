"""What a channel promises, wherever the other end lives: in a task, a thread, a process."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import numpy as np
import pytest

from aioconc.channels import BrokenChannel, Channel, ChannelClosed, EndOfStream, open_channel
from aioconc.errors import SerializationError
from tests.contracts.channel_peers import KINDS, Unloadable, peer_of

CAPACITY = 8


@pytest.fixture(
    params=[
        pytest.param(kind, marks=pytest.mark.slow if kind in ("worker", "spawn") else ())
        for kind in KINDS
    ]
)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Channel[Any], Any]]:
    """An end, and who has the other one."""
    ours, theirs = open_channel(capacity=CAPACITY, max_frame=1 << 24)
    async with ours, peer_of(request.param, theirs) as peer:
        yield ours, peer


async def test_items_go_both_ways_in_order(pair: Any) -> None:
    """One by one, each end gets what the other sends."""
    ours, peer = pair
    for item in (1, "two", {"three": [3.0]}, None):
        await ours.send(item)
        assert await peer.do("receive") == item
        await peer.do("send", item)
        assert await ours.receive() == item


async def test_many_go_as_they_would_one_by_one(pair: Any) -> None:
    """More items than there is room for, from an iterator, come in order."""
    ours, peer = pair
    sending = asyncio.ensure_future(ours.send_many(iter(range(100))))
    found: list[int] = []
    while len(found) < 100:
        some = await peer.do("receive_many", 5)
        assert 1 <= len(some) <= 5
        found += some
    await sending
    assert found == list(range(100))
    await ours.send_many([])
    sending = asyncio.ensure_future(peer.do("send_many", list(range(100))))
    found = []
    while len(found) < 100:
        found += await ours.receive_many(1_000)
    await sending
    assert found == list(range(100))


async def test_half_a_close_ends_one_direction_after_the_last_item(pair: Any) -> None:
    """What was sent before is received, then the end; the other direction goes on."""
    ours, peer = pair
    await ours.send_many([1, 2, 3])
    await ours.close_send()
    await ours.close_send()
    assert await peer.do("drain") == [1, 2, 3]
    with pytest.raises(EndOfStream):
        await peer.do("receive")
    with pytest.raises(ChannelClosed, match="close_send"):
        await ours.send(4)
    await peer.do("send", "still here")
    assert await ours.receive() == "still here"
    await peer.do("close_send")
    with pytest.raises(anyio.EndOfStream):
        await ours.receive()


async def test_send_waits_for_room_and_a_time_out_sends_nothing(pair: Any) -> None:
    """No more than `capacity` items are on their way; who gave up has sent nothing."""
    ours, peer = pair
    await ours.send_many(range(CAPACITY))
    with pytest.raises(TimeoutError, match="no room"):
        await ours.send("late", timeout=0.01)
    with pytest.raises(TimeoutError):
        await ours.send_many(["late"], timeout=0)
    waits = asyncio.ensure_future(ours.send("in time"))
    assert [await peer.do("receive") for _ in range(CAPACITY)] == list(range(CAPACITY))
    await waits
    assert await peer.do("receive") == "in time"
    with pytest.raises(TimeoutError):
        await peer.do("receive", timeout=0)


async def test_peer_waits_for_room_too(pair: Any) -> None:
    """The bound holds in the other direction."""
    ours, peer = pair
    await peer.do("send_many", list(range(CAPACITY)))
    with pytest.raises(TimeoutError, match="no room"):
        await peer.do("send", "late", timeout=0.01)
    assert await ours.receive() == 0
    assert [await ours.receive() for _ in range(CAPACITY - 1)] == list(range(1, CAPACITY))
    await peer.do("send", "in time")
    assert await ours.receive() == "in time"


async def test_receive_that_gives_up_loses_nothing(pair: Any) -> None:
    """Neither a time-out nor a cancel takes an item."""
    ours, peer = pair
    with pytest.raises(TimeoutError, match="no item"):
        await ours.receive(timeout=0.01)
    waits = asyncio.ensure_future(ours.receive())
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait([waits])
    await peer.do("send", 1)
    assert await ours.receive() == 1
    with pytest.raises(TimeoutError):
        await peer.do("receive_many", 3, timeout=0.01)
    await ours.send(2)
    assert await peer.do("receive") == 2


async def test_bytes_travel_as_they_are(pair: Any) -> None:
    """Bytes of any length; `receive_bytes` leaves alone what was sent otherwise."""
    ours, peer = pair
    for size in (0, 10, 70_000, 3_000_000):
        data = bytes(size)
        await ours.send_bytes(memoryview(data))
        assert await peer.do("receive_bytes") == data
        await peer.do("send_bytes", data)
        assert await ours.receive() == data
    await ours.send("text")
    with pytest.raises(TypeError, match="take it with receive"):
        await peer.do("receive_bytes")
    assert await peer.do("receive") == "text"
    await peer.do("send", "text")
    with pytest.raises(TypeError, match="take it with receive"):
        await ours.receive_bytes()
    assert await ours.receive() == "text"
    with pytest.raises(TypeError, match="send_bytes takes bytes"):
        await ours.send_bytes("text")


async def test_arrays_arrive_whole_and_in_order(pair: Any) -> None:
    """Large buffers between small items, in both directions; they arrive read-only."""
    ours, peer = pair
    array = np.arange(400_000, dtype="f8")
    for item in (1, array, 2, array[:100], array[:20_000], array):
        sending = asyncio.ensure_future(ours.send(item))
        found = await peer.do("receive")
        await sending
        assert np.array_equal(found, item)
        sending = asyncio.ensure_future(peer.do("send", found))
        back = await ours.receive()
        await sending
        assert np.array_equal(back, item)
        if isinstance(back, np.ndarray) and back.size > 10_000:
            assert not back.flags.writeable
    await ours.send_many([array, 1, 2, array, 3])
    assert [np.size(await peer.do("receive")) for _ in range(5)] == [400_000, 1, 1, 400_000, 1]


async def test_what_cannot_be_sent_raises_in_the_sender(pair: Any) -> None:
    """Unpicklable and too large items raise where they are sent, and nothing of them arrives."""
    ours, peer = pair
    with pytest.raises(SerializationError, match="type lock cannot be sent"):
        await ours.send(threading.Lock())
    with pytest.raises(ValueError, match=r"at most max_frame=16777216 bytes"):
        await ours.send(bytes(1 << 24))
    with pytest.raises(ValueError, match="max_frame"):
        await ours.send_bytes(bytes((1 << 24) + 1))
    with pytest.raises(SerializationError):
        await ours.send_many([1, 2, threading.Lock(), 3])
    await ours.close_send()
    assert await peer.do("drain") == [1, 2]


async def test_what_cannot_be_received_fails_one_receive(pair: Any) -> None:
    """An item that cannot be unpickled costs itself, also among many."""
    ours, peer = pair
    await ours.send_many([1, Unloadable(), 3, Unloadable(), 5])
    assert await peer.do("receive") == 1
    with pytest.raises(SerializationError, match="ValueError: not today"):
        await peer.do("receive")
    assert await peer.do("receive_many", 10) == [3]
    with pytest.raises(SerializationError, match="not today"):
        await peer.do("receive_many", 10)
    assert await peer.do("receive_many", 10) == [5]


async def test_close_of_the_peer_lets_take_what_it_sent(pair: Any) -> None:
    """Its items are received, then the end; what is sent to it is refused with a count."""
    ours, peer = pair
    await ours.send_many([1, 2])
    await peer.do("send_many", [3, 4])
    await peer.do("close")
    await peer.do("close")
    assert [item async for item in ours] == [3, 4]
    with pytest.raises(BrokenChannel, match="was closed and takes no more") as caught:
        await ours.send(5)
    assert caught.value.undelivered == 2
    assert isinstance(caught.value, anyio.BrokenResourceError)
    for name, arguments in (("receive", ()), ("send", (6,))):
        with pytest.raises(ChannelClosed):
            await peer.do(name, *arguments)


async def test_close_here_ends_all_who_wait(pair: Any) -> None:
    """Those who wait at this end hear that it is closed, at the other end that it sends no more."""
    ours, peer = pair
    await ours.send_many(range(CAPACITY))
    waits = [asyncio.ensure_future(each) for each in (ours.receive(), ours.send(9))]
    await asyncio.sleep(0)
    await ours.aclose()
    for each in waits:
        with pytest.raises(ChannelClosed):
            await each
    await ours.aclose()
    assert await peer.do("drain") == list(range(CAPACITY))
    with pytest.raises(BrokenChannel):
        await peer.do("send", 1)
    with pytest.raises(ChannelClosed):
        await ours.receive()


async def test_both_send_more_than_the_system_buffers_before_one_receives() -> None:
    """A send goes on reading, so two ends that only send do not hold up each other."""
    count = 3_000
    ours, theirs = open_channel(capacity=count)
    payload = "x" * 200
    async with ours, theirs:
        await asyncio.gather(
            ours.send_many((payload, n) for n in range(count)),
            asyncio.to_thread(theirs.sync.send_many, [(payload, n) for n in range(count)]),
        )
        for end in (ours, theirs):
            for n in range(count):
                assert await end.receive() == (payload, n)


@pytest.mark.slow
@pytest.mark.loops("uvloop")
@pytest.mark.parametrize("kind", KINDS)
async def test_both_sides_send_a_hundred_thousand_before_they_receive(kind: str) -> None:
    """The same with a hundred thousand items, wherever the other end is."""
    count = 100_000
    ours, theirs = open_channel(capacity=count)
    async with ours, peer_of(kind, theirs) as peer:
        await asyncio.gather(ours.send_many(range(count)), peer.do("send_many", list(range(count))))
        await ours.close_send()
        received = asyncio.ensure_future(peer.do("drain"))
        found: list[int] = []
        while len(found) < count:
            found += await ours.receive_many(count)
        assert found == list(range(count)) == await received
