"""A mutual exclusion lock for tasks and threads alike, handed over in the order of arrival.

It guarantees that a lock is never lost to a waiter who is cancelled, and that nobody overtakes
those who wait. Locks that one owner may take again are in `_rlock`.
"""

import asyncio
from asyncio import current_task
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from aioconc.sync._held import Held, SyncHeld
from aioconc.sync._home import refuse
from aioconc.sync._wait_queue import (
    Owner,
    TaskWaiter,
    ThreadWaiter,
    Waitable,
    Waiter,
    WaitQueue,
    WaitStatistics,
    check_blocking,
    check_wait,
    me,
    name_of,
    tasks_among,
    waiting,
)


@dataclass(frozen=True)
class LockStatistics(WaitStatistics):
    """The state of a lock.

    Attributes:
        locked: whether somebody holds it.
        owner: who holds it, such as "task 'Task-3'" or "thread 'MainThread'"; None: nobody.
    """

    locked: bool
    owner: str | None


class Lock(Held, Waitable):
    """One holder at a time: a task of any event loop, or a thread.

    Equals `asyncio.Lock`, which it replaces line by line, and works across threads and loops.
    Threads use the same names, blocking, under `sync`. It is handed over in the order of arrival,
    and nobody overtakes. Any task or thread may release it; the owner is recorded for `repr`,
    `statistics` and `aioconc.testing.wait_graph`.

    Example:
        >>> import asyncio
        >>> lock = Lock()
        >>> async def main():
        ...     async with lock:
        ...         return lock.locked()
        >>> asyncio.run(main())
        True
        >>> with lock.sync:  # in a thread without an event loop
        ...     lock.statistics().owner
        "thread 'MainThread'"
    """

    # `_owner` is None iff nobody holds the lock.
    # Somebody waits only while `_owner` is not None.
    __slots__ = ("_owner", "_waiters")

    def __init__(self) -> None:
        super().__init__()
        self._owner: Owner = None
        self._waiters = WaitQueue()

    async def acquire(self) -> Literal[True]:
        """Wait for the lock and take it.

        Returns:
            True, always.

        Raises:
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            While it waits: the place in the queue is lost, nothing else. If the lock was already
            handed to this task, it goes to the next one.
        """
        await Lock.__aenter__(self)
        return True

    def release(self) -> None:
        """Give the lock to who has waited longest, or leave it free. Any thread may call it.

        Raises:
            RuntimeError: nobody holds it.
        """
        if self._home.left:
            refuse(self)
        woken = None
        try:
            for _ in self._entry:
                try:
                    if not self._waiters:
                        if self._owner is None:
                            raise RuntimeError("Lock is not acquired.")
                        self._owner = None
                        return
                    woken = self._hand_on()
                finally:
                    self._mutex.release()
                break
        finally:  # KeyboardInterrupt most often comes after a call, such as the one of `release`
            if woken is not None and not woken.wake():
                self._give_up_now(woken)

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._owner is not None

    async def __aenter__(self) -> None:
        # What most programs do all day. A lock that looks taken most often is: then the mutex is
        # taken once, with the waiter made before.
        if self._home.left:
            refuse(self)
        task = current_task()
        if self._owner is None:
            for _ in self._entry:
                try:
                    if self._owner is None:  # else a thread took it in between
                        self._owner = task
                        return
                finally:
                    self._mutex.release()
                break  # type: ignore[unreachable]
        waiter = TaskWaiter(self._waiters, task)
        for _ in self._entry:
            try:
                if self._owner is None:  # released meanwhile
                    self._owner = task
                    return
                self._waiters.add(waiter)
            finally:
                self._mutex.release()
            break
        try:  # `_wait`, without a coroutine more
            await waiter.future
        except BaseException:
            self._give_up(waiter)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._home.left:
            refuse(self)
        if not self._waiters:
            for _ in self._entry:
                try:
                    if not self._waiters and self._owner is not None:
                        self._owner = None
                        return
                finally:
                    self._mutex.release()
                break
        self.release()

    @property
    def sync(self) -> "SyncLock":
        """The same lock for threads: its names block, and take a `timeout`."""
        return SyncLock(self)

    def statistics(self) -> LockStatistics:
        """Who holds it and how many wait."""
        with self._mutex:
            owner = self._owner
            counts = waiting(self._waiters)
        return LockStatistics(*counts, owner is not None, None if owner is None else name_of(owner))

    def __repr__(self) -> str:
        with self._mutex:
            owner, count = self._owner, self._waiters.count_waiting()
        state = "unlocked" if owner is None else f"locked by {name_of(owner)}"
        return f"<{type(self).__name__} {state}, {count} waiting>"

    # ------------------------------------------------------------------ decisions

    def _enter(self, kind: type[Any], owner: Owner) -> Any:
        """Take the lock, or the waiter that was queued for it."""
        with self._mutex:
            if self._owner is None:
                self._owner = owner
                return None
        # Made outside of the mutex; so the lock may have become free meanwhile.
        waiter = kind(self._waiters, owner)
        with self._mutex:
            if self._owner is None:
                self._owner = owner
                return None
            self._waiters.add(waiter)
        return waiter

    def _hand_on(self) -> Waiter:
        """With the mutex: the first waiter owns the lock."""
        waiter = self._waiters.grant()
        self._owner = waiter.owner
        return waiter

    def _undo(self, waiter: Waiter) -> Iterable[Waiter]:
        if self._waiters:
            return (self._hand_on(),)
        self._owner = None
        return ()

    # ------------------------------------------------------------------ for conditions

    def _let_go(self) -> int:
        """Release as often as it was acquired; what `_acquire_again` wants to know."""
        self.release()
        return 1

    async def _acquire_again(self, times: int) -> None:
        await Lock.acquire(self)

    def _block_again(self, times: int) -> None:
        self.sync._acquire(None)

    def _wait_for_graph_owners(self, method: str) -> "Iterable[asyncio.Task[Any]] | None":
        return tasks_among([self._owner])


class SyncLock(SyncHeld):
    """A `Lock` for threads: what waits, blocks the thread.

    Equals `threading.Lock`. Raises RuntimeError in the thread of a running event loop, which it
    would stop.
    """

    __slots__ = ()

    _held: Lock

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Block until the lock is taken.

        Args:
            timeout: seconds >= 0; None: no limit.

        Returns:
            Whether it was taken in time.

        Raises:
            RuntimeError: an event loop runs in this thread.
        """
        check_blocking(f"{type(self._held).__name__}.sync.acquire", "await lock.acquire()")
        return self._acquire(check_wait(timeout))

    def _acquire(self, timeout: float | None) -> bool:
        lock = self._held
        if lock._home.left:
            refuse(lock)
        waiter = lock._enter(ThreadWaiter, me())
        return waiter is None or lock._park(waiter, timeout)

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._held.locked()
