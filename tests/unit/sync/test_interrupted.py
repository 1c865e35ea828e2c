"""Ctrl-C at any moment of a thread that is busy with a primitive leaves it usable by others."""

import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioconc import sync
from aioconc.sync._wait_queue import ThreadWaiter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no setitimer")


@pytest.fixture(autouse=True)
def _timer_interrupts() -> Iterator[None]:
    """The timer's signal raises KeyboardInterrupt, as SIGINT does."""
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def put_and_get(queue: "sync.Queue[int]") -> None:
    queue.sync.put(1)
    queue.sync.get()


def put_and_get_at_once(queue: "sync.Queue[int]") -> None:
    queue.put_nowait(1)
    queue.get_nowait()


def hold(lock: sync.Lock) -> None:
    with lock.sync:
        pass


@pytest.mark.parametrize(
    ("make", "use"),
    [
        (lambda: sync.Queue(2), put_and_get),
        (lambda: sync.Queue(2), put_and_get_at_once),
        (lambda: sync.LifoQueue(2), put_and_get),
        (lambda: sync.PriorityQueue(2), put_and_get),
        (sync.Lock, hold),
        (sync.RLock, hold),
        (sync.Semaphore, hold),
    ],
)
def test_an_interrupt_never_leaves_the_mutex_held(
    make: Callable[[], Any], use: Callable[[Any], None]
) -> None:
    """Whatever call the interrupt comes after, the next one of another thread does not hang."""
    for round_ in range(15):
        primitive = make()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0001 * (1 + round_ % 7))
        with pytest.raises(KeyboardInterrupt):
            while True:
                use(primitive)
        is_free = primitive._mutex.acquire(timeout=0)
        del primitive  # whose repr, for a report, would hang
        assert is_free


def test_who_was_interrupted_before_letting_others_in_does_so_when_he_waits() -> None:
    """An item lost to an interrupt right after it was taken does not cost its room."""
    queue: sync.Queue[int] = sync.Queue(1)
    queue.put_nowait(1)
    waiter = _queue_by_hand(queue)
    queue._take()  # and was interrupted
    getter = _queue_by_hand(queue, gets=True)
    assert waiter.granted and not getter.granted
    queue._put_one_granted(waiter, 2)
    assert getter.granted and queue._take_granted(getter) == 2


def _queue_by_hand(queue: "sync.Queue[int]", *, gets: bool = False) -> Any:
    waiter = ThreadWaiter(queue._getters if gets else queue._putters)
    assert queue._queue_getter(waiter) if gets else queue._place_or_queue(waiter)
    return waiter
