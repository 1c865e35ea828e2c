"""Shared queues, as programs hold them.

It guarantees that an item is lost or doubled neither by a cancel nor by the death of a process
that waits. An item that somebody has taken is his: if he dies before it is done, `join` says so.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from aioconc._internal._check import check_count
from aioconc.channels._manager._client import Client
from aioconc.channels._manager._shared import Asked, Shared, Steps, SyncShared, TimeUp
from aioconc.channels._manager._statistics import SharedQueueStatistics
from aioconc.channels._manager._values import check_priority, packed, unpacked
from aioconc.sync._errors import QueueEmpty, QueueFull, QueueShutDown

T = TypeVar("T")

# Items that `put_many` puts at once, and the bytes and the seconds after which it puts what it has.
_CHUNK: Final = 256
_CHUNK_BYTES: Final = 65_536
_CHUNK_TIME: Final = 0.005


class QueueNote:
    """What a process knows of a queue: how many items it took and has not called done."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = 0

    def forget(self, party: int) -> None:
        """A call has ended; its process may still say that its items are done."""


class SharedQueue(Shared, Generic[T]):
    """Items from any process to any other, first in, first out, with backpressure.

    Made by `Manager.Queue`. As `aioconc.sync.Queue`, with what processes add: items are pickled
    where they are put; what asks the broker is awaited, also `put_nowait` and `qsize`; `task_done`
    is for the process that took the item. A consumer that dies, or is cancelled, while an item is
    on its way to it loses none: it goes to the next one. Of items that it had taken and not called
    done, `join` tells.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         queue = manager.Queue(maxsize=10)
        ...         await queue.put_many("abc")
        ...         queue.shutdown()  # no more to come
        ...         return [item async for item in queue]
        >>> asyncio.run(main())
        ['a', 'b', 'c']
    """

    __slots__ = ("_maxsize",)

    _called = "queue"

    def __init__(self, client: Client, number: int, maxsize: int) -> None:
        super().__init__(client, number)
        self._maxsize = maxsize

    def _options(self) -> tuple[Any, ...]:
        return (self._maxsize,)

    # ------------------------------------------------------------------ getting

    async def get(self) -> T:
        """Wait for an item and take it.

        Raises:
            QueueShutDown: the queue was shut down and is empty.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: in a forked child, if it was made before the fork.
            Exception: the item cannot be unpickled here; it is taken.

        Cancellation:
            No item is lost: one that was on its way to this task goes to the next one, or is first
            in the queue again. The place among those who wait is lost.
        """
        return (await self._do(self._getting("get", 1)))[0]

    async def get_many(self, max_items: int) -> list[T]:
        """Wait for an item and take it, with what is there beside it.

        Args:
            max_items: most items to take, int >= 1. It takes no more at a time than 1,000 or 64 KiB
                of them, so that no loop is held up.

        Returns:
            At least one item, in their order.

        Raises:
            QueueShutDown: the queue was shut down and is empty.

        Cancellation:
            As with `get`.
        """
        return await self._do(self._getting("get", check_count("max_items", max_items)))

    def get_nowait(self) -> Asked[T]:
        """Take an item that is there: `await queue.get_nowait()`.

        Raises:
            QueueEmpty: there is none.
            QueueShutDown: there is none, and the queue was shut down.

        Cancellation:
            As with `get`.
        """
        return self._asked("get_nowait()", self._getting_now())

    def _getting(self, what: str, *args: Any) -> Steps[list[T]]:
        client = self._client
        ask, items = yield self._number, what, *args
        with client._mutex:
            self._note().taken += len(items)
        client.tell(self._number, "took", ask.number)  # they are this process's from now on
        return [unpacked(each) for each in items]

    def _getting_now(self) -> Steps[T]:
        return (yield from self._getting("get_nowait"))[0]

    # ------------------------------------------------------------------ putting

    async def put(self, item: T) -> None:
        """Wait for room and put an item.

        Raises:
            SerializationError: the item cannot be pickled.
            QueueShutDown: the queue was shut down.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            The item is not in the queue. The place among those who wait is lost.
        """
        await self._do(self._putting("put", self._item(item), 0))

    async def put_many(self, items: Iterable[T]) -> None:
        """Put items, waiting for room whenever there is none.

        Equals a `put` for each, and puts as many at once as there is room for. Items of others may
        come between.

        Args:
            items: read as there is room, one item ahead; so it may be endless. An item may be held
                back until the next one is read, so what gives them must not wait for somebody to
                have got the one before.

        Raises:
            SerializationError: an item cannot be pickled; those before it are in the queue.
            QueueShutDown: the queue was shut down; what was put before stays in it.

        Cancellation:
            What was put before stays in the queue. One more was read from `items`, and is not.
        """
        source = iter(items)
        for item in source:
            await self._do(self._putting("put", self._item(item), _CHUNK, source=source))

    def put_nowait(self, item: T) -> Asked[None]:
        """Put an item if there is room: `await queue.put_nowait(item)`.

        Raises:
            QueueFull: there is no room.
            QueueShutDown: the queue was shut down.

        Cancellation:
            As with `put`.
        """
        return self._asked("put_nowait(item)", self._putting("put_nowait", self._item(item)))

    def _putting(self, what: str, *args: Any, source: Iterator[T] = iter(())) -> Steps[None]:
        """Put an item when there is room, and as many more as there are places for."""
        ask, places = yield self._number, what, *args
        if places is None:
            return  # it is in the queue
        more: list[tuple[bytes, Any]] = []
        size = 0
        end = monotonic() + _CHUNK_TIME
        try:
            while len(more) + 1 < places and size < _CHUNK_BYTES and monotonic() < end:
                try:
                    item = next(source)
                except StopIteration:
                    break
                more.append(self._item(item))
                size += len(more[-1][0])
        finally:
            self._client.tell(self._number, "commit", ask.number, more)

    def _item(self, item: T) -> tuple[bytes, Any]:
        return packed(item, "an item of a shared queue"), None

    # ------------------------------------------------------------------ the end of work

    def task_done(self) -> None:
        """Say that an item is done which this process took. It does not wait.

        Raises:
            ValueError: it was called more often than this process took items.
        """
        client = self._ready()
        with client._mutex:
            note = self._note()
            if not note.taken:
                raise ValueError(
                    "task_done() called too many times: it is called by the process that took an "
                    "item, once for each"
                )
            note.taken -= 1
        client.tell(self._number, "task_done")

    async def join(self) -> None:
        """Wait until `task_done` was called for every item that was put.

        Raises:
            OwnerDied: all others are done, but a process died with items that it had taken. They
                count as done from then on; who waits is told, or else who waits next.
            ManagerClosed: the manager has closed, or closes meanwhile.

        Cancellation:
            Nothing is lost.
        """
        await self._do(self._ask("join"))

    def shutdown(self, immediate: bool = False) -> None:
        """Take nothing more; once it is empty, who gets hears `QueueShutDown`. It does not wait.

        Args:
            immediate: throw away what is in it as well. `join` counts those items as done.
        """
        self._tell("shutdown", bool(immediate))

    # ------------------------------------------------------------------ looking

    @property
    def maxsize(self) -> int:
        """Items that may be in the queue; <= 0: no bound."""
        return self._maxsize

    def qsize(self) -> Asked[int]:
        """Items that could be taken at once: `await queue.qsize()`."""
        return self._asked("qsize()", self._look(_qsize))

    def empty(self) -> Asked[bool]:
        """Whether `get_nowait` would fail: `await queue.empty()`."""
        return self._asked("empty()", self._look(_is_empty))

    def full(self) -> Asked[bool]:
        """Whether `put_nowait` would fail: `await queue.full()`."""
        return self._asked("full()", self._look(_is_full))

    def __aiter__(self) -> AsyncIterator[T]:
        return _Items(self)

    @property
    def sync(self) -> "SyncSharedQueue[T]":
        """The same queue for threads and plain worker code: its names block."""
        return SyncSharedQueue(self)

    def statistics(self) -> Asked[SharedQueueStatistics]:
        """How many items are in it, and how many wait for what: `await queue.statistics()`.

        Cancellation:
            Nothing is lost.
        """
        return self._asked("statistics()", self._look(SharedQueueStatistics))

    def _note(self) -> QueueNote:
        note: QueueNote = self._client.notes.setdefault(self._number, QueueNote())
        return note


