"""Mailbox: what other threads post is delivered once, in order, with few wake-ups."""

import asyncio
import gc
import threading
import weakref
from functools import partial
from typing import Any

import pytest

from aioconc._bridge import _mailbox
from aioconc._bridge._mailbox import Mailbox, mailbox_of
from tests.unit.bridge.interleave import every_order


class CountingLoop:
    """The running loop, seen by a mailbox, which counts how often it is woken."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.wake_ups = 0

    def call_soon_threadsafe(self, callback: Any) -> None:
        self.wake_ups += 1
        self.loop.call_soon_threadsafe(callback)

    def is_closed(self) -> bool:
        return self.loop.is_closed()


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_burst_wakes_the_loop_once() -> None:
    """Letters that come before the loop looks share one wake-up, and arrive in order."""
    loop: Any = CountingLoop()
    mailbox = Mailbox()
    got: list[int] = []
    for number in range(100):
        assert mailbox.post(loop, lambda number=number: got.append(number))  # type: ignore[misc]
    await turns()
    assert got == list(range(100))
    assert loop.wake_ups == 1
    mailbox.post(loop, lambda: got.append(100))
    await turns()
    assert (got[-1], loop.wake_ups) == (100, 2)


async def test_no_letter_of_several_threads_is_lost() -> None:
    """Each thread's letters arrive all, and in its order."""
    loop = asyncio.get_running_loop()
    mailbox = mailbox_of(loop)
    got: list[tuple[int, int]] = []
    together = threading.Barrier(4)

    def post_many(who: int) -> None:
        together.wait()
        for number in range(500):
            mailbox.post(loop, lambda number=number: got.append((who, number)))  # type: ignore[misc]

    threads = [threading.Thread(target=post_many, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(30):
        while len(got) < 2000:
            await asyncio.sleep(0)
    for thread in threads:
        thread.join()
    for who in range(4):
        assert [number for sender, number in got if sender == who] == list(range(500))


class Woken:
    """A loop that only counts the wake-ups which it has not answered."""

    def __init__(self) -> None:
        self.unanswered = 0

    def call_soon_threadsafe(self, callback: Any) -> None:
        self.unanswered += 1

    def is_closed(self) -> bool:
        return False


class ClearedLate(Mailbox):
    """The mistake: letters are read first, and the flag is cleared after them."""

    def _deliver(self) -> None:
        for _ in range(len(self._letters)):
            self._letters.popleft()()
        self._woken = False


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Mailbox, ClearedLate])
def test_no_order_of_a_post_and_a_delivery_loses_a_wake_up(kind: Any) -> None:
    """Whatever line comes when: who finds a letter left behind finds a wake-up under way."""
    orders = lost = 0
    for turns in every_order(kind.post, kind._deliver):
        mailbox, loop = kind(), Woken()
        got: list[str] = []

        def post(name: str, mailbox: Any = mailbox, loop: Any = loop, got: Any = got) -> None:
            assert mailbox.post(loop, lambda: got.append(name))

        def deliver(mailbox: Any = mailbox, loop: Any = loop) -> None:
            loop.unanswered -= 1
            mailbox._deliver()

        post("first")
        turns.run(deliver, partial(post, "second"))
        orders += 1
        lost += bool(mailbox._letters) and not loop.unanswered
        assert got == ["first", "second"][: 2 - len(mailbox._letters)]
    assert orders > 100
    assert bool(lost) == (kind is ClearedLate)


async def test_letters_that_post_letters_leave_the_loop_its_turns() -> None:
    """A letter posted while letters are read waits for the next turn of the loop."""
    loop = asyncio.get_running_loop()
    mailbox = mailbox_of(loop)
    posted = 0

    def again() -> None:
        nonlocal posted
        posted += 1
        if posted < 1000:
            mailbox.post(loop, again)

    mailbox.post(loop, again)
    await turns(5)
    assert 0 < posted < 10
    posted = 1000
    await turns()


def test_a_closed_loop_takes_no_letters() -> None:
    """`post` says so, and keeps nothing alive."""
    loop = asyncio.new_event_loop()
    loop.close()
    mailbox = Mailbox()
    assert not mailbox.post(loop, print)
    assert not mailbox.post(loop, print)
    assert not mailbox._letters


def test_a_loop_closed_before_it_looked_takes_no_more() -> None:
    """A wake-up that will never be answered does not hide that the loop is closed."""
    loop = asyncio.new_event_loop()
    mailbox = Mailbox()
    assert mailbox.post(loop, print)
    loop.close()
    assert not mailbox.post(loop, print)
    assert not mailbox._letters


def test_what_stops_the_loop_leaves_no_letter_behind() -> None:
    """After KeyboardInterrupt in one letter, the next run of the loop reads the others."""
    loop = asyncio.new_event_loop()
    mailbox = Mailbox()
    got: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    mailbox.post(loop, interrupt)
    mailbox.post(loop, lambda: got.append("behind"))
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_until_complete(turns())
    loop.close()
    assert got == ["behind"]


def test_a_mailbox_keeps_no_loop_alive() -> None:
    """A loop that nobody else holds goes, and its mailbox with it."""

    async def own() -> "weakref.ref[asyncio.AbstractEventLoop]":
        loop = asyncio.get_running_loop()
        assert mailbox_of(loop) is mailbox_of(loop)
        return weakref.ref(loop)

    gone = asyncio.run(own())
    gc.collect()
    assert gone() is None


def test_a_finalizer_may_ask_at_any_line() -> None:
    """Also while its own thread makes the mailbox of another loop."""
    loop = asyncio.new_event_loop()
    asked = []

    def collect() -> None:
        with _mailbox._lock:
            asked.append(mailbox_of(loop))

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(20)
    assert asked == [mailbox_of(loop)]
    loop.close()
