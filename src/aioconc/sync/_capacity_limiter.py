"""So many borrowers at a time, each known: a semaphore that finds slips and may change its size.

It guarantees that a place is given back by who borrowed it, that nobody borrows twice (which
deadlocks when all places are taken), and that places are handed over in the order of arrival.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aioconc._internal._check import check_limit
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
class CapacityLimiterStatistics(WaitStatistics):
    """The state of a limiter.

    Attributes:
        total_tokens: how many may borrow at a time.
        borrowed_tokens: how many do.
        borrowers: who does, such as "task 'Task-3'".
    """

    total_tokens: int | float
    borrowed_tokens: int
    borrowers: tuple[str, ...]


class CapacityLimiter(Held, Waitable):
    """So many borrowers at a time: tasks of any event loop, threads, or what you name.

    Its names are those of `anyio.CapacityLimiter`; it works across threads and loops.

    Args:
        total_tokens: borrowers at a time, int >= 1, or `math.inf`.

    Raises:
        ValueError: `total_tokens` is below 1.
        TypeError: `total_tokens` is not an int.

    Example:
        >>> import asyncio
        >>> limiter = CapacityLimiter(2)
        >>> async def main():
        ...     async with limiter:
        ...         return limiter.available_tokens
        >>> asyncio.run(main())
        1
    """

    # Somebody waits only while there are `_total` borrowers or more.
    # `_wanting`: the owners of `_waiters`.
    __slots__ = ("_borrowers", "_total", "_waiters", "_wanting")

    def __init__(self, total_tokens: int | float) -> None:
        super().__init__()
        self._total = check_limit("total_tokens", total_tokens)
        self._borrowers: dict[Owner, None] = {}
        self._waiters = WaitQueue()
        self._wanting: set[Owner] = set()

    @property
    def total_tokens(self) -> int | float:
        """How many may borrow at a time; may be set, and then holds for those who wait too."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, value: int | float) -> None:
        if self._home.left:
            refuse(self)
        total = check_limit("total_tokens", value)
        with self._mutex:
            self._total = total
            woken = self._settle()
        self._wake(woken)

    @property
    def borrowed_tokens(self) -> int:
        """How many borrow now."""
        return len(self._borrowers)

    @property
    def available_tokens(self) -> int | float:
        """How many more could borrow at once; below 0 after `total_tokens` was lowered."""
        return self._total - len(self._borrowers)

    async def acquire(self) -> None:
        """Wait for a place and borrow it for this task.

        Raises:
            RuntimeError: this task has borrowed one already.

        Cancellation:
            While it waits: the place in the queue is lost, nothing else. A place that was already
            handed to this task goes to the next one.
        """
        await self.acquire_on_behalf_of(asyncio.current_task())

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """As `acquire`, for anything hashable in place of this task."""
        waiter = self._enter(TaskWaiter, borrower)
        if waiter is not None:
            await self._wait(waiter)

    def acquire_nowait(self) -> None:
        """Borrow a place at once.

        Raises:
            BlockingIOError: none is free.
            RuntimeError: this task, or this thread, has borrowed one already.
        """
        self.acquire_on_behalf_of_nowait(me())

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """As `acquire_nowait`, for anything hashable in place of this task."""
        if self._home.left:
            refuse(self)
        with self._mutex:
            if self._is_taken(borrower):
                raise BlockingIOError("no place of the CapacityLimiter is free")

    def release(self) -> None:
        """Give back what this task, or this thread, has borrowed.

        Raises:
            RuntimeError: it has not.
        """
        self.release_on_behalf_of(me())

    def release_on_behalf_of(self, borrower: object) -> None:
        """As `release`, for anything hashable in place of this task."""
        if self._home.left:
            refuse(self)
        with self._mutex:
            if borrower not in self._borrowers:
                raise RuntimeError(f"{name_of(borrower)} has borrowed nothing of {self._text()}")
            del self._borrowers[borrower]
            woken = self._settle()
        self._wake(woken)

    @property
    def sync(self) -> "SyncCapacityLimiter":
        """The same limiter for threads: its names block, and take a `timeout`."""
        return SyncCapacityLimiter(self)

    def statistics(self) -> CapacityLimiterStatistics:
        """Who borrows and how many wait."""
        with self._mutex:
            counts = waiting(self._waiters)
            total, borrowers = self._total, tuple(self._borrowers)
        return CapacityLimiterStatistics(
            *counts, total, len(borrowers), tuple(map(name_of, borrowers))
        )

    def __repr__(self) -> str:
        with self._mutex:
            return self._text()

    # ------------------------------------------------------------------ decisions

    def _text(self) -> str:
        return (
            f"<{type(self).__name__} {len(self._borrowers)}/{self._total} borrowed, "
            f"{self._waiters.count_waiting()} waiting>"
        )

    def _enter(self, kind: type[Any], borrower: Owner) -> Any:
        """Borrow a place, or the waiter that was queued for one."""
        if self._home.left:
            refuse(self)
        waiter = kind(self._waiters, borrower)
        with self._mutex:
            if not self._is_taken(borrower):
                return None
            self._waiters.add(waiter)
            self._wanting.add(borrower)
        return waiter

    def _is_taken(self, borrower: Owner) -> bool:
        """With the mutex: borrow, or True if all places are taken."""
        if borrower in self._borrowers or borrower in self._wanting:
            raise RuntimeError(
                f"{name_of(borrower)} has borrowed a place of {self._text()} already, or waits for "
                "one; nobody borrows twice, since that deadlocks once all places are taken"
            )
        if len(self._borrowers) >= self._total:
            return True
        self._borrowers[borrower] = None
        return False

    def _settle(self) -> Iterable[Waiter]:
        """With the mutex: grant free places to those who wait."""
        woken: list[Waiter] = []
        while self._waiters and len(self._borrowers) < self._total:
            waiter = self._waiters.grant()
            self._wanting.discard(waiter.owner)
            self._borrowers[waiter.owner] = None
            woken.append(waiter)
        return woken

    def _undo(self, waiter: Waiter) -> Iterable[Waiter]:
        self._borrowers.pop(waiter.owner, None)
        return self._settle()

    def _left(self, waiter: Waiter) -> Iterable[Waiter]:
        self._wanting.discard(waiter.owner)
        return ()

    def _wait_for_graph_owners(self, method: str) -> "Iterable[asyncio.Task[Any]] | None":
        return tasks_among(self._borrowers)


class SyncCapacityLimiter(SyncHeld):
    """A `CapacityLimiter` for threads: what waits, blocks the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ()

    _called = "limiter"
    _held: CapacityLimiter

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Block until a place is borrowed for this thread.

        Args:
            timeout: seconds >= 0; None: no limit.

        Returns:
            Whether one was borrowed in time.

        Raises:
            RuntimeError: this thread has borrowed one already, or an event loop runs in it.
        """
        check_blocking("CapacityLimiter.sync.acquire", "await limiter.acquire()")
        timeout = check_wait(timeout)
        waiter = self._held._enter(ThreadWaiter, me())
        return waiter is None or self._held._park(waiter, timeout)
