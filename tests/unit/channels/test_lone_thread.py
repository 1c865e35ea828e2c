"""A thread that waits alone has no waiter: what becomes of it when it is alone no more."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioconc.channels import BrokenChannel, Channel, ChannelClosed, EndOfStream, open_channel
from aioconc.channels._link import LONE, Parked

Ends = tuple[Channel[Any], Channel[Any]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = open_channel(capacity=1)
    yield ours, theirs
    theirs.sync.close()
    ours.sync.close()


def until(state: Callable[[], Any]) -> None:
    """Wait for it."""
    end = time.monotonic() + 60
    while not state():
        assert time.monotonic() < end
        time.sleep(0.001)


def receiving(channel: Channel[Any], outcomes: list[Any]) -> threading.Thread:
    """A thread that waits for an item."""

    def receive() -> None:
        try:
            outcomes.append((thread, channel.sync.receive()))
        except Exception as error:
            outcomes.append((thread, type(error)))

    thread = threading.Thread(target=receive)
    before = channel.statistics().threads_waiting
    thread.start()
    end = channel._end
    until(lambda: end._leader is LONE or channel.statistics().threads_waiting > before)
    return thread


def test_who_waited_alone_is_first(ends: Ends) -> None:
    """Those who come later get what arrives later."""
    ours, theirs = ends
    outcomes: list[Any] = []
    threads = [receiving(ours, outcomes)]
    assert ours._end._leader is LONE
    threads.append(receiving(ours, outcomes))
    until(lambda: ours.statistics().threads_waiting == 2)
    for thread, item in zip(threads, "ab", strict=True):
        theirs.sync.send(item)
        thread.join(60)
    assert outcomes == list(zip(threads, "ab", strict=True))


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(
    ("ending", "error"),
    [
        (lambda ours, theirs: theirs.sync.close_send(), EndOfStream),
        (lambda ours, theirs: ours.sync.close(), ChannelClosed),
    ],
)
def test_all_who_wait_hear_of_the_end(
    ends: Ends, alone: bool, ending: Callable[..., None], error: type[Exception]
) -> None:
    """Also the one who waited alone, whether another one came or not."""
    ours, theirs = ends
    outcomes: list[Any] = []
    threads = [receiving(ours, outcomes)]
    if not alone:
        threads.append(receiving(ours, outcomes))
    ending(ours, theirs)
    for thread in threads:
        thread.join(60)
    assert {kind for _, kind in outcomes} == {error}
    assert len(outcomes) == len(threads)


def test_a_sender_beside_it_has_its_room(ends: Ends) -> None:
    """The one who waits for an item reads what makes room, and waits on."""
    ours, theirs = ends
    ours.sync.send(1)
    outcomes: list[Any] = []
    thread = receiving(ours, outcomes)
    sender = threading.Thread(target=ours.sync.send, args=(2,))
    sender.start()
    until(lambda: ours.statistics().threads_waiting)
    assert [theirs.sync.receive(), theirs.sync.receive()] == [1, 2]
    sender.join()
    assert not outcomes
    theirs.sync.send("item")
    thread.join()
    assert outcomes == [(thread, "item")]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
@pytest.mark.parametrize("alone", [True, False])
def test_who_is_interrupted_leaves_the_item_to_others(ends: Ends, alone: bool) -> None:
    """Ctrl+C in the thread that waited alone: it takes nothing, and another one can wait."""
    ours, theirs = ends
    outcomes: list[Any] = []
    threads: list[threading.Thread] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def other() -> None:
        until(lambda: ours._end._leader is LONE)
        if not alone:
            threads.append(receiving(ours, outcomes))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    helper = threading.Thread(target=other)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            ours.sync.receive()
    finally:
        signal.signal(signal.SIGALRM, before)
        helper.join()
    theirs.sync.send("item")
    if alone:
        assert ours.sync.receive() == "item"
    for thread in threads:
        thread.join()
        assert outcomes == [(thread, "item")]


def test_who_begins_to_wait_while_another_finds_the_end_hears_of_it(ends: Ends) -> None:
    """A thread that waits for room, when one that receives reads that the other end is gone."""
    ours, theirs = ends
    end = ours._end
    ours.sync.send(1)
    waiter = Parked(end._senders, end)
    assert end.place_or_queue(waiter, 1) == 0
    # Between this and the next line of `send` the other end goes, and another thread finds that.
    theirs.sync.close()
    end._read()
    while not end._finished:
        end._read()
    assert end._park(waiter, 60)
    with pytest.raises(BrokenChannel):
        ours.sync.send(2)
