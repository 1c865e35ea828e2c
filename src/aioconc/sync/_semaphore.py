"""A number of permits for tasks and threads alike, handed over in the order of arrival.

It guarantees that permits are conserved, whoever is cancelled when, and that nobody overtakes
those who wait. Who holds a permit is not recorded: anybody may give one back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from aioconc._internal._check import check_count
from aioconc.sync._held import Held, SyncHeld
from aioconc.sync._home import refuse
from aioconc.sync._wait_queue import (
    TaskWaiter,
    ThreadWaiter,
    Waitable,
    Waiter,
    WaitQueue,
    WaitStatistics,
    check_blocking,
    check_wait,
    waiting,
)


@dataclass(frozen=True)
class SemaphoreStatistics(WaitStatistics):
    """The state of a semaphore.

    Attributes:
        permits_free: permits that can be taken at once.
    """

    permits_free: int


class Semaphore(Held, Waitable):
    """So many holders at a time, tasks of any event loop or threads.

    Equals `asyncio.Semaphore`, which it replaces line by line, and works across threads and loops.
    Permits are handed over in the order of arrival, and nobody overtakes.

    Args:
        value: permits at the start, int >= 0.

    Raises:
        ValueError: `value` is below 0.
        TypeError: `value` is not an int.

    Example:
        >>> import asyncio
        >>> permits = Semaphore(2)
        >>> async def main():
        ...     async with permits:
        ...         return permits.statistics().permits_free
        >>> asyncio.run(main())
        1
    """

    # Somebody waits only while `_value` is 0.
    __slots__ = ("_value", "_waiters")

    def __init__(self, value: int = 1) -> None:
        super().__init__()
        self._value = check_count("value", value, least=0)
        self._waiters = WaitQueue()

    async def acquire(self) -> Literal[True]:
        """Wait for a permit and take it.

        Returns:
            True, always.

        Raises:
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            While it waits: the place in the queue is lost, nothing else. If the permit was already
            handed to this task, it goes to the next one.
        """
        if self._home.left:
            refuse(self)
        if (waiter := self._enter(TaskWaiter)) is not None:
            await self._wait(waiter)
        return True

    def release(self, n: int = 1) -> None:
        """Give permits back, or add some. Any thread may call it.

        Args:
            n: how many, int >= 1.

        Raises:
            ValueError: `n` is below 1.
        """
        if self._home.left:
            refuse(self)
        check_count("n", n)
        with self._mutex:
            self._check_release(n)
            self._value += n
            woken = self._settle()
        self._wake(woken)

    def locked(self) -> bool:
        """Whether `acquire` would wait."""
        return self._value == 0

    @property
    def sync(self) -> "SyncSemaphore":
        """The same semaphore for threads: its names block, and take a `timeout`."""
        return SyncSemaphore(self)

    def statistics(self) -> SemaphoreStatistics:
        """How many permits are free and how many wait."""
        with self._mutex:
            return SemaphoreStatistics(*waiting(self._waiters), self._value)

    def __repr__(self) -> str:
        with self._mutex:
            return f"<{type(self).__name__} {self._value} free, {self._waiters.count_waiting()} waiting>"

    # ------------------------------------------------------------------ decisions

    def _enter(self, kind: type[Any]) -> Any:
        """Take a permit, or the waiter that was queued for one."""
        with self._mutex:
            if self._value > 0:
                self._value -= 1
                return None
        waiter = kind(self._waiters)
        with self._mutex:
            if self._value > 0:  # given back meanwhile
                self._value -= 1
                return None
            self._waiters.add(waiter)
        return waiter

    def _check_release(self, n: int) -> None:
        """With the mutex: whether so many may be given back."""

    def _settle(self) -> Iterable[Waiter]:
        """With the mutex: grant free permits to those who wait."""
        if not self._waiters:
            return ()
        woken: list[Waiter] = []
        while self._value > 0 and self._waiters:
            self._value -= 1
            woken.append(self._waiters.grant())
        return woken

    def _undo(self, waiter: Waiter) -> Iterable[Waiter]:
        self._value += 1
        return self._settle()


class BoundedSemaphore(Semaphore):
    """A `Semaphore` that refuses to have more permits than at the start: a slip is found.

    Equals `asyncio.BoundedSemaphore`.

    Args:
        value: permits, int >= 0.

    Example:
        >>> permits = BoundedSemaphore(2)
        >>> permits.release()
        Traceback (most recent call last):
          ...
        ValueError: BoundedSemaphore released too many times: it has 2 permits, and all are free
    """

    __slots__ = ("_bound",)

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._bound = value

    def _check_release(self, n: int) -> None:
        if self._value + n > self._bound:
            free = "all" if self._value == self._bound else str(self._value)
            raise ValueError(
                f"BoundedSemaphore released too many times: it has {self._bound} permits, and "
                f"{free} are free"
            )


class SyncSemaphore(SyncHeld):
    """A `Semaphore` for threads: what waits, blocks the thread.

    Equals `threading.Semaphore`. Raises RuntimeError in the thread of a running event loop, which
    it would stop.
    """

    __slots__ = ()

    _called = "semaphore"
    _held: Semaphore

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Block until a permit is taken.

        Args:
            timeout: seconds >= 0; None: no limit.

        Returns:
            Whether one was taken in time.

        Raises:
            RuntimeError: an event loop runs in this thread.
        """
        semaphore = self._held
        check_blocking(f"{type(semaphore).__name__}.sync.acquire", "await semaphore.acquire()")
        timeout = check_wait(timeout)
        if semaphore._home.left:
            refuse(semaphore)
        waiter = semaphore._enter(ThreadWaiter)
        return waiter is None or semaphore._park(waiter, timeout)

    def release(self, n: int = 1) -> None:
        """As `Semaphore.release`."""
        self._held.release(n)

    def locked(self) -> bool:
        """Whether `acquire` would wait."""
        return self._held.locked()
