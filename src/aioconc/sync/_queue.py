"""A first-in, first-out queue for tasks and threads alike, with backpressure both ways.

It guarantees that no item is lost or doubled, whoever is cancelled when, that the bound is never
exceeded, and that those who wait are served in the order in which they came. Other orders of the
items are in `_queue_orders`, the blocking face is in `_sync_queue`.
"""

# An item that is granted to a getter stays in `_items` until that one goes on and takes it; so a
# getter that is cancelled meanwhile has taken nothing, and the bound holds all the time. It belongs
# to no `qsize`. A putter keeps its item until it goes on, and has a place until then.
#
#   Rule 1: a getter waits only while no item is free: an item that comes then is granted at once.
#           So who comes takes what is free and need not look whether others wait.
#   Rule 2: a putter waits only while free items fill `_room`. What is free is taken without the
#           mutex, so room is made without it: who does that looks for putters after it, who waits
#           looks for room once he is in the queue, and who comes to put lets those first who wait.
#           One of the two sees the other, since the GIL gives all these steps one order; a build
#           without it would want both of them under the mutex.
#
# The calls of most programs, `get` and `put` that need not wait, are written out with `acquire`
# and `release`: `with` costs twice as much. Nothing between the two raises.

import types
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from aioconc._internal._check import check_count
from aioconc.sync._errors import QueueEmpty, QueueFull, QueueShutDown
from aioconc.sync._home import refuse
from aioconc.sync._stock import Stock
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

