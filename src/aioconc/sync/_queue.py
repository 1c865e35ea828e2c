"""A first-in, first-out queue for tasks and threads alike, with backpressure both ways.

It guarantees that no item is lost or doubled, whoever is cancelled when, that the bound is never
exceeded, and that those who wait are served in the order in which they came. Other orders of the
items are in `_queue_orders`, the blocking face is in `_sync_queue`.
"""

# An item stays in `_items` until the one it was granted to goes on and takes it; so a getter that
# is cancelled meanwhile has taken nothing, and the bound holds all the time. It counts as
# `_reserved`, and belongs to no `qsize`. A putter keeps its item until it goes on; its place
# counts in `_places`.
#
#   Rule 1: a getter waits only while every item is reserved.
#   Rule 2: a putter waits only while items and places fill the bound.
#   So who comes need not look whether others wait: there is something for him or there is not.
#
# The calls of most programs, `get` and `put` that need not wait, are written out with `acquire`
# and `release`: `with` would cost them a third more. Nothing between the two raises.

import sys
import types
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, TypeVar

from aioconc._internal._check import check_count
from aioconc.sync._errors import QueueEmpty, QueueFull, QueueShutDown
from aioconc.sync._home import refuse
from aioconc.sync._sync_queue import SyncQueue
from aioconc.sync._wait_queue import (
    TaskWaiter,
    Waitable,
    Waiter,
    WaitQueue,
    WaitStatistics,
    waiting,
)

T = TypeVar("T")

# Calls of one queue that need not wait, after which the next one lets the loop turn once. At a
# microsecond each it keeps others waiting for a tenth of a millisecond.
_TURN: Final = 64

# Items that `put_many` takes from its source at once, however large the queue.
_CHUNK: Final = 1_024

