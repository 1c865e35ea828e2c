"""Credits: a thread goes on only as far as the loop lets it, and never waits for nobody."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aioconc._bridge import _credits
from aioconc._bridge._credits import Credits


@contextmanager
def taking(places: Credits, *, unwanted: threading.Event) -> Iterator[list[bool]]:
    """A thread that takes credits until it is refused one; what it got so far."""
    got: list[bool] = []

    def take() -> None:
        while not got or got[-1]:
            got.append(places.take(unwanted.is_set))

    thread = threading.Thread(target=take)
    thread.start()
    yield got
    thread.join(timeout=30)
    assert not thread.is_alive()


async def until(count: int, got: list[bool]) -> None:
    async with asyncio.timeout(30):
        while len(got) < count:
            await asyncio.sleep(0.001)


async def test_a_thread_takes_no_more_than_there_are() -> None:
    """With all credits out it waits; each one given back lets it take one more."""
    places = Credits(asyncio.get_running_loop(), 3)
    unwanted = threading.Event()
    with taking(places, unwanted=unwanted) as got:
        await until(3, got)
        await asyncio.sleep(0.01)
        assert got == [True] * 3
        places.give_back()
        await until(4, got)
        unwanted.set()
        places.give_back()
    assert got == [True] * 4 + [False]


async def test_a_waiting_thread_learns_at_once_that_nobody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not wait for its next look."""
    monkeypatch.setattr(_credits, "_LOOK", 1000.0)
    places = Credits(asyncio.get_running_loop(), 1)
    unwanted = threading.Event()
    with taking(places, unwanted=unwanted) as got:
        await until(1, got)
        unwanted.set()
        places.give_back()
    assert got == [True, False]


def test_a_waiting_thread_notices_that_the_loop_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing a loop wakes no thread, so the thread looks."""
    monkeypatch.setattr(_credits, "_LOOK", 0.001)
    loop = asyncio.new_event_loop()
    with taking(Credits(loop, 1), unwanted=threading.Event()) as got:
        loop.run_until_complete(until(1, got))
        loop.close()
    assert got == [True, False]