# The room of a queue without a bound. The largest int of one digit, since others are compared at
# three times the costs; with more items than that, each `put` asks `_has_room`.
_NO_BOUND: Final = 2**30 - 1

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
        "_maxsize",
        "_put_in",
        "_putters",
        "_reserved",
        "_room",
        "_streak",
        "_take",
        "_unfinished",
        "_was_emptied",
    )

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__()
        self._maxsize = maxsize
        # Methods of the stock, not of the queue, so that the queue is in no circle of references.
        # `_put_in(item)` changes nothing if it raises; `_take()` raises IndexError if none is free.
        self._items = items = self._new_stock()
        self._put_in: Callable[[T], object] = items.put
        self._take: Callable[[], T] = items.take
        # Items granted to getters that have not gone on yet.
        self._reserved = 0
        # How many items may be free: the bound, less the items that are granted, less the places
        # granted to putters that have not gone on yet.
        self._room = maxsize if maxsize > 0 else _NO_BOUND
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

    def _new_stock(self) -> Any:
        """A `Stock`, or what has its methods."""
        return Stock()

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
        while True:
            if self._items:
                try:
                    item = self._take()
                except IndexError:  # another thread was faster
                    pass
                else:
                    self._streak += 1
                    if self._putters:
                        self._let_in()
                    return item
            waiter = TaskWaiter(self._getters)
            if self._queue_getter(waiter):
                break
        self._streak = 1  # the item that it waits for
        try:  # `_wait`, without a coroutine more
            await waiter.future
        except BaseException:
            self._give_up(waiter)
            raise
        return self._take_granted(waiter)

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
        while not (items := self._take_many(max_items)):
            waiter = TaskWaiter(self._getters)
            if self._queue_getter(waiter):
                self._streak = 1
                await self._wait(waiter)
                return [self._take_granted(waiter), *self._take_many(max_items - 1)]
        return items

    def get_nowait(self) -> T:
        """Take an item at once. Any thread may call it.

        Raises:
            QueueEmpty: there is none.
            QueueShutDown: there is none, and the queue was shut down.
        """
        if self._home.left:
            refuse(self)
        while True:
            try:
                item = self._take()
            except IndexError:
                with self._mutex:  # who has it may be about to exchange the only free item
                    if self._items:
                        continue
                    if self._is_shutdown:
                        raise self._nothing_left() from None
                    raise QueueEmpty("the queue is empty") from None
            if self._putters:
                self._let_in()
            return item

    def _take_many(self, most: int) -> list[T]:
        """So many of the items that are free, or all."""
        items: list[T] = []
        try:
            while self._items and len(items) < most:
                items.append(self._take())
        except IndexError:  # another thread was faster
            pass
        if items and self._putters:
            self._let_in()
        return items

    def _queue_getter(self, waiter: Waiter) -> bool:
        """Queue the waiter for an item; False: there is a free one by now."""
        mutex = self._mutex
        mutex.acquire()
        if self._items:
            mutex.release()
            return False
        if self._is_shutdown and not self._reserved:
            mutex.release()
            raise self._nothing_left()
        self._getters.add(waiter)
        mutex.release()
        return True

    def _take_granted(self, waiter: Waiter) -> T:
        """The item that was granted to the waiter."""
        mutex = self._mutex
        mutex.acquire()
        if waiter.value is _REFUSED or self._was_emptied:
            mutex.release()
            raise self._nothing_left()
        self._reserved -= 1
        item: T = self._items.take_granted()
        if self._putters:  # its room is for the first of them
            putter = self._putters.grant()
            mutex.release()
            if not putter.wake():
                self._give_up(putter)
            return item
        self._room += 1
        woken = self._settle() if self._getters else ()
        mutex.release()
        if woken:
            self._wake(woken)
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
        if (
            len(self._items) < self._room
            and not self._getters
            and not self._putters
            and not self._is_shutdown
        ):
            try:
                self._put_in(item)
                self._unfinished += 1
            finally:  # items that cannot be compared
                mutex.release()
            return
        mutex.release()
        if self._getters and self._put_now(item):
            return
        waiter = TaskWaiter(self._putters)
        if self._place_or_queue(waiter):
            self._streak = 1
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
                self._streak = 1
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
        """Put the item if there is room that nobody waits for."""
        mutex = self._mutex
        mutex.acquire()
        if self._is_shutdown or self._putters or not self._has_room():
            mutex.release()
            return False
        try:
            getter = self._add(item)
        finally:  # items that cannot be compared
            mutex.release()
        if getter is not None and not getter.wake():
            self._give_up(getter)
        return True

    def _has_room(self) -> bool:
        """With the mutex: whether one more item may be free."""
        return len(self._items) < self._room or self._maxsize <= 0

    def _add(self, item: T) -> Waiter | None:
        """With the mutex: put the item where there is room; the getter to which it is granted."""
        if not self._getters:
            self._put_in(item)
            self._unfinished += 1
            return None
        self._items.put_granted(item)
        self._unfinished += 1
        self._reserved += 1
        self._room -= 1
        return self._getters.grant()

    def _place_or_queue(self, waiter: Waiter) -> bool:
        """Reserve a place, or queue the waiter for one: True if it has to wait."""
        mutex = self._mutex
        mutex.acquire()
        if self._is_shutdown:
            mutex.release()
            raise self._takes_nothing()
        if not self._putters and self._has_room():
            self._room -= 1
            mutex.release()
            return False
        self._putters.add(waiter)
        # Somebody who makes room now sees the waiter. Room that was made before is looked for.
        woken = self._settle() if len(self._items) < self._room else ()
        mutex.release()
        if woken:
            self._wake(woken)
        return True

    def _put_granted(self, waiter: Waiter, items: Sequence[T], places: int = 1) -> None:
        """Put the items into so many reserved places."""
        woken: list[Waiter] = []
        mutex = self._mutex
        mutex.acquire()
        try:
            if waiter.value is _REFUSED:
                raise self._takes_nothing()
            self._room += places
            if self._is_shutdown:
                raise self._takes_nothing()
            for item in items:
                getter = self._add(item)
                if getter is not None:
                    woken.append(getter)
        finally:  # also for items that cannot be compared
            if self._putters and len(self._items) < self._room:
                woken += self._settle()
            mutex.release()
            if woken:
                self._wake(woken)

    def _put_one_granted(self, waiter: Waiter, item: T) -> None:
        """Put the item into the reserved place."""
        mutex = self._mutex
        mutex.acquire()
        if self._is_shutdown or self._putters:
            mutex.release()
            self._put_granted(waiter, (item,))
            return
        self._room += 1
        try:
            getter = self._add(item)
        finally:  # items that cannot be compared
            mutex.release()
        if getter is not None and not getter.wake():
            self._give_up(getter)

    def _fill(self, waiter: Waiter, first: T, source: Iterator[T]) -> None:
        """Put the item, and as many more of `source` as there is room for."""
        with self._mutex:
            room = min(self._room - len(self._items), _CHUNK)
            more = 0 if self._is_shutdown or self._putters else max(room, 0)
            self._room -= more
        chunk = [first]
        try:
            # The source may do what it likes, so not under the mutex.
            chunk.extend(islice(source, more))
        finally:
            self._put_granted(waiter, chunk, more + 1)

    def _takes_nothing(self) -> QueueShutDown:
        return QueueShutDown("the queue was shut down, and takes nothing more")

    # ------------------------------------------------------------------ those who wait

    def _let_in(self) -> None:
        """Items were taken: the room is for those who wait for it."""
        with self._mutex:
            woken = self._settle()
        self._wake(woken)

    def _settle(self) -> Sequence[Waiter]:
        """With the mutex: grant room to those who wait for it; at the end, refuse all who wait."""
        woken: list[Waiter] = []
        if self._is_shutdown:
            woken += self._putters.grant_all(_REFUSED)
            # An item that is reserved comes back if its getter is cancelled.
            if not self._reserved:
                woken += self._getters.grant_all(_REFUSED)
        while self._putters and len(self._items) < self._room:
            self._room -= 1
            woken.append(self._putters.grant())
        return woken

    def _undo(self, waiter: Waiter) -> Sequence[Waiter]:
        if waiter.value is _REFUSED:
            return ()
        if waiter.queue is self._putters:
            self._room += 1
        elif waiter.queue is self._getters and not self._was_emptied:
            if self._getters:
                return (self._getters.grant(),)
            self._reserved -= 1
            self._room += 1
            self._items.give_back()
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
                self._unfinished = max(0, self._unfinished - self._items.throw_away())
                self._room += self._reserved
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
        return len(self._items)

    def empty(self) -> bool:
        """Whether `get_nowait` would fail."""
        return not self._items

    def full(self) -> bool:
        """Whether `put_nowait` would fail."""
        return not self._has_room()

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
                self._getters.count_waiting(),
                self._putters.count_waiting(),
                self._unfinished,
                self._is_shutdown,
            )

    def __repr__(self) -> str:
        with self._mutex:
            bound = f"/{self._maxsize}" if self._maxsize > 0 else ""
            state = ", shut down" if self._is_shutdown else ""
            return (
                f"<{type(self).__name__} {self.qsize()}{bound} items, {self._getters.count_waiting()} getters "
                f"and {self._putters.count_waiting()} putters waiting{state}>"
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
