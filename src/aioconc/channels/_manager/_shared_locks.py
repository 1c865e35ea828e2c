"""Shared locks and semaphores, as programs hold them.

It guarantees what the broker does, and that in each process only who holds something gives it
back. Who is next is left to the broker.
"""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Literal

from aioconc._internal._check import check_count
from aioconc.channels._manager._client import Ask
from aioconc.channels._manager._shared import Asked, Shared, Steps, SyncShared, TimeUp
from aioconc.channels._manager._statistics import SharedLockStatistics, SharedSemaphoreStatistics
from aioconc.channels._recovery import Recovery, SyncRecovery
from aioconc.errors import OwnerDied
from aioconc.sync._held import Held
from aioconc.sync._wait_queue import Owner, me, name_of

# ------------------------------------------------------------------ what is held


class SharedHeld(Held, Shared):
    """A shared object that is held for a block."""

    __slots__ = ()


class SyncSharedHeld(SyncShared):
    """The blocking face of such an object: a thread holds it for a block."""

    __slots__ = ()

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Block until it is taken."""
        raise NotImplementedError

    def release(self) -> None:
        """As `release` of the object."""
        self._shared.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shared.release()


# ------------------------------------------------------------------ locks


class LockNote:
    """What a process knows of a lock: who in it holds it."""

    __slots__ = ("ask", "extra", "owner")

    def __init__(self) -> None:
        # The request that was granted; None: nobody in this process holds the lock.
        self.ask: Ask | None = None
        self.owner: Owner = None
        # How often an RLock is held beyond the first time.
        self.extra = 0

    def take(self, ask: Ask, owner: Owner, extra: int = 0) -> None:
        """It is held."""
        self.ask, self.owner, self.extra = ask, owner, extra

    def clear(self) -> None:
        """It is not."""
        self.ask = self.owner = None
        self.extra = 0

    def forget(self, party: int) -> None:
        """That party has ended."""
        if self.ask is not None and self.ask.party == party:
            self.clear()


class SharedLock(SharedHeld):
    """One holder at a time, of all processes: a task, a thread, or a call in a worker process.

    Made by `Manager.Lock`. As `aioconc.sync.Lock`, with what processes add: it belongs to the
    process that took it, and nobody else releases it; what asks the broker is awaited. It is
    handed over in the order of arrival, and nobody overtakes.

    If its holder dies (a process that is killed, crashes or ends, or a call in a worker process
    that returns without releasing it; a chunk of a map is one call), whatever the lock guards may
    be half changed. So from then on `acquire` raises `OwnerDied`, for all who wait and for all who
    come, until one of them has put it right in `async with lock.recover():`. Nobody waits for the
    dead, and nobody goes on without knowing. A lock made with `on_owner_death="release"` is simply
    handed on.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         lock = manager.Lock()
        ...         async with lock:
        ...             return await lock.locked()
        >>> asyncio.run(main())
        True
    """

    __slots__ = ()

    async def acquire(self) -> Literal[True]:
        """Wait for the lock and take it.

        Returns:
            True, always.

        Raises:
            OwnerDied: its last holder died, and nobody has recovered it; it is not taken.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            While it waits: the place in the queue is lost, nothing else. If the lock was already
            handed to this task, it goes to the next one.
        """
        await self._take(False)
        return True

    def release(self) -> None:
        """Give the lock to who has waited longest, or leave it free. Any thread may call it.

        It does not wait. After the manager has closed it does nothing.

        Raises:
            RuntimeError: nobody in this process holds it.
        """
        self._let_go(False)

    def recover(self) -> AbstractAsyncContextManager[OwnerDied | None]:
        """Hold the lock for a block, also if its last holder died: to put right what it guards.

        Gives the `OwnerDied`, or None if nobody died or somebody else has recovered it before.
        When the block ends without an error the lock is good again, for everybody; if it raises,
        or dies as well, the lock stays as it was.

        Raises:
            ManagerClosed: the manager has closed, or closes meanwhile.

        Cancellation:
            As with `acquire`; the lock stays as it was.

        Example:
            >>> async def change(lock, accounts):
            ...     try:
            ...         async with lock:
            ...             await accounts.transfer()
            ...     except OwnerDied:
            ...         async with lock.recover() as died:
            ...             if died is not None:
            ...                 await accounts.rebuild()
        """
        return Recovery(self)

    def locked(self) -> Asked[bool]:
        """Whether somebody holds it: `await lock.locked()`."""
        return self._asked("locked()", self._look(_lock_locked))

    @property
    def sync(self) -> "SyncSharedLock":
        """The same lock for threads and plain worker code: its names block, and take a `timeout`."""
        return SyncSharedLock(self)

    def statistics(self) -> Asked[SharedLockStatistics]:
        """Who holds it and how many wait: `await lock.statistics()`.

        Cancellation:
            Nothing is lost.
        """
        return self._asked("statistics()", self._look(SharedLockStatistics))

    # ------------------------------------------------------------------ who holds it here

    def _note(self) -> LockNote:
        note: LockNote = self._client.notes.setdefault(self._number, LockNote())
        return note

    def _taking(self, recover: bool) -> Steps[OwnerDied | None]:
        owner = me()
        if self._enter_again(owner):
            return None
        ask, died = yield self._number, "acquire", recover
        self._note().take(ask, owner)
        return died  # type: ignore[no-any-return]

    async def _take(self, recover: bool) -> OwnerDied | None:
        return await self._do(self._taking(recover))

    def _block(self, recover: bool, timeout: float | None) -> tuple[bool, OwnerDied | None]:
        line = "recover()" if recover else "acquire()"
        try:
            return True, self.sync._do(line, self._taking(recover), timeout)
        except TimeUp:
            return False, None

    def _enter_again(self, owner: Owner) -> bool:
        """Whether the owner holds it, and once more now."""
        return False

    def _check_owner(self, note: LockNote) -> None:
        """Refuse a caller who does not hold it, where that matters."""

    def _let_go(self, recovered: bool) -> None:
        client = self._ready()
        ask: Ask | None = None
        try:
            with client._mutex:
                note = self._note()
                ask = note.ask
                if ask is not None:
                    note.clear()
            if ask is not None:
                client.tell(self._number, "release", ask.number, recovered)
                return
        except KeyboardInterrupt:
            # Nobody else would say it; it is released once, however often that is said.
            if ask is not None:
                client.tell(self._number, "release", ask.number, False)
            raise
        if not client.is_closed:
            raise RuntimeError(
                f"this {type(self).__name__} is not acquired in this process: it is released by "
                "the process that took it"
            )


class SharedRLock(SharedLock):
    """A `SharedLock` that its owner, a task or a thread, may acquire any number of times.

    Made by `Manager.RLock`. As `aioconc.sync.RLock`: it is free again when it has been released as
    often as it was acquired, by who acquired it.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         lock = manager.RLock()
        ...         async with lock, lock:
        ...             return await lock.locked()
        >>> asyncio.run(main())
        True
    """

    __slots__ = ()

    def release(self) -> None:
        """Give back what one `acquire` took.

        Raises:
            RuntimeError: the caller does not hold it.
        """
        self._let_go(False)

    def _enter_again(self, owner: Owner) -> bool:
        with self._client._mutex:
            note = self._note()
            if note.ask is None or note.owner is not owner:
                return False
            note.extra += 1
            return True

    def _let_go(self, recovered: bool) -> None:
        with self._ready()._mutex:
            note = self._note()
            self._check_owner(note)
            if note.extra:
                note.extra -= 1
                return
        super()._let_go(recovered)

    def _check_owner(self, note: LockNote) -> None:
        caller = me()
        if note.owner is not caller:
            owner = "nobody in this process" if note.owner is None else name_of(note.owner)
            raise RuntimeError(
                f"a shared RLock is released by its owner: {owner} holds it, {name_of(caller)} "
                "does not"
            )


class SyncSharedLock(SyncSharedHeld):
    """A `SharedLock` for threads: what waits, blocks the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ()

    _shared: SharedLock

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Block until the lock is taken.

        Args:
            timeout: seconds >= 0; 0: only if nobody holds it; None: no limit.

        Returns:
            Whether it was taken in time.

        Raises:
            OwnerDied: its last holder died, and nobody has recovered it.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: an event loop runs in this thread.
        """
        return self._shared._block(False, timeout)[0]

    def recover(self) -> AbstractContextManager[OwnerDied | None]:
        """As `SharedLock.recover`, for `with`."""
        return SyncRecovery(self._shared, lambda: self._check("recover()"))

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self.statistics().locked

    def statistics(self) -> SharedLockStatistics:
        """Who holds it and how many wait."""
        return self._do("statistics()", self._shared._look(SharedLockStatistics))


def _lock_locked(*state: Any) -> bool:
    return SharedLockStatistics(*state).locked


# ------------------------------------------------------------------ semaphores


class SemaphoreNote:
    """What a process knows of a semaphore: which permits it has."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        # Number of the request that was granted -> the party that has it.
        self.taken: dict[int, int] = {}

    def to_release(self, party: int, n: int) -> list[int]:
        """Up to `n`: first those of the party, oldest first."""
        return sorted(self.taken, key=lambda number: self.taken[number] != party)[:n]

    def forget(self, party: int) -> None:
        """That party has ended."""
        for number in [number for number, each in self.taken.items() if each == party]:
            del self.taken[number]