# Told to a waiter that gets nothing, since the queue was shut down.
_REFUSED: Final = "refused"


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the loop turn once."""
    yield


@dataclass(frozen=True)
class QueueStatistics(WaitStatistics):
    """The state of a queue.

    Attributes:
        items: how many can be taken at once.
        maxsize: how many there may be; 0: no bound.
        getters_waiting: tasks and threads that wait for an item.
        putters_waiting: tasks and threads that wait for room.
        unfinished: items put, for which `task_done` was not called.
        shut_down: whether `shutdown` was called.
    """

    items: int
    maxsize: int
    getters_waiting: int
    putters_waiting: int
    unfinished: int
    shut_down: bool


class Queue(Waitable, Generic[T]):
    """Items from any task or thread to any other, first in, first out.

    Equals `asyncio.Queue`, which it replaces line by line, with the `shutdown` of Python 3.13 on
    every Python; works across threads and loops; ends an `async for` at `shutdown`. Threads use
    the same names, blocking, under `sync`; what never waits, such as `put_nowait`, any thread may
    call as it is. An item that was granted to a waiter is his: `qsize` does not count it, and
    `get_nowait` does not take it.

    Args:
        maxsize: items that may be in the queue; <= 0: no bound.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     queue = Queue(maxsize=10)
        ...     await queue.put_many("abc")
        ...     queue.shutdown()  # no more to come
        ...     return [item async for item in queue]
        >>> asyncio.run(main())
        ['a', 'b', 'c']
    """

    __slots__ = (
        "_getters",
        "_is_shutdown",
        "_items",
        "_joiners",
        "_limit",
        "_maxsize",
        "_places",
        "_pop",
        "_push",
        "_putters",
        "_reserved",
        "_streak",
        "_unfinished",
        "_was_emptied",
    )

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__()
        self._maxsize = maxsize
        # The bound, as a number to compare with; an int, since comparing with `inf` costs more.
        self._limit = maxsize if maxsize > 0 else sys.maxsize
        self._items: Sized
        self._push: Callable[[T], object]
        self._pop: Callable[[], T]
        self._empty()
        # Items granted to getters that have not gone on yet.
        self._reserved = 0
        # Places granted to putters that have not gone on yet.
        self._places = 0
        self._unfinished = 0
        self._is_shutdown = False
        # Shut down with all that was in it: no reservation holds any more.
        self._was_emptied = False
        self._getters = WaitQueue()
        self._putters = WaitQueue()
        self._joiners = WaitQueue()
        # Calls since the loop last turned because of this queue. A count that is off by some does
        # no harm, so threads change it as they like.
        self._streak = 0

    def _empty(self) -> None:
        """With the mutex: no items, and how they are added and taken.

        `_push(item)` changes nothing if it raises; `_pop()` never does. Methods of the container,
        not of the queue, so that the queue is in no circle of references.
        """
        items: deque[T] = deque()
        self._items = items
        self._push = items.append
        self._pop = items.popleft

    # ------------------------------------------------------------------ getting

    async def get(self) -> T:
        """Wait for an item and take it.

        Raises:
            QueueShutDown: the queue was shut down and is empty.
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            No item is lost: one that was granted to this task goes to the next one, or stays
            first in the queue. The place among those who wait is lost.
        """
        if self._home.left:
            refuse(self)
        if self._streak >= _TURN:
            self._streak = 0
            await _turn()
        mutex = self._mutex
        mutex.acquire()
        if len(self._items) > self._reserved:
            self._streak += 1
            item = self._pop()
            if not self._putters:
                mutex.release()
                return item
            # By rule 2 it was full, so there is room for one now.
            self._places += 1
            putter = self._putters.grant()
            mutex.release()
            if not putter.wake():
                self._give_up(putter)
            return item
        mutex.release()
        waiter = TaskWaiter(self._getters)
        items = self._get_or_queue(waiter, 1)
        if items is None:
            self._streak = 0
            try:  # `_wait`, without a coroutine more
                await waiter.future
            except BaseException:
                self._give_up(waiter)
                raise
            return self._get_one_granted(waiter)
        return items[0]

    async def get_many(self, max_items: int) -> list[T]:
        """Wait for an item and take it, with what is there beside it.

        Args:
            max_items: most items to take, int >= 1.

        Returns:
            At least one item, in their order.

        Raises:
            QueueShutDown: the queue was shut down and is empty.

        Cancellation:
            As with `get`.
        """
        check_count("max_items", max_items)
        if self._home.left:
            refuse(self)
        if self._streak >= _TURN:
            self._streak = 0
            await _turn()
        self._streak += 1
        items = self._get_now(max_items)
        if items is not None:
            return items
        waiter = TaskWaiter(self._getters)
        items = self._get_or_queue(waiter, max_items)
        if items is None:
            self._streak = 0
            await self._wait(waiter)
            items = self._get_granted(waiter, max_items)
        return items

    def get_nowait(self) -> T:
        """Take an item at once. Any thread may call it.

        Raises:
            QueueEmpty: there is none.
            QueueShutDown: there is none, and the queue was shut down.
        """
        if self._home.left:
            refuse(self)
        with self._mutex:
            if len(self._items) <= self._reserved:
                if self._is_shutdown:
                    raise self._nothing_left()
                raise QueueEmpty("the queue is empty")
            item = self._pop()
            woken = self._settle()
        self._wake(woken)
        return item

    def _get_now(self, most: int) -> list[T] | None:
        """Items that are there; None: there is none."""
        with self._mutex:
            free = len(self._items) - self._reserved
            if free <= 0:
                return None
            items = [self._pop() for _ in range(min(most, free))]
            woken = self._settle()
        self._wake(woken)
        return items

    def _get_or_queue(self, waiter: Waiter, most: int) -> list[T] | None:
        """Items that are there; None: the waiter has been queued for one."""
        with self._mutex:
            free = len(self._items) - self._reserved
            if free <= 0:
                if self._is_shutdown and not self._reserved:
                    raise self._nothing_left()
                self._getters.add(waiter)
                return None
            items = [self._pop() for _ in range(min(most, free))]
            woken = self._settle()
        self._wake(woken)
        return items

    def _get_granted(self, waiter: Waiter, most: int) -> list[T]:
        """The item that was granted to the waiter, with others that are there."""
        with self._mutex:
            if waiter.value is _REFUSED or self._was_emptied:
                raise self._nothing_left()
            self._reserved -= 1
            free = len(self._items) - self._reserved
            items = [self._pop() for _ in range(min(most, free))]
            woken = self._settle()
        self._wake(woken)
        return items

    def _get_one_granted(self, waiter: Waiter) -> T:
        """The item that was granted to the waiter."""
        mutex = self._mutex
        mutex.acquire()
        if waiter.value is _REFUSED or self._was_emptied:
            mutex.release()
            raise self._nothing_left()
        self._reserved -= 1
        item = self._pop()
        if not self._putters:
            woken = self._settle() if self._getters else ()
            mutex.release()
            if woken:
                self._wake(woken)
            return item
        self._places += 1  # as in `get`
        putter = self._putters.grant()
        mutex.release()
        if not putter.wake():
            self._give_up(putter)
        return item

    def _nothing_left(self) -> QueueShutDown:
        return QueueShutDown("the queue was shut down, and nothing is left in it")

    # ------------------------------------------------------------------ putting

    async def put(self, item: T) -> None:
        """Wait for room and put an item.

        Raises:
            QueueShutDown: the queue was shut down.
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            The item is not in the queue. The place among those who wait is lost.
        """
        if self._home.left:
            refuse(self)
        if self._streak >= _TURN:
            self._streak = 0
            await _turn()
        self._streak += 1
        mutex = self._mutex
        mutex.acquire()
        if len(self._items) + self._places >= self._limit or self._is_shutdown:
            mutex.release()
        elif self._getters:
            mutex.release()
            if self._put_now(item):
                return
        else:
            try:
                self._push(item)
                self._unfinished += 1
            finally:  # items that cannot be compared
                mutex.release()
            return
        waiter = TaskWaiter(self._putters)
        if self._place_or_queue(waiter):
            self._streak = 0
            try:  # `_wait`, without a coroutine more
                await waiter.future
            except BaseException:
                self._give_up(waiter)
                raise
        self._put_one_granted(waiter, item)

    async def put_many(self, items: Iterable[T]) -> None:
        """Put items, waiting for room whenever there is none.

        Equals a `put` for each, and puts as many at once as there is room for. Items of others may
        come between.

        Args:
            items: read as there is room, one item ahead; so it may be endless.

        Raises:
            QueueShutDown: the queue was shut down; what was put before stays in it.

        Cancellation:
            What was put before stays in the queue. One more was read from `items`, and is not.
        """
        source = iter(items)
        for item in source:
            if self._home.left:
                refuse(self)
            if self._streak >= _TURN:
                self._streak = 0
                await _turn()
            self._streak += 1
            waiter = TaskWaiter(self._putters)
            if self._place_or_queue(waiter):
                self._streak = 0
                await self._wait(waiter)
            self._fill(waiter, item, source)

    def put_nowait(self, item: T) -> None:
        """Put an item at once. Any thread may call it.

        Raises:
            QueueFull: there is no room.
            QueueShutDown: the queue was shut down.
        """
        if self._home.left:
            refuse(self)
        if not self._put_now(item):
            if self._is_shutdown:
                raise self._takes_nothing()
            raise QueueFull(f"the queue is full: it may have {self._maxsize} items")

    def _put_now(self, item: T) -> bool:
        """Put the item if there is room."""
        mutex = self._mutex
        mutex.acquire()
        if len(self._items) + self._places >= self._limit or self._is_shutdown:
            mutex.release()
            return False
        try:
            self._push(item)
        except BaseException:  # items that cannot be compared
            mutex.release()
            raise
        self._unfinished += 1
        if not self._getters:
            mutex.release()
            return True
        self._reserved += 1
        getter = self._getters.grant()
        mutex.release()
        if not getter.wake():
            self._give_up(getter)
        return True

    def _place_or_queue(self, waiter: Waiter) -> bool:
        """Reserve a place, or queue the waiter for one: True if it has to wait."""
        with self._mutex:
            if self._is_shutdown:
                raise self._takes_nothing()
            if len(self._items) + self._places < self._limit:
                self._places += 1
                return False
            self._putters.add(waiter)
        return True

    def _put_granted(self, waiter: Waiter, items: Iterable[T], places: int = 1) -> None:
        """Put the items into so many reserved places."""
        with self._mutex:
            if waiter.value is _REFUSED:
                raise self._takes_nothing()
            self._places -= places
            try:
                if self._is_shutdown:
                    raise self._takes_nothing()
                for item in items:
                    self._push(item)
                    self._unfinished += 1
            finally:
                woken = self._settle()
        self._wake(woken)

    def _put_one_granted(self, waiter: Waiter, item: T) -> None:
        """Put the item into the reserved place."""
        mutex = self._mutex
        mutex.acquire()
        if self._is_shutdown or self._putters:
            mutex.release()
            self._put_granted(waiter, (item,))
            return
        self._places -= 1
        getter: Waiter | None = None
        try:
            self._push(item)
            self._unfinished += 1
            if self._getters:
                self._reserved += 1
                getter = self._getters.grant()
        finally:  # items that cannot be compared
            mutex.release()
        if getter is not None and not getter.wake():
            self._give_up(getter)

    def _fill(self, waiter: Waiter, first: T, source: Iterator[T]) -> None:
        """Put the item, and as many more of `source` as there is room for."""
        with self._mutex:
            room = min(self._limit - len(self._items) - self._places, _CHUNK)
            more = 0 if self._is_shutdown else room
            self._places += more
        chunk = [first]
        try:
            # The source may do what it likes, so not under the mutex.
            chunk.extend(islice(source, more))
        finally:
            self._put_granted(waiter, chunk, more + 1)

    def _takes_nothing(self) -> QueueShutDown:
        return QueueShutDown("the queue was shut down, and takes nothing more")

    # ------------------------------------------------------------------ those who wait

    def _settle(self) -> Sequence[Waiter]:
        """With the mutex: grant what is free to those who wait, or refuse them at the end."""
        if not self._getters and not self._putters:
            return ()
        woken: list[Waiter] = []
        while self._getters and len(self._items) > self._reserved:
            self._reserved += 1
            woken.append(self._getters.grant())
        if self._is_shutdown:
            woken += self._putters.grant_all(_REFUSED)
            # An item that is reserved comes back if its getter is cancelled.
            if not self._reserved:
                woken += self._getters.grant_all(_REFUSED)
        while self._putters and len(self._items) + self._places < self._limit:
            self._places += 1
            woken.append(self._putters.grant())
        return woken

    def _undo(self, waiter: Waiter) -> Sequence[Waiter]:
        if waiter.value is _REFUSED:
            return ()
        if waiter.queue is self._putters:
            self._places -= 1
        elif waiter.queue is self._getters and not self._was_emptied:
            self._reserved -= 1
        return self._settle()

    # ------------------------------------------------------------------ joining

    def task_done(self) -> None:
        """An item that was taken has been dealt with. Any thread may call it.

        Raises:
            ValueError: called more often than there were items.
        """
        if self._home.left:
            refuse(self)
        with self._mutex:
            if self._unfinished <= 0:
                raise ValueError("task_done() called too many times")
            self._unfinished -= 1
            woken = () if self._unfinished else self._joiners.grant_all()
        self._wake(woken)

    async def join(self) -> None:
        """Wait until `task_done` was called for every item that was put.

        Cancellation:
            Nothing is lost.
        """
        if self._home.left:
            refuse(self)
        waiter = TaskWaiter(self._joiners)
        if self._queue_join(waiter):
            await self._wait(waiter)

    def _queue_join(self, waiter: Waiter) -> bool:
        with self._mutex:
            if not self._unfinished:
                return False
            self._joiners.add(waiter)
        return True

    def shutdown(self, immediate: bool = False) -> None:
        """Take nothing more; once it is empty, who gets hears `QueueShutDown`. Any thread.

        Args:
            immediate: throw away what is in it as well. `join` counts those items as done.
        """
        if self._home.left:
            refuse(self)
        woken: Sequence[Waiter] = ()
        with self._mutex:
            self._is_shutdown = True
            if immediate:
                self._was_emptied = True
                self._unfinished = max(0, self._unfinished - len(self._items))
                self._empty()
                self._reserved = 0
                if not self._unfinished:
                    woken = self._joiners.grant_all()
            woken = (*woken, *self._settle())
        self._wake(woken)

    # ------------------------------------------------------------------ looking

    @property
    def maxsize(self) -> int:
        """Items that may be in the queue; <= 0: no bound."""
        return self._maxsize

    def qsize(self) -> int:
        """Items that could be taken at once."""
        return len(self._items) - self._reserved

    def empty(self) -> bool:
        """Whether `get_nowait` would fail."""
        return len(self._items) <= self._reserved

    def full(self) -> bool:
        """Whether `put_nowait` would fail."""
        return len(self._items) + self._places >= self._limit

    def __aiter__(self) -> AsyncIterator[T]:
        return _Items(self)

    @property
    def sync(self) -> "SyncQueue[T]":
        """The same queue for threads: its names block, and take a `timeout`."""
        return SyncQueue(self)

    def statistics(self) -> QueueStatistics:
        """How many items are in it, and how many wait for what."""
        with self._mutex:
            return QueueStatistics(
                *waiting(self._getters, self._putters, self._joiners),
                self.qsize(),
                max(self._maxsize, 0),
                len(self._getters),
                len(self._putters),
                self._unfinished,
                self._is_shutdown,
            )

    def __repr__(self) -> str:
        with self._mutex:
            bound = f"/{self._maxsize}" if self._maxsize > 0 else ""
            state = ", shut down" if self._is_shutdown else ""
            return (
                f"<{type(self).__name__} {self.qsize()}{bound} items, {len(self._getters)} getters "
                f"and {len(self._putters)} putters waiting{state}>"
            )


class _Items(AsyncIterator[T]):
    """The items of a queue, until it is shut down and empty."""

    __slots__ = ("_queue",)

    def __init__(self, queue: Queue[T]) -> None:
        self._queue = queue

    async def __anext__(self) -> T:
        try:
            return await self._queue.get()
        except QueueShutDown:
            raise StopAsyncIteration from None
