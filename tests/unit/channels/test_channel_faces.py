"""How an end of a channel is used: from tasks, threads, several loops, and where it must not be."""

import asyncio
import copy
import errno
import operator
import os
import pickle
import sys
import threading
import warnings
from array import array
from collections.abc import AsyncIterator
from typing import Any

import anyio.abc
import pytest

import aioconc
from aioconc._wire._channel import Machine
from aioconc.channels import (
    BrokenChannel,
    Channel,
    ChannelClosed,
    EndOfStream,
    PeerDied,
    open_channel,
)
from aioconc.errors import AioconcError, SerializationError


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel[Any], Channel[Any]]]:
    ours, theirs = open_channel(capacity=4)
    async with ours, theirs:
        yield ours, theirs


class LargeAndUnloadable:
    """Its buffer is copied in a thread when it is unpickled, and then it fails."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _refuse, (pickle.PickleBuffer(bytearray(2_000_000)),)


def _refuse(data: Any) -> None:
    raise ValueError("not today")


async def queued(call: Any) -> "asyncio.Task[Any]":
    """A task that has begun the call, and waits."""
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    assert not task.done()
    return task


@pytest.mark.parametrize("name", ["capacity", "max_frame"])
def test_bad_arguments_are_refused(name: str) -> None:
    """With the value and the rule, and before anything is opened."""
    with pytest.raises(ValueError, match=f"{name} must be an int >= 1, got 0"):
        open_channel(**{name: 0})
    with pytest.raises(TypeError, match=f"{name} must be an int >= 1, got 1.5"):
        open_channel(**{name: 1.5})


async def test_bad_timeouts_are_refused(ends: Any) -> None:
    """By both faces, for every call that has one."""
    ours, _ = ends
    for call in (ours.receive, ours.receive_bytes, ours.aclose):
        with pytest.raises(ValueError, match="timeout must be a number of seconds >= 0"):
            await call(timeout=-1)
    with pytest.raises(TypeError, match="timeout"):
        await ours.send(1, timeout="1")
    with pytest.raises(ValueError, match="max_items must be an int >= 1, got 0"):
        await ours.receive_many(0)
    with pytest.raises(ValueError, match="timeout"):
        await asyncio.to_thread(ours.sync.receive, timeout=-1)


async def test_blocking_a_running_loop_is_refused_with_the_right_line(ends: Any) -> None:
    """Every name of `sync` names the one to await instead."""
    ours, _ = ends
    calls: dict[str, tuple[Any, ...]] = {
        "receive": (),
        "receive_many": (1,),
        "receive_bytes": (),
        "send": (1,),
        "send_many": ([1],),
        "send_bytes": (b"",),
        "close_send": (),
        "close": (),
    }
    for name, arguments in calls.items():
        with pytest.raises(RuntimeError, match=r"would block the event loop.*await channel\."):
            getattr(ours.sync, name)(*arguments)
    with pytest.raises(RuntimeError, match="would block"):
        next(iter(ours.sync))
    assert ours.statistics().undelivered == 0


async def test_it_is_a_stream_of_anyio(ends: Any) -> None:
    """By its interface and by its errors."""
    ours, theirs = ends
    assert isinstance(ours, anyio.abc.ObjectStream)
    await ours.send(1)
    await ours.send_eof()
    assert [item async for item in theirs] == [1]
    for error, base in (
        (EndOfStream, anyio.EndOfStream),
        (ChannelClosed, anyio.ClosedResourceError),
        (BrokenChannel, anyio.BrokenResourceError),
        (PeerDied, BrokenChannel),
    ):
        assert issubclass(error, base) and issubclass(error, AioconcError)
    assert aioconc.open_channel is open_channel


def test_errors_cross_processes_unchanged() -> None:
    """With what they know."""
    error = pickle.loads(pickle.dumps(PeerDied("gone", pid=7, exitcode=-9, undelivered=3)))
    assert (error.pid, error.exitcode, error.undelivered, str(error)) == (7, -9, 3, "gone")


async def test_state_can_be_seen(ends: Any) -> None:
    """`repr` and `statistics` tell what is on its way."""
    ours, theirs = ends
    await ours.send_many([1, 2, 3])
    waits = await queued(ours.receive())
    assert ours.statistics().undelivered == 3
    assert ours.statistics().tasks_waiting == 1
    assert repr(ours) == (
        f"<Channel with process {os.getpid()}: 0 to receive, 3 sent and not known to be taken>"
    )
    assert repr(ours.sync) == repr(ours) + ".sync"
    assert await theirs.receive() == 1
    assert theirs.statistics().items_ready == 2
    assert theirs.statistics().peer == os.getpid()
    await theirs.send(0)
    assert await waits == 0
    await ours.aclose()
    assert repr(ours) == "<Channel, closed>"
    assert ours.statistics().closed


# ------------------------------------------------------------------ cancels in the tick


async def test_a_receiver_cancelled_in_the_tick_of_its_item_loses_none(ends: Any) -> None:
    """The item goes to the next one who waits, then comes first."""
    ours, theirs = ends
    first = await queued(theirs.receive())
    second = await queued(theirs.receive())
    await ours.send("x")
    while not theirs._end._reserved:  # until the item has arrived
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert await second == "x"
    third = await queued(theirs.receive())
    await ours.send("y")
    while not theirs._end._reserved:
        await asyncio.sleep(0)
    third.cancel()
    await asyncio.wait([third])
    assert await theirs.receive() == "y"


async def test_a_sender_cancelled_in_the_tick_of_its_room_sends_nothing(ends: Any) -> None:
    """The room goes to the next one who waits."""
    ours, theirs = ends
    await ours.send_many(range(4))
    first = await queued(ours.send("first"))
    second = await queued(ours.send("second"))
    third = await queued(ours.send("third"))
    assert [await theirs.receive() for _ in range(4)] == [0, 1, 2, 3]
    while not ours._end._places:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert first.cancelled()
    assert [await theirs.receive() for _ in range(2)] == ["second", "third"]
    assert ours.statistics().credits_free + ours.statistics().undelivered == 4


async def test_a_large_send_cancelled_while_it_is_copied_sends_nothing(ends: Any) -> None:
    """Its memory and its room are free again."""
    ours, theirs = ends
    task = asyncio.create_task(ours.send(bytes(20_000_000)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await ours.send("small")
    assert await theirs.receive() == "small"
    while ours._end._arenas.lent:
        await asyncio.sleep(0.001)


async def test_a_large_receive_cancelled_while_it_is_unpickled_loses_nothing(ends: Any) -> None:
    """The item is the next one again."""
    ours, theirs = ends
    await ours.send_many([1, bytearray(5_000_000), 2])
    assert await theirs.receive() == 1
    while theirs.statistics().items_ready < 2:
        await asyncio.sleep(0)
    task = asyncio.create_task(theirs.receive())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(await theirs.receive()) == 5_000_000
    assert await theirs.receive() == 2


async def test_a_large_item_that_cannot_be_unpickled_fails_one_receive(ends: Any) -> None:
    """Also where a thread unpickles it."""
    ours, theirs = ends
    await ours.send_many([LargeAndUnloadable(), 2])
    with pytest.raises(SerializationError, match="ValueError: not today"):
        await theirs.receive()
    assert await theirs.receive() == 2
    await ours.send(LargeAndUnloadable())
    with pytest.raises(SerializationError, match="not today"):
        await asyncio.to_thread(theirs.sync.receive)


async def test_a_large_pickle_goes_as_large_buffers_do(ends: Any) -> None:
    """Without any buffer in it."""
    ours, theirs = ends
    items = [str(number) for number in range(300_000)]
    await ours.send(items)
    assert await theirs.receive() == items
    await ours.send(items[:30_000])
    assert await theirs.receive() == items[:30_000]


async def test_without_memory_to_share_large_items_go_inline(
    ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More slowly; what the sender changes afterwards does not change them."""
    monkeypatch.setattr("aioconc._wire._memory.kind", "none")
    ours, theirs = ends
    data = bytearray(b"x" * 2_000_000)
    receiving = asyncio.create_task(theirs.receive())
    await ours.send(data)
    data[:] = b"y" * 2_000_000
    assert await receiving == b"x" * 2_000_000
    await ours.send_bytes(b"z" * 100_000)
    assert await theirs.receive_bytes() == b"z" * 100_000


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd")
async def test_too_many_descriptors_on_their_way_are_waited_for() -> None:
    """The system says so for all processes of a user together: the other end is not dead."""

    class Full:
        def __init__(self, sock: Any) -> None:
            self.sock = sock
            self.refused = 0

        def sendmsg(self, *args: Any) -> Any:
            self.refused += 1
            if self.refused < 4:
                raise OSError(errno.ETOOMANYREFS, "too many references")
            return self.sock.sendmsg(*args)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    ours, theirs = open_channel()
    end: Any = ours._end
    async with ours, theirs:
        end._sock = full = Full(end._sock)
        await ours.send(memoryview(bytearray(100_000)))
        assert len(await theirs.receive(timeout=20)) == 100_000
        assert full.refused == 4
        end._sock = full.sock