class SharedSemaphore(SharedHeld):
    """So many holders at a time, of all processes.

    Made by `Manager.Semaphore`. As `aioconc.sync.Semaphore`. A permit belongs to the process that
    took it: if that process dies, or a call in a worker process returns with a permit, it is free
    again, and nobody is told: permits say how many work, not what state they left. A process that
    releases more than it took adds permits.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         permits = manager.Semaphore(2)
        ...         async with permits:
        ...             return (await permits.statistics()).permits_free
        >>> asyncio.run(main())
        1
    """

    __slots__ = ()

    _called = "semaphore"

    async def acquire(self) -> Literal[True]:
        """Wait for a permit and take it.

        Returns:
            True, always.

        Raises:
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            While it waits: the place in the queue is lost, nothing else. If the permit was already
            handed to this task, it goes to the next one.
        """
        await self._do(self._taking())
        return True

    def release(self, n: int = 1) -> None:
        """Give permits back, or add some. Any thread may call it; it does not wait.

        Args:
            n: how many, int >= 1.

        Raises:
            ValueError: `n` is below 1.
        """
        client = self._ready()
        n = check_count("n", n)
        numbers: list[int] = []
        try:
            with client._mutex:
                self._check_release(n)
                note = self._note()
                numbers = note.to_release(client._party(), n)
                for number in numbers:
                    del note.taken[number]
            client.tell(self._number, "release", numbers, n - len(numbers))
        except KeyboardInterrupt:
            # As with a lock: what this process had is given back once, however often that is said.
            if numbers:
                client.tell(self._number, "release", numbers, 0)
            raise

    def locked(self) -> Asked[bool]:
        """Whether `acquire` would wait: `await semaphore.locked()`."""
        return self._asked("locked()", self._look(_semaphore_locked))

    @property
    def sync(self) -> "SyncSharedSemaphore":
        """The same semaphore for threads and plain worker code: its names block."""
        return SyncSharedSemaphore(self)

    def statistics(self) -> Asked[SharedSemaphoreStatistics]:
        """How many permits are free and how many wait: `await semaphore.statistics()`.

        Cancellation:
            Nothing is lost.
        """
        return self._asked("statistics()", self._look(SharedSemaphoreStatistics))

    def _taking(self) -> Steps[None]:
        ask, _ = yield self._number, "acquire"
        self._note().taken[ask.number] = ask.party

    def _note(self) -> SemaphoreNote:
        note: SemaphoreNote = self._client.notes.setdefault(self._number, SemaphoreNote())
        return note

    def _check_release(self, n: int) -> None:
        """With the mutex: whether so many may be given back."""