def _qsize(*state: Any) -> int:
    return SharedQueueStatistics(*state).items


def _is_empty(*state: Any) -> bool:
    return not SharedQueueStatistics(*state).items


def _is_full(*state: Any) -> bool:
    counts = SharedQueueStatistics(*state)
    return 0 < counts.maxsize <= counts.used


class _Items(AsyncIterator[T]):
    """The items of a queue, until it is shut down and empty."""

    __slots__ = ("_queue",)

    def __init__(self, queue: SharedQueue[T]) -> None:
        self._queue = queue

    async def __anext__(self) -> T:
        try:
            return await self._queue.get()
        except QueueShutDown:
            raise StopAsyncIteration from None


class SharedLifoQueue(SharedQueue[T]):
    """A `SharedQueue` that gives the item that was put last. Made by `Manager.LifoQueue`.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         queue = manager.LifoQueue()
        ...         await queue.put_many(["first", "last"])
        ...         return await queue.get()
        >>> asyncio.run(main())
        'last'
    """

    __slots__ = ()


class SharedPriorityQueue(SharedQueue[T]):
    """A `SharedQueue` that gives the lowest item first. Made by `Manager.PriorityQueue`.

    Equal ones come in the order in which they were put. Items are numbers, strings or bytes, or
    tuples that begin with a priority of such a type; what follows it may be anything. They are
    compared in the process of the manager, which runs no code of other classes.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         queue = manager.PriorityQueue()
        ...         await queue.put_many([(2, "later"), (1, "soon")])
        ...         return await queue.get()
        >>> asyncio.run(main())
        (1, 'soon')
    """

    __slots__ = ()

    def _item(self, item: T) -> tuple[bytes, Any]:
        return packed(item, "an item of a shared queue"), check_priority(item)


