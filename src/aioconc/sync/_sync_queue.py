"""The blocking face of a queue, for threads.

It guarantees what the queue does, and that it never stops an event loop. All decisions are made by
the queue.
"""

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aioconc._internal._check import check_count
from aioconc.sync._errors import QueueEmpty, QueueFull, QueueShutDown
from aioconc.sync._home import refuse
from aioconc.sync._wait_queue import ThreadWaiter, check_blocking, check_wait, running_loop

if TYPE_CHECKING:
    from aioconc.sync._queue import Queue

T = TypeVar("T")


class SyncQueue(Generic[T]):
    """A queue for threads: what waits, blocks the thread.

    Equals `queue.Queue`, with the `shutdown` of Python 3.13. Raises RuntimeError in the thread of a
    running event loop, which it would stop.
    """

    __slots__ = ("_queue",)

    def __init__(self, queue: "Queue[T]") -> None:
        self._queue = queue

    def get(self, *, timeout: float | None = None) -> T:
        """Block until there is an item, and take it.

        Args:
            timeout: seconds >= 0; None: no limit.

        Raises:
            QueueEmpty: the time was up; a `queue.Empty`.
            QueueShutDown: the queue was shut down and is empty.
            RuntimeError: an event loop runs in this thread.
        """
        queue = self._queue
        if timeout is not None or running_loop() is not None or queue._home.left:
            timeout = self._check("get", "item = await queue.get()", timeout)
        while True:
            if queue._items:
                try:
                    item = queue._take_next() if queue._reserved else queue._take()
                except IndexError:  # another thread was faster
                    pass
                else:
                    if queue._putters:
                        queue._let_in()
                    return item
            waiter = ThreadWaiter(queue._getters)
            try:
                if queue._queue_getter(waiter):
                    self._park(waiter, timeout)
                    return queue._take_granted(waiter)
            except BaseException:  # KeyboardInterrupt, also around `_park`
                queue._give_up(waiter)
                raise

    def get_many(self, max_items: int, *, timeout: float | None = None) -> list[T]:
        """Block until there is an item, and take it, with what is there beside it.

        Args:
            max_items: most items to take, int >= 1.
            timeout: seconds >= 0; None: no limit.

        Returns:
            At least one item, in their order.

        Raises:
            QueueEmpty: the time was up; a `queue.Empty`.
            QueueShutDown: the queue was shut down and is empty.
            RuntimeError: an event loop runs in this thread.
        """
        check_count("max_items", max_items)
        timeout = self._check("get_many", "items = await queue.get_many(n)", timeout)
        queue = self._queue
        while not (items := queue._take_many(max_items)):
            waiter = ThreadWaiter(queue._getters)
            try:
                if queue._queue_getter(waiter):
                    self._park(waiter, timeout)
                    return [queue._take_granted(waiter), *queue._take_many(max_items - 1)]
            except BaseException:
                queue._give_up(waiter)
                raise
        return items

    def get_nowait(self) -> T:
        """As `Queue.get_nowait`."""
        return self._queue.get_nowait()

    def put(self, item: T, *, timeout: float | None = None) -> None:
        """Block until there is room, and put an item.

        Args:
            item: anything.
            timeout: seconds >= 0; None: no limit.

        Raises:
            QueueFull: the time was up; a `queue.Full`.
            QueueShutDown: the queue was shut down.
            RuntimeError: an event loop runs in this thread.
        """
        queue = self._queue
        if timeout is not None or running_loop() is not None or queue._home.left:
            timeout = self._check("put", "await queue.put(item)", timeout)
        if queue._is_calm:
            for _ in queue._entry:
                try:
                    # A thread may wait by now.
                    if queue._is_calm and len(queue._items) < queue._room:  # type: ignore[redundant-expr]
                        queue._put_in(item)
                        queue._unfinished += 1
                        return
                finally:  # also for items that cannot be compared
                    queue._mutex.release()
                break
        if len(queue._items) < queue._room and queue._put_now(item):
            return
        waiter = ThreadWaiter(queue._putters)
        try:
            if queue._place_or_queue(waiter) and not queue._park(waiter, timeout):
                raise QueueFull(f"there was no room in the queue for {timeout} s")
            queue._put_one_granted(waiter, item)
        except BaseException:  # KeyboardInterrupt, also around `_park`
            queue._give_up(waiter)
            raise

    def put_many(self, items: Iterable[T], *, timeout: float | None = None) -> None:
        """Put items, blocking whenever there is no room.

        Args:
            items: read as there is room, one item ahead; so it may be endless.
            timeout: seconds >= 0 for all of them; None: no limit.

        Raises:
            QueueFull: the time was up; what was put before stays in the queue.
            QueueShutDown: the queue was shut down; what was put before stays in it.
            RuntimeError: an event loop runs in this thread.
        """
        timeout = self._check("put_many", "await queue.put_many(items)", timeout)
        end = None if timeout is None else monotonic() + timeout
        queue = self._queue
        source = iter(items)
        for item in source:
            waiter = ThreadWaiter(queue._putters)
            try:
                if queue._place_or_queue(waiter):
                    left = None if end is None else max(0.0, end - monotonic())
                    if not queue._park(waiter, left):
                        raise QueueFull(
                            f"there was no room in the queue for all items in {timeout} s"
                        )
                queue._fill(waiter, item, source)
            except BaseException:
                queue._give_up(waiter)
                raise

    def put_nowait(self, item: T) -> None:
        """As `Queue.put_nowait`."""
        self._queue.put_nowait(item)

    def task_done(self) -> None:
        """As `Queue.task_done`."""
        self._queue.task_done()

    def join(self, *, timeout: float | None = None) -> None:
        """Block until `task_done` was called for every item that was put.

        Args:
            timeout: seconds >= 0; None: no limit.

        Raises:
            TimeoutError: the time was up.
            RuntimeError: an event loop runs in this thread.
        """
        timeout = self._check("join", "await queue.join()", timeout)
        queue = self._queue
        waiter = ThreadWaiter(queue._joiners)
        if queue._queue_join(waiter) and not queue._park(waiter, timeout):
            raise TimeoutError(f"items of the queue were not done in {timeout} s")

    def shutdown(self, immediate: bool = False) -> None:
        """As `Queue.shutdown`."""
        self._queue.shutdown(immediate)

    @property
    def maxsize(self) -> int:
        """Items that may be in the queue; <= 0: no bound."""
        return self._queue.maxsize

    def qsize(self) -> int:
        """Items that could be taken at once."""
        return self._queue.qsize()

    def empty(self) -> bool:
        """Whether `get_nowait` would fail."""
        return self._queue.empty()

    def full(self) -> bool:
        """Whether `put_nowait` would fail."""
        return self._queue.full()

    def __iter__(self) -> Iterator[T]:
        """The items, until the queue is shut down and empty."""
        while True:
            try:
                item = self.get()
            except QueueShutDown:
                return
            yield item

    def _park(self, waiter: ThreadWaiter, timeout: float | None) -> None:
        """Block until an item is granted."""
        if not self._queue._park(waiter, timeout):
            raise QueueEmpty(f"nothing was put into the queue in {timeout} s")

    def _check(self, name: str, instead: str, timeout: Any) -> float | None:
        check_blocking(f"{type(self._queue).__name__}.sync.{name}", instead)
        if self._queue._home.left:
            refuse(self._queue)
        return check_wait(timeout)

    def __repr__(self) -> str:
        return f"{self._queue!r}.sync"
