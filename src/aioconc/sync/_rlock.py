"""A lock that its owner may take again: a task or a thread that holds it does not wait for itself.

It guarantees what `Lock` does, and that nobody but the owner releases it.
"""

from asyncio import current_task
from typing import Any, Literal

from aioconc.sync._held import Held
from aioconc.sync._home import refuse
from aioconc.sync._lock import Lock, SyncLock
from aioconc.sync._wait_queue import Owner, TaskWaiter, me, name_of


class RLock(Lock):
    """A `Lock` that belongs to its owner, who may acquire it any number of times.

    Equals `threading.RLock`, for tasks as well. It is free again when it has been released as
    often as it was acquired. The owner is the task, not the event loop's thread: two tasks of one
    loop exclude each other.

    Example:
        >>> import asyncio
        >>> lock = RLock()
        >>> async def main():
        ...     async with lock, lock:
        ...         return lock.locked()
        >>> asyncio.run(main())
        True
    """

    # How often the owner holds it beyond the first time. Changed by the owner only, so without
    # the mutex; 0 whenever the lock changes hands.
    __slots__ = ("_extra",)

    _wait_for_graph_only_owners_release = True

    def __init__(self) -> None:
        super().__init__()
        self._extra = 0

    async def acquire(self) -> Literal[True]:
        """Wait for the lock and take it, at once if this task holds it.

        Returns:
            True, always.

        Raises:
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            While it waits: the place in the queue is lost, nothing else. If the lock was already
            handed to this task, it goes to the next one.
        """
        task = current_task()
        if not self._enter_again(task):
            waiter = self._enter(TaskWaiter, task)
            if waiter is not None:
                await self._wait(waiter)
        return True

    def release(self) -> None:
        """Give back what one `acquire` took.

        Raises:
            RuntimeError: the caller does not hold it.
        """
        self._check_owner()
        if self._extra:
            self._extra -= 1
            return
        super().release()

    # Without the short cuts of `Lock`, which do not count.
    __aenter__ = Held.__aenter__
    __aexit__ = Held.__aexit__

    @property
    def sync(self) -> "SyncRLock":
        """The same lock for threads: its names block, and take a `timeout`."""
        return SyncRLock(self)

    def _enter_again(self, owner: Owner) -> bool:
        if self._home.left:
            refuse(self)
        if self._owner is not owner or owner is None:
            return False
        self._extra += 1
        return True

    def _check_owner(self) -> None:
        if self._home.left:
            refuse(self)
        caller = me()
        if self._owner is not caller:
            owner = "nobody" if self._owner is None else name_of(self._owner)
            raise RuntimeError(
                f"an RLock is released by its owner: {owner} holds it, {name_of(caller)} does not"
            )

    def _let_go(self) -> int:
        self._check_owner()
        times = self._extra + 1
        self._extra = 0
        self.release()
        return times

    async def _acquire_again(self, times: int) -> None:
        await self.acquire()
        self._extra = times - 1

    def _block_again(self, times: int) -> None:
        self.sync._acquire(None)
        self._extra = times - 1


class SyncRLock(SyncLock):
    """An `RLock` for threads: what waits, blocks the thread.

    Equals `threading.RLock`. Raises RuntimeError in the thread of a running event loop, which it
    would stop.
    """

    __slots__ = ()

    def _acquire(self, timeout: float | None) -> bool:
        lock: Any = self._held
        return lock._enter_again(me()) or super()._acquire(timeout)