class SyncSharedQueue(SyncShared, Generic[T]):
    """A `SharedQueue` for threads: what waits, blocks the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ()

    _shared: SharedQueue[T]

    def get(self, *, timeout: float | None = None) -> T:
        """Block until there is an item, and take it.

        Args:
            timeout: seconds >= 0; 0: only if there is one; None: no limit.

        Raises:
            QueueEmpty: the time was up; a `queue.Empty`.
            QueueShutDown: the queue was shut down and is empty.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: an event loop runs in this thread.
        """
        return self._get("get()", timeout, 1)[0]

    def get_many(self, max_items: int, *, timeout: float | None = None) -> list[T]:
        """Block until there is an item, and take it, with what is there beside it.

        Args:
            max_items: most items to take, int >= 1; at a time as with `SharedQueue.get_many`.
            timeout: seconds >= 0; None: no limit.

        Returns:
            At least one item, in their order.

        Raises:
            QueueEmpty: the time was up; a `queue.Empty`.
            QueueShutDown: the queue was shut down and is empty.
        """
        return self._get("get_many(n)", timeout, check_count("max_items", max_items))

    def get_nowait(self) -> T:
        """Take an item that is there.

        Raises:
            QueueEmpty: there is none; a `queue.Empty`.
            QueueShutDown: there is none, and the queue was shut down.
        """
        return self._do("get_nowait()", self._shared._getting_now())

    def _get(self, line: str, timeout: float | None, most: int) -> list[T]:
        try:
            return self._do(line, self._shared._getting("get", most), timeout)
        except TimeUp:
            raise QueueEmpty(f"nothing was put into the queue in {timeout} s") from None

    def put(self, item: T, *, timeout: float | None = None) -> None:
        """Block until there is room, and put an item.

        Args:
            item: anything that can be pickled.
            timeout: seconds >= 0; None: no limit.

        Raises:
            QueueFull: the time was up; a `queue.Full`.
            QueueShutDown: the queue was shut down.
            SerializationError: the item cannot be pickled.
            RuntimeError: an event loop runs in this thread.
        """
        # Where no time can be up before the answer is here, nothing is to be taken back.
        more = 0 if timeout else None
        steps = self._shared._putting("put", self._shared._item(item), more)
        self._put("put(item)", timeout, steps)

    def put_many(self, items: Iterable[T], *, timeout: float | None = None) -> None:
        """Put items, blocking whenever there is no room.

        Args:
            items: read as there is room, one item ahead; so it may be endless.
            timeout: seconds >= 0, each time that there is no room; None: no limit.

        Raises:
            QueueFull: the time was up; what was put before stays in the queue.
            QueueShutDown: the queue was shut down; what was put before stays in it.
            RuntimeError: an event loop runs in this thread.
        """
        queue = self._shared
        source = iter(items)
        for item in source:
            steps = queue._putting("put", queue._item(item), _CHUNK, source=source)
            self._put("put_many(items)", timeout, steps)

    def put_nowait(self, item: T) -> None:
        """Put an item if there is room.

        Raises:
            QueueFull: there is no room; a `queue.Full`.
            QueueShutDown: the queue was shut down.
        """
        queue = self._shared
        self._do("put_nowait(item)", queue._putting("put_nowait", queue._item(item), None))

    def _put(self, line: str, timeout: float | None, steps: Steps[None]) -> None:
        if not self._in_time(line, steps, timeout):
            raise QueueFull(f"there was no room in the queue for {timeout} s")

    def task_done(self) -> None:
        """As `SharedQueue.task_done`."""
        self._shared.task_done()

    def join(self, *, timeout: float | None = None) -> None:
        """Block until `task_done` was called for every item that was put.

        Args:
            timeout: seconds >= 0; None: no limit.

        Raises:
            TimeoutError: the time was up.
            OwnerDied: all others are done, but a process died with items that it had taken.
            RuntimeError: an event loop runs in this thread.
        """
        if not self._in_time("join()", self._shared._ask("join"), timeout):
            raise TimeoutError(f"items of the queue were not done in {timeout} s")

    def shutdown(self, immediate: bool = False) -> None:
        """As `SharedQueue.shutdown`."""
        self._shared.shutdown(immediate)

    @property
    def maxsize(self) -> int:
        """Items that may be in the queue; <= 0: no bound."""
        return self._shared.maxsize

    def qsize(self) -> int:
        """Items that could be taken at once."""
        return self.statistics().items

    def empty(self) -> bool:
        """Whether `get_nowait` would fail."""
        return not self.statistics().items

    def full(self) -> bool:
        """Whether `put_nowait` would fail."""
        return self._do("full()", self._shared._look(_is_full))

    def statistics(self) -> SharedQueueStatistics:
        """How many items are in it, and how many wait for what."""
        return self._do("statistics()", self._shared._look(SharedQueueStatistics))

    def __iter__(self) -> Iterator[T]:
        """The items, until the queue is shut down and empty."""
        while True:
            try:
                item = self.get()
            except QueueShutDown:
                return
            yield item
