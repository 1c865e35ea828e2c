"""A flag that tasks and threads wait for.

It guarantees that all who wait when it is set go on, also if it is cleared at once. Who may set it
is left to the program: anybody.
"""

from dataclasses import dataclass
from typing import Literal

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
class EventStatistics(WaitStatistics):
    """The state of an event.

    Attributes:
        is_set: whether it is set.
    """

    is_set: bool


class Event(Waitable):
    """Something that has happened, or has not yet.

    Equals `asyncio.Event`, and `threading.Event` under `sync`; any thread may set it.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     ready = Event()
        ...     asyncio.get_running_loop().call_soon(ready.set)
        ...     return await ready.wait()
        >>> asyncio.run(main())
        True
    """

    # Somebody waits only while `_flag` is False.
    __slots__ = ("_flag", "_waiters")

    def __init__(self) -> None:
        super().__init__()
        self._flag = False
        self._waiters = WaitQueue()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._flag

    def set(self) -> None:
        """Set it: all who wait go on. Any thread may call it."""
        if self._home.left:
            refuse(self)
        with self._mutex:
            self._flag = True
            woken = self._waiters.grant_all()
        self._wake(woken)

    def clear(self) -> None:
        """Make it not set; who comes from now on waits. Any thread may call it."""
        if self._home.left:
            refuse(self)
        with self._mutex:
            self._flag = False

    async def wait(self) -> Literal[True]:
        """Wait until it is set; at once if it is.

        Returns:
            True, always.

        Raises:
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            Nothing is lost.
        """
        if self._home.left:
            refuse(self)
        if not self._flag:
            waiter = TaskWaiter(self._waiters)
            if self._queue_waiter(waiter):
                await self._wait(waiter)
        return True

    def _queue_waiter(self, waiter: Waiter) -> bool:
        """Queue the waiter; False if it has been set meanwhile."""
        with self._mutex:
            if self._flag:
                return False
            self._waiters.add(waiter)
        return True

    @property
    def sync(self) -> "SyncEvent":
        """The same event for threads: `wait` blocks, and takes a `timeout`."""
        return SyncEvent(self)

    def statistics(self) -> EventStatistics:
        """Whether it is set, and how many wait."""
        with self._mutex:
            return EventStatistics(*waiting(self._waiters), self._flag)

    def __repr__(self) -> str:
        with self._mutex:
            state = "set" if self._flag else "not set"
            return f"<{type(self).__name__} {state}, {self._waiters.count_waiting()} waiting>"


class SyncEvent:
    """An `Event` for threads: `wait` blocks the thread.

    Equals `threading.Event`. Raises RuntimeError in the thread of a running event loop, which it
    would stop.
    """

    __slots__ = ("_event",)

    def __init__(self, event: Event) -> None:
        self._event = event

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is set.

        Args:
            timeout: seconds >= 0; None: no limit.

        Returns:
            Whether it was set in time.

        Raises:
            RuntimeError: an event loop runs in this thread.
        """
        check_blocking("Event.sync.wait", "await event.wait()")
        timeout = check_wait(timeout)
        event = self._event
        if event._home.left:
            refuse(event)
        waiter = ThreadWaiter(event._waiters)
        return not event._queue_waiter(waiter) or event._park(waiter, timeout)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """As `Event.set`."""
        self._event.set()

    def clear(self) -> None:
        """As `Event.clear`."""
        self._event.clear()

    def __repr__(self) -> str:
        return f"{self._event!r}.sync"