async def test_without_descriptors_for_the_loop_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An item is sent or refused, and never both; one that was taken is had."""
    ours, theirs = open_channel(capacity=2)
    await asyncio.to_thread(theirs.sync.send, "there")
    ours._end._read()

    def dup(fd: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "dup", dup)
        await ours.send("here")
        assert await ours.receive() == "there"
        with pytest.raises(OSError, match="too many"):
            await ours.receive()
    async with ours, theirs:
        assert await theirs.receive() == "here"
        await theirs.send("again")
        assert await ours.receive() == "again"


async def test_receivers_share_evenly(ends: Any) -> None:
    """Items go around among those who wait, in the order of arrival."""
    ours, theirs = ends
    shares = [0, 0, 0]

    async def receive(which: int) -> None:
        async for _ in theirs:
            shares[which] += 1

    tasks = [await queued(receive(which)) for which in range(3)]
    await ours.send_many(range(300))
    await ours.close_send()
    await asyncio.gather(*tasks)
    assert sum(shares) == 300
    assert max(shares) < 200


async def test_a_channel_that_never_waits_leaves_the_loop_its_turn() -> None:
    """Another task has its turn at least each few hundred items."""
    ours, theirs = open_channel(capacity=5_000)
    turns = 0

    async def beside() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with ours, theirs:
        other = asyncio.create_task(beside())
        for number in range(2_000):
            await ours.send(number)
        sent = turns
        await theirs.receive()
        while theirs.statistics().items_ready < 1_999:
            await asyncio.sleep(0)
        before = turns
        for _ in range(1_999):
            await theirs.receive()
        other.cancel()
        assert sent >= 2_000 // 64 - 1
        assert turns - before >= 1_999 // 64 - 1


# ------------------------------------------------------------------ loops and threads


def test_two_loops_one_after_another() -> None:
    """An end that was used in one loop works in the next, and without any."""
    ours, theirs = open_channel()

    async def exchange(item: int) -> int:
        await ours.send(item)
        return await theirs.receive()  # type: ignore[no-any-return]

    assert asyncio.run(exchange(1)) == 1
    assert asyncio.run(exchange(2)) == 2
    ours.sync.send(3)
    assert theirs.sync.receive() == 3
    assert asyncio.run(exchange(4)) == 4
    ours.sync.close()
    theirs.sync.close()


def test_one_loop_left_bytes_behind_and_the_next_sends_them() -> None:
    """What one loop could not send before it ended goes out with the next call."""
    ours, theirs = open_channel()
    big = ["x" * 50_000] * 30
    asyncio.run(ours.send_many(big))
    assert ours.statistics().bytes_unsent

    async def rest() -> list[str]:
        await ours.send("last")
        return [await theirs.receive() for _ in range(31)]

    assert asyncio.run(rest()) == [*big, "last"]
    ours.sync.close()
    theirs.sync.close()


def test_who_waits_sends_what_another_loop_left_behind() -> None:
    """The other end answers once it has all of a request that one loop began to send."""
    ours, theirs = open_channel()
    asyncio.run(ours.send("x" * 900_000))
    assert ours.statistics().bytes_unsent

    def answer() -> None:
        theirs.sync.send(len(theirs.sync.receive()))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    assert asyncio.run(ours.receive(timeout=20)) == 900_000
    thread.join()
    ours.sync.close()
    theirs.sync.close()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd")
def test_memory_goes_back_in_the_next_loop_if_one_was_closed_before_it_did() -> None:
    """What a loop was told and never did is no reason to tell the next one nothing."""
    ours, theirs = open_channel()
    arenas = ours._end._arenas
    item = memoryview(array("q", [1] * 50_000))
    ours.sync.send(item)
    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(theirs.receive())
    del first  # while the loop does not run
    loop.close()
    ours.sync.send(item)

    async def read_and_return() -> int:
        second = await theirs.receive()
        del second
        for _ in range(1_000):
            await asyncio.sleep(0)
            with ours._end._mutex:
                ours._end._read()
            if not arenas.lent:
                break
        return arenas.lent

    assert asyncio.run(read_and_return()) == 0
    ours.sync.close()
    theirs.sync.close()


def test_who_waited_in_a_closed_loop_may_be_collected_at_any_line() -> None:
    """Also at one that has the mutex; others are served in its place."""
    ours, theirs = open_channel()
    loop = asyncio.new_event_loop()
    call = theirs.receive()
    task = loop.create_task(call)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    end = theirs._end

    def collect() -> None:
        with end._mutex:
            call.close()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    ours.sync.send("for another")
    assert theirs.sync.receive(timeout=20) == "for another"
    ours.sync.close()
    theirs.sync.close()


async def test_tasks_and_threads_share_an_end(ends: Any) -> None:
    """Each item goes to one of them, and nobody is left waiting."""
    ours, theirs = ends
    received: list[int] = []
    count = 600

    def in_thread() -> None:
        received.extend(theirs.sync)

    async def in_task() -> None:
        received.extend([item async for item in theirs])

    receivers = [
        *(asyncio.create_task(asyncio.to_thread(in_thread)) for _ in range(2)),
        *(asyncio.create_task(in_task()) for _ in range(2)),
    ]
    await asyncio.gather(
        ours.send_many(range(0, count, 2)),
        asyncio.to_thread(ours.sync.send_many, range(1, count, 2)),
    )
    await ours.close_send()
    await asyncio.gather(*receivers)
    assert sorted(received) == list(range(count))


def test_threads_alone_share_both_ends() -> None:
    """Four threads send and four receive, without any loop."""
    ours, theirs = open_channel(capacity=3)
    received: list[int] = []
    sender, receiver = ours.sync, theirs.sync

    def send(first: int) -> None:
        for number in range(first, first + 100):
            sender.send(number)

    def receive() -> None:
        received.extend(receiver)

    senders = [threading.Thread(target=send, args=(first,)) for first in range(0, 400, 100)]
    receivers = [threading.Thread(target=receive) for _ in range(4)]
    for each in senders + receivers:
        each.start()
    for each in senders:
        each.join()
    sender.close_send()
    for each in receivers:
        each.join()
    assert sorted(received) == list(range(400))
    sender.close()
    receiver.close()


def test_the_thread_that_leads_hands_over_when_it_leaves() -> None:
    """A time-out of the one that polls leaves the others served."""
    ours, theirs = open_channel()
    got: list[Any] = []

    def impatient() -> None:
        with pytest.raises(TimeoutError):
            theirs.sync.receive(timeout=0.05)

    def patient() -> None:
        got.append(theirs.sync.receive())

    first = threading.Thread(target=impatient)
    first.start()
    while theirs._end._leader is None:
        pass
    second = threading.Thread(target=patient)
    second.start()
    first.join()
    ours.sync.send("late")
    second.join()
    assert got == ["late"]
    ours.sync.close()
    theirs.sync.close()


# ------------------------------------------------------------------ ends


async def test_close_has_the_time_it_was_given_to_send_the_rest() -> None:
    """Beyond it the loss is told with a count, and the other end sees a death."""
    ours, theirs = open_channel()
    await ours.send_many(["x" * 100_000] * 20)
    with pytest.raises(BrokenChannel, match="before all was sent") as caught:
        await ours.aclose(timeout=0.01)
    assert caught.value.undelivered == 20
    received = 0
    with pytest.raises(PeerDied):
        while True:
            await theirs.receive()
            received += 1
    assert received < 20
    await theirs.aclose()


async def test_a_cancelled_close_has_closed(ends: Any) -> None:
    """What was not sent is lost; nothing stays open."""
    ours, theirs = ends
    await ours.send_many(["x" * 500_000] * 4)
    task = await queued(ours.aclose(timeout=None))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ours._end._sock.fileno() == -1
    with pytest.raises(PeerDied):
        while True:
            await theirs.receive()


async def test_an_end_that_is_dropped_warns_and_is_a_death(ends: Any) -> None:
    """Not a clean close: the other end is told, and so is the program."""
    ours, theirs = open_channel()
    await ours.send("before")
    with pytest.warns(ResourceWarning, match="dropped without being closed"):
        del ours
    assert await theirs.receive() == "before"
    with pytest.raises(PeerDied, match="in this process, was dropped") as caught:
        await theirs.receive()
    assert caught.value.exitcode is None
    with pytest.raises(PeerDied):
        await theirs.send(1)
    await theirs.aclose()


@pytest.mark.parametrize("lock", ["_mutex", "_arenas._lock", "_loans.mappings._lock"])
async def test_an_end_that_is_dropped_in_the_middle_of_its_own_work_hangs_nobody(lock: str) -> None:
    """The garbage collector may come at a line that has the mutex of the end."""
    ours, theirs = open_channel()
    held = operator.attrgetter(lock)(ours._end)
    with pytest.warns(ResourceWarning, match="dropped without being closed"), held:
        del ours
    with pytest.raises(PeerDied):
        await theirs.receive(timeout=10)
    await theirs.aclose()


def test_a_thread_that_is_interrupted_leaves_an_end_that_can_be_closed() -> None:
    """Ctrl+C may come at any line, also at one that takes an item."""

    class Interrupted(Machine):
        __slots__ = ()

        def take(self) -> Any:
            raise KeyboardInterrupt

    ours, theirs = open_channel()
    ours.sync.send(1)
    ours.sync.send(2)
    assert theirs.sync.receive() == 1
    theirs._end._read()
    theirs._end.machine.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        theirs.sync.receive()
    assert not theirs._end._mutex.locked()
    theirs.sync.close()
    ours.sync.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_closes_each_copy_once() -> None:
    """Also that of what wakes a thread: its number may be in use again when the end is dropped."""
    ours, theirs = open_channel()
    with pytest.raises(TimeoutError):
        theirs.sync.receive(timeout=0)
    assert theirs._end._waker is not None
    number = theirs._end._waker.fd
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        status = 1
        try:
            os.dup2(2, number)  # the next to have the number
            theirs._end._waker = None
            os.fstat(number)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ours.sync.close()
    theirs.sync.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_use_in_a_forked_child_raises() -> None:
    """And the child's copies of the descriptors do not keep the end of the parent's from showing."""
    ours, theirs = open_channel()
    ours.sync.send(1)
    hold, release = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        status = 1
        try:
            os.close(release)
            try:
                theirs.sync.receive()
            except RuntimeError as error:
                status = 0 if "was made in the parent" in str(error) else 2
            # Ends are equal there, and one that is made there works.
            left, right = open_channel()
            left.sync.send("ok")
            status = status or right.sync.receive() != "ok"
            os.read(hold, 1)  # lives on, with whatever it has inherited
        finally:
            os._exit(status)
    os.close(hold)
    ours._end.abandon()
    assert theirs.sync.receive(timeout=10) == 1
    with pytest.raises(PeerDied):
        theirs.sync.receive(timeout=10)
    os.close(release)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    theirs.sync.close()


# ------------------------------------------------------------------ moving


async def test_an_end_cannot_be_copied_or_kept_in_a_pickle(ends: Any) -> None:
    """It moves to a process or stays; a refusal leaves it as it was."""
    ours, theirs = ends
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="Channel"):
            attempt(ours)
    await ours.send(1)
    assert await theirs.receive() == 1


async def test_a_channel_travels_in_a_channel(ends: Any) -> None:
    """An end that was sent is used where it was received, with what it had."""
    ours, theirs = ends
    inner, outer = open_channel(capacity=2)
    await inner.send("kept")
    await ours.send(outer)
    assert repr(outer) == "<Channel, moved to another process>"
    with pytest.raises(ChannelClosed, match="moved to another process"):
        await outer.receive()
    with pytest.raises(ChannelClosed, match="moved"):
        await outer.send(1)
    moved = await theirs.receive()
    async with inner, moved:
        assert await moved.receive() == "kept"
        await moved.send("back")
        assert await inner.receive() == "back"
    await outer.aclose()


async def test_an_end_in_use_does_not_move(ends: Any) -> None:
    """While somebody waits on it, or its items are not sent."""
    ours, _ = ends
    inner, outer = open_channel()
    async with inner, outer:
        waits = await queued(outer.receive())
        with pytest.raises(Exception, match="while somebody uses it"):
            await ours.send(outer)
        await inner.send(1)
        assert await waits == 1
        await outer.send_many(["x" * 500_000] * 4)
        with pytest.raises(Exception, match="items are not sent"):
            await ours.send(outer)
        assert [len(await inner.receive()) for _ in range(4)] == [500_000] * 4
        await outer.aclose()
        with pytest.raises(Exception, match="cannot be passed"):
            await ours.send(outer)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd")
async def test_memory_that_is_read_is_not_written_by_an_end_that_has_moved(ends: Any) -> None:
    """What the other end gives back of the time before is not taken for what it has since."""
    ours, theirs = ends
    inner, outer = open_channel()
    await outer.send(memoryview(array("q", [1] * 50_000)))
    before = await inner.receive()
    await ours.send(outer)
    moved = await theirs.receive()
    async with inner, moved:
        await moved.send(memoryview(array("q", [2] * 50_000)))
        since = await inner.receive()
        del before
        for _ in range(3):
            await inner.send("what was given back")
            await moved.receive()
        await moved.send(memoryview(array("q", [3] * 50_000)))
        assert set(await inner.receive()) == {3}
        assert set(since) == {2}


async def test_items_that_have_arrived_move_along(ends: Any) -> None:
    """Nothing that this process has read is lost."""
    ours, theirs = ends
    inner, outer = open_channel(capacity=8)
    await inner.send_many([1, 2, 3, 4])
    assert await outer.receive() == 1
    await ours.send(outer)
    moved = await theirs.receive()
    async with inner, moved:
        await inner.send(5)
        await inner.close_send()
        assert [item async for item in moved] == [2, 3, 4, 5]


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors")
async def test_an_end_that_nobody_takes_is_a_death(ends: Any) -> None:
    """The end went with an item that was never received."""
    ours, theirs = ends
    inner, outer = open_channel()
    await ours.send(outer)
    await ours.aclose()
    await theirs.aclose()
    with pytest.raises(PeerDied, match="did not take it") as caught:
        await inner.receive(timeout=10)
    assert caught.value.pid is None
    await inner.aclose()