class SharedBoundedSemaphore(SharedSemaphore):
    """A `SharedSemaphore` of which a process gives back only what it took: a slip is found.

    Made by `Manager.BoundedSemaphore`.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         manager.BoundedSemaphore(2).release()
        >>> asyncio.run(main())
        Traceback (most recent call last):
          ...
        ValueError: BoundedSemaphore released too many times: this process has 0 permits of it
    """

    __slots__ = ()

    def _check_release(self, n: int) -> None:
        has = len(self._note().taken)
        if n > has:
            raise ValueError(
                "BoundedSemaphore released too many times: this process has "
                f"{has} permit{'' if has == 1 else 's'} of it"
            )


class SyncSharedSemaphore(SyncSharedHeld):
    """A `SharedSemaphore` for threads: what waits, blocks the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ()

    _shared: SharedSemaphore

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Block until a permit is taken.

        Args:
            timeout: seconds >= 0; 0: only if one is free; None: no limit.

        Returns:
            Whether one was taken in time.

        Raises:
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: an event loop runs in this thread.
        """
        return self._in_time("acquire()", self._shared._taking(), timeout)

    def release(self, n: int = 1) -> None:
        """As `SharedSemaphore.release`."""
        self._shared.release(n)

    def locked(self) -> bool:
        """Whether `acquire` would wait."""
        return not self.statistics().permits_free

    def statistics(self) -> SharedSemaphoreStatistics:
        """How many permits are free and how many wait."""
        return self._do("statistics()", self._shared._look(SharedSemaphoreStatistics))


def _semaphore_locked(*state: Any) -> bool:
    return not SharedSemaphoreStatistics(*state).permits_free
