"""A first-in, first-out queue for tasks and threads alike, with backpressure both ways.

This is its face for tasks, which guarantees that a task that never has to wait leaves the loop its
turn. All else that a queue guarantees, and decides, is in `_exchange`; other orders of the items
are in `_queue_orders`, the blocking face is in `_sync_queue`.
"""

# The calls of most programs, `get` and `put` that need not wait, are written out. A waiter is given
# up wherever its call is interrupted, from before it is queued until what it got is taken.

import types
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from aioconc._internal._check import check_count
from aioconc.sync._errors import QueueEmpty, QueueFull, QueueShutDown
from aioconc.sync._exchange import Exchange
from aioconc.sync._home import refuse
from aioconc.sync._sync_queue import SyncQueue
from aioconc.sync._wait_queue import TaskWaiter, Waiter, WaitStatistics, waiting

T = TypeVar("T")

# Calls of one queue that need not wait, after which the next one lets the loop turn once. At a
# microsecond each it keeps others waiting for a tenth of a millisecond.
_TURN: Final = 64


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


class Queue(Exchange[T]):
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

    __slots__ = ("_streak",)

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        # Calls since the loop last turned because of this queue. A count that is off by some does
        # no harm, so threads change it as they like.
        self._streak = 0

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
                    item = self._take_next() if self._reserved else self._take()
                except IndexError:  # another thread was faster
                    pass
                else:
                    self._streak += 1
                    if self._putters:
                        self._let_in()
                    return item
            waiter = TaskWaiter(self._getters)
            try:  # `_wait`, without a coroutine more
                if self._queue_getter(waiter):
                    self._streak = 1  # the item that it waits for
                    await waiter.future
                    return self._take_granted(waiter)
            except BaseException:
                self._give_up(waiter)
                raise

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
            try:
                if self._queue_getter(waiter):
                    self._streak = 1
                    await waiter.future
                    return [self._take_granted(waiter), *self._take_many(max_items - 1)]
            except BaseException:
                self._give_up(waiter)
                raise
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
                item = self._take_next() if self._reserved else self._take()
            except IndexError:
                with self._mutex:  # a LIFO queue may be about to give another one back
                    if self._items:
                        continue
                    if self._is_shutdown:
                        raise self._nothing_left() from None
                    raise QueueEmpty("the queue is empty") from None
            if self._putters:
                self._let_in()
            return item

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
        if self._is_calm:
            for _ in self._entry:
                try:
                    # A thread may wait by now.
                    if self._is_calm and len(self._items) < self._room:  # type: ignore[redundant-expr]
                        self._put_in(item)
                        self._unfinished += 1
                        return
                finally:  # also for items that cannot be compared
                    self._mutex.release()
                break
        if len(self._items) < self._room and self._put_now(item):
            return
        waiter = TaskWaiter(self._putters)
        try:  # `_wait`, without a coroutine more
            if self._place_or_queue(waiter):
                self._streak = 1
                await waiter.future
            self._put_one_granted(waiter, item)
        except BaseException:
            self._give_up(waiter)
            raise

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
            try:
                if self._place_or_queue(waiter):
                    self._streak = 1
                    await waiter.future
                self._fill(waiter, item, source)
            except BaseException:
                self._give_up(waiter)
                raise

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
            self._is_calm = False
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
