"""A condition variable for tasks and threads alike.

It guarantees that the lock is held again when `wait` ends, however it ends, and that a
notification is never lost to a waiter who is cancelled. What is waited for is left to the program:
it asks again after each wake-up, or uses `wait_for`.
"""

from asyncio import CancelledError
from collections.abc import Callable, Iterable
from time import monotonic
from types import TracebackType
from typing import Literal, TypeVar

from aioconc._internal._check import check_count
from aioconc.sync._home import refuse
from aioconc.sync._lock import Lock, LockStatistics
from aioconc.sync._wait_queue import (
    TaskWaiter,
    ThreadWaiter,
    Waitable,
    Waiter,
    WaitQueue,
    check_blocking,
    check_wait,
    waiting,
)

T = TypeVar("T")


class Condition(Waitable):
    """A lock with a queue of those who wait for something that others do under the lock.

    Equals `asyncio.Condition`, and `threading.Condition` under `sync`.

    Args:
        lock: `aioconc.Lock` or `aioconc.sync.RLock`, shared with whom you like; None: a `Lock` of
            its own.

    Raises:
        TypeError: `lock` is another kind of lock.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     changed, found = Condition(), []
        ...     async def finder():
        ...         async with changed:
        ...             found.append("it")
        ...             changed.notify()
        ...     task = asyncio.create_task(finder())
        ...     async with changed:
        ...         await changed.wait_for(lambda: found)
        ...     return found
        >>> asyncio.run(main())
        ['it']
    """

    # `_internal_lock`: so that the wait graph knows a block of the condition as one of its lock.
    __slots__ = ("_internal_lock", "_waiters")

    def __init__(self, lock: Lock | None = None) -> None:
        super().__init__()
        if lock is not None and not isinstance(lock, Lock):
            raise TypeError(
                f"lock must be a Lock or RLock of aioconc, got {lock!r}; "
                "pass None for a lock of its own"
            )
        self._internal_lock = Lock() if lock is None else lock
        self._waiters = WaitQueue()

    # ------------------------------------------------------------------ the lock

    async def acquire(self) -> Literal[True]:
        """As `Lock.acquire`.

        Cancellation:
            As with `Lock.acquire`.
        """
        return await self._internal_lock.acquire()

    def release(self) -> None:
        """As `Lock.release`."""
        self._internal_lock.release()

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        return self._internal_lock.locked()

    async def __aenter__(self) -> None:
        await self._internal_lock.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._internal_lock.release()

    # ------------------------------------------------------------------ waiting

    async def wait(self) -> Literal[True]:
        """Release the lock, wait for a notification, and take the lock again.

        Returns:
            True, always.

        Raises:
            RuntimeError: nobody holds the lock.

        Cancellation:
            The lock is waited for, and held again, before the cancellation is raised. If this task
            had been notified, the next one is notified in its place.
        """
        self._check_locked("wait on")
        waiter = TaskWaiter(self._waiters)
        with self._mutex:
            self._waiters.add(waiter)
        try:
            times = self._internal_lock._let_go()
        except BaseException:  # an RLock of somebody else
            self._give_up(waiter)
            raise
        cancelled: CancelledError | None = None
        try:
            await self._wait(waiter)
        finally:
            while True:
                try:
                    await self._internal_lock._acquire_again(times)
                    break
                except CancelledError as error:
                    cancelled = error
            try:
                if cancelled is not None:
                    # The notification, if there was one, came to somebody who does not act on it.
                    self._give_up(waiter)
                    raise cancelled
            finally:
                cancelled = None
        return True

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """Wait until `predicate()` is true; it is called under the lock, after each notification.

        Returns:
            What it returned.

        Raises:
            RuntimeError: nobody holds the lock.

        Cancellation:
            As with `wait`.
        """
        while not (result := predicate()):
            await self.wait()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake those who have waited longest. Any thread may call it that holds the lock.

        Args:
            n: how many at most, int >= 1.

        Raises:
            RuntimeError: nobody holds the lock.
        """
        check_count("n", n)
        self._check_locked("notify")
        with self._mutex:
            woken = [self._waiters.grant() for _ in range(min(n, self._waiters.count_waiting()))]
        self._wake(woken)

    def notify_all(self) -> None:
        """Wake all who wait.

        Raises:
            RuntimeError: nobody holds the lock.
        """
        self._check_locked("notify")
        with self._mutex:
            woken = self._waiters.grant_all()
        self._wake(woken)

    @property
    def sync(self) -> "SyncCondition":
        """The same condition for threads: its names block, and take a `timeout`."""
        return SyncCondition(self)

    def statistics(self) -> LockStatistics:
        """Who holds the lock, and how many wait to be notified."""
        lock = self._internal_lock.statistics()
        with self._mutex:
            return LockStatistics(*waiting(self._waiters), lock.locked, lock.owner)

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{type(self).__name__} {state}, {self._waiters.count_waiting()} waiting>"

    # ------------------------------------------------------------------ decisions

    def _check_locked(self, what: str) -> None:
        if self._home.left:
            refuse(self)
        if not self._internal_lock.locked():
            raise RuntimeError(f"cannot {what} a Condition whose lock nobody holds")

    def _undo(self, waiter: Waiter) -> Iterable[Waiter]:
        return (self._waiters.grant(),) if self._waiters else ()


class SyncCondition:
    """A `Condition` for threads: what waits, blocks the thread.

    Equals `threading.Condition`. Raises RuntimeError in the thread of a running event loop, which
    it would stop.
    """

    __slots__ = ("_condition",)

    def __init__(self, condition: Condition) -> None:
        self._condition = condition

    def acquire(self, *, timeout: float | None = None) -> bool:
        """As `lock.sync.acquire` of its lock."""
        return self._condition._internal_lock.sync.acquire(timeout=timeout)

    def release(self) -> None:
        """As `Condition.release`."""
        self._condition.release()

    def __enter__(self) -> None:
        self._condition._internal_lock.sync.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._condition.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, block until notified, and take the lock again.

        Args:
            timeout: seconds >= 0 to wait for the notification; the lock is waited for without a
                limit. None: no limit.

        Returns:
            Whether the notification came in time.

        Raises:
            RuntimeError: nobody holds the lock, or an event loop runs in this thread.
        """
        check_blocking("Condition.sync.wait", "await condition.wait()")
        timeout = check_wait(timeout)
        condition = self._condition
        condition._check_locked("wait on")
        waiter = ThreadWaiter(condition._waiters)
        with condition._mutex:
            condition._waiters.add(waiter)
        try:
            times = condition._internal_lock._let_go()
        except BaseException:  # an RLock of somebody else
            condition._give_up(waiter)
            raise
        try:
            return condition._park(waiter, timeout)
        finally:
            condition._internal_lock._block_again(times)

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Block until `predicate()` is true or the time is up.

        Returns:
            What it returned last; false if the time was up.
        """
        timeout = check_wait(timeout)
        end = None if timeout is None else monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        """As `Condition.notify`."""
        self._condition.notify(n)

    def notify_all(self) -> None:
        """As `Condition.notify_all`."""
        self._condition.notify_all()

    def __repr__(self) -> str:
        return f"{self._condition!r}.sync"
