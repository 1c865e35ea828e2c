"""Shared conditions, as programs hold them.

It guarantees that the lock is held again when `wait` ends, however it ends, and that a
notification is never lost to a waiter who is cancelled or dies.
"""

from asyncio import CancelledError
from collections.abc import Callable
from time import monotonic
from typing import Any, Literal, TypeVar

from aioconc._internal._check import check_count
from aioconc.channels._manager._client import Ask, Client
from aioconc.channels._manager._shared import Asked, Steps, TimeUp
from aioconc.channels._manager._shared_locks import SharedHeld, SharedLock, SyncSharedHeld
from aioconc.channels._manager._statistics import SharedLockStatistics
from aioconc.errors import ManagerClosed, OwnerDied
from aioconc.sync._wait_queue import check_wait

T = TypeVar("T")


class SharedCondition(SharedHeld):
    """A shared lock with a queue of those who wait for something that others do under the lock.

    Made by `Manager.Condition`. As `aioconc.sync.Condition`. If the holder of the lock dies, all
    who wait go on, since the one they waited for may have been the dead one: `wait` raises
    `OwnerDied`, with the lock held as ever, or returns if the lock is made to be handed on.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         changed, found = manager.Condition(), manager.list()
        ...         async def finder():
        ...             async with changed:
        ...                 await found.append("it")
        ...                 changed.notify()
        ...         task = asyncio.create_task(finder())
        ...         async with changed:
        ...             while not await found.size():
        ...                 await changed.wait()
        ...         await task
        ...         return await found.copy()
        >>> asyncio.run(main())
        ['it']
    """

    __slots__ = ("_lock",)

    _called = "condition"

    def __init__(self, client: Client, number: int, kind: type[SharedLock], lock: int) -> None:
        super().__init__(client, number)
        self._lock = kind(client, lock)

    def _options(self) -> tuple[Any, ...]:
        return type(self._lock), self._lock._number

    # ------------------------------------------------------------------ the lock

    async def acquire(self) -> Literal[True]:
        """As `SharedLock.acquire`.

        Cancellation:
            As with `SharedLock.acquire`.
        """
        return await self._lock.acquire()

    def release(self) -> None:
        """As `SharedLock.release`."""
        self._lock.release()

    def locked(self) -> Asked[bool]:
        """Whether somebody holds the lock: `await condition.locked()`."""
        return self._lock.locked()

    # ------------------------------------------------------------------ waiting

    async def wait(self) -> Literal[True]:
        """Release the lock, wait for a notification, and take the lock again.

        Returns:
            True, always.

        Raises:
            OwnerDied: the holder of the lock died meanwhile; the lock is held all the same.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: nobody in this process holds the lock.

        Cancellation:
            The lock is waited for, and held again, before the cancellation is raised. If this task
            had been notified, the next one is notified in its place.
        """
        await self._do(self._waiting())
        return True

    def _waiting(self) -> Steps[None]:
        held = self._let_go("wait on")
        given_up: BaseException | None = None
        died: OwnerDied | None = None
        try:
            ask, (_, died) = yield self._number, "wait", held[0].number
            self._hold(ask, held)
        except (CancelledError, KeyboardInterrupt, TimeUp) as error:
            given_up = error
            while True:
                try:
                    # To the broker it is perhaps not let go yet, or held again.
                    ask, died = yield self._lock._number, "acquire", True, held[0].number
                    self._hold(ask, held)
                    break
                except CancelledError as again:
                    given_up = again
                except ManagerClosed:  # there is no lock any more
                    if isinstance(given_up, TimeUp):
                        raise
                    break
        try:
            if died is not None and (given_up is None or isinstance(given_up, TimeUp)):
                raise died
            if given_up is not None:
                raise given_up
        finally:
            given_up = died = None

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """Wait until `predicate()` is true; it is called under the lock, after each notification.

        It looks at what this process has; for shared state write
        `while not await found.size(): await condition.wait()`.

        Returns:
            What it returned.

        Raises:
            OwnerDied: the holder of the lock died meanwhile; the lock is held all the same.

        Cancellation:
            As with `wait`.
        """
        while not (result := predicate()):
            await self.wait()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake those who have waited longest. It does not wait.

        Args:
            n: how many at most, int >= 1.

        Raises:
            RuntimeError: nobody in this process holds the lock.
        """
        n = check_count("n", n)
        self._check_held("notify")
        self._tell("notify", n)

    def notify_all(self) -> None:
        """Wake all who wait.

        Raises:
            RuntimeError: nobody in this process holds the lock.
        """
        self._check_held("notify")
        self._tell("notify", 0)

    @property
    def sync(self) -> "SyncSharedCondition":
        """The same condition for threads and plain worker code: its names block."""
        return SyncSharedCondition(self)

    def statistics(self) -> Asked[SharedLockStatistics]:
        """Who holds the lock, and how many wait to be notified: `await condition.statistics()`.

        Cancellation:
            Nothing is lost.
        """
        return self._asked("statistics()", self._look(SharedLockStatistics))

    # ------------------------------------------------------------------ who holds the lock here

    def _check_held(self, what: str) -> None:
        client = self._ready()
        if self._lock._note().ask is None and not client.is_closed:
            raise RuntimeError(f"cannot {what} a Condition whose lock nobody in this process holds")

    def _let_go(self, what: str) -> tuple[Ask, Any, int]:
        """The lock is no longer held here; what was held."""
        client = self._ready()
        with client._mutex:
            note = self._lock._note()
            self._lock._check_owner(note)
            ask = note.ask
            if ask is not None:
                held = ask, note.owner, note.extra
                note.clear()
                return held
        raise RuntimeError(f"cannot {what} a Condition whose lock nobody in this process holds")

    def _hold(self, ask: Ask, held: tuple[Ask, Any, int]) -> None:
        """It is held again, as it was."""
        self._lock._note().take(ask, *held[1:])


class SyncSharedCondition(SyncSharedHeld):
    """A `SharedCondition` for threads: what waits, blocks the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ()

    _shared: SharedCondition

    def acquire(self, *, timeout: float | None = None) -> bool:
        """As `lock.sync.acquire` of its lock."""
        return self._shared._lock.sync.acquire(timeout=timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, block until notified, and take the lock again.

        Args:
            timeout: seconds >= 0 to wait for the notification; the lock is waited for without a
                limit. None: no limit.

        Returns:
            Whether the notification came in time.

        Raises:
            OwnerDied: the holder of the lock died meanwhile; the lock is held all the same.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: nobody in this process holds the lock, or an event loop runs in this
                thread.
        """
        return self._in_time("wait()", self._shared._waiting(), timeout)

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
        """As `SharedCondition.notify`."""
        self._shared.notify(n)

    def notify_all(self) -> None:
        """As `SharedCondition.notify_all`."""
        self._shared.notify_all()

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        return self._shared._lock.sync.locked()

    def statistics(self) -> SharedLockStatistics:
        """Who holds the lock, and how many wait to be notified."""
        return self._do("statistics()", self._shared._look(SharedLockStatistics))
