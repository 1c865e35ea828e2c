"""The lock of a shared array: one holder at a time, of all processes that have the array.

It guarantees that no death leaves it locked, that whoever comes after the dead is told, and that
in one process tasks and threads get it in the order of arrival. Between processes there is no
order; but who has just had it lets another process that waits go first.
"""

# Three things make it. The system locks a file for a process (`flock`), and unlocks it when the
# process ends in any way; an eventfd tells those who wait that it may be free; and a page of
# memory says who holds it, so that a death is noticed. All three travel with the array.
#
# The system locks for a description of an open file, and descriptors that travel, or that a fork
# copies, share theirs. So each process opens the file anew, by /proc. What travels is a description
# of its own as well: whoever received that of a holder would keep it locked beyond his death.
#
# A holder:   waiting -> (locked by the system) -> `_HOLDER` set -> holding -> `_HOLDER` 0 -> unlocked
# Rule 1: the page is written by the holder only, but for `_WAITED`.
# Rule 2: `_DIED` is set before `_HOLDER` is cleared, and cleared before it; so whoever dies in
#         between leaves a `_HOLDER` behind, and the next one is told.
# Rule 3: the eventfd is readable while the lock may be free. It is written after the unlocking, and
#         read by a holder only, so that a waiter that dies takes no wake-up with it.
# Rule 4: in one process only who has `_turn` wants it of the system.

import asyncio
import os
import select
import threading
import weakref
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from mmap import PAGESIZE, mmap
from time import monotonic
from types import TracebackType
from typing import Any, Final, Literal

from aioconc._wire import _memory
from aioconc._wire._descriptors import Descriptor
from aioconc._wire._passing import Passed, pass_on
from aioconc.channels._recovery import Recovery, SyncRecovery
from aioconc.errors import OwnerDied
from aioconc.sync import Semaphore
from aioconc.sync._held import Held
from aioconc.sync._wait_queue import WaitStatistics, check_blocking, check_wait

# Words of the page: process id of the holder; of a holder that died and was not made good; whether
# somebody has waited since the last release.
_HOLDER: Final = 0
_DIED: Final = 1
_WAITED: Final = 2

# Seconds after which a waiter looks whether the holder has died, which wakes nobody.
_LOOK = 0.1

# Seconds for which a process that has just had the lock lets others go first, if there are any: a
# few times what it takes to wake one.
_COURTESY = 0.001


@dataclass(frozen=True)
class ArrayLockStatistics(WaitStatistics):
    """The state of the lock of a shared array; who waits, in this process only.

    Attributes:
        locked: whether somebody holds it.
        pid: process id of the holder; None: nobody.
        owner_died: process id of a holder that died, until that is made good; None: none did.
    """

    locked: bool
    pid: int | None
    owner_died: int | None


class ArrayLock(Held):
    """One holder at a time, of all processes that have the array: a task or a thread of one.

    What `SharedArray.lock` gives; as `aioconc.sync.Lock`, with what processes add. It belongs to
    the process that took it. If that dies, what the array holds may be half changed: from then on
    `acquire` raises `OwnerDied`, for all who wait and for all who come, until one of them has put
    it right in `async with shared.lock.recover():`.

    In one process it is handed over in the order of arrival. Between processes there is no order,
    but none is kept out for long by one that takes it again and again. A death is noticed within a
    tenth of a second.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import SharedArray
        >>> async def main():
        ...     with SharedArray(1, lock=True) as counter:
        ...         async with counter.lock:
        ...             counter.view[0] += 1
        ...         return counter.view[0]
        >>> asyncio.run(main())
        1.0
    """

    __slots__ = ("__weakref__", "_courteous_until", "_file", "_news", "_page", "_turn", "_words")

    def __init__(self) -> None:
        if not hasattr(os, "eventfd"):
            raise OSError(
                "a SharedArray with a lock needs Linux; use the lock of a manager "
                "(aioconc.channels.open_manager) beside the array"
            )
        file = Descriptor(_memory.make(PAGESIZE))
        news = Descriptor(os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._open(file, news)

    def _open(self, file: Descriptor, news: Descriptor) -> None:
        self._file = file
        self._news = news
        self._page = mmap(file.fd, PAGESIZE)
        self._words = memoryview(self._page).cast("Q")
        self._courteous_until = 0.0
        self._begin()
        _locks.add(self)

    def _begin(self) -> None:
        """Begin in this process, which shares the description with the one that passed it."""
        # A semaphore, which does not keep the task alive that has the turn.
        self._turn = Semaphore(1)
        fd = self._open_anew()
        self._file.close()
        self._file = Descriptor(fd)

    def _open_anew(self) -> int:
        return os.open(f"/proc/self/fd/{self._file.fd}", os.O_RDWR | os.O_CLOEXEC)

    # ------------------------------------------------------------------ tasks

    async def acquire(self) -> Literal[True]:
        """Wait for the lock and take it.

        Returns:
            True, always.

        Raises:
            OwnerDied: its last holder died, and nobody has recovered it; it is not taken.
            ValueError: the array is closed.

        Cancellation:
            While it waits: the place among those of this process is lost, nothing else.
        """
        await self._take(False)
        return True

    def release(self) -> None:
        """Let another have it. Any thread of the process that took it may call it.

        Raises:
            RuntimeError: nobody in this process holds it.
        """
        self._let_go(False)

    def recover(self) -> AbstractAsyncContextManager[OwnerDied | None]:
        """Hold the lock for a block, also if its last holder died: to put right what it guards.

        Gives the `OwnerDied`, or None if nobody died or somebody else has recovered it before.
        When the block ends without an error the lock is good again, for everybody; if it raises,
        or its process dies as well, the lock stays as it was.

        Cancellation:
            As with `acquire`; the lock stays as it was.

        Example:
            >>> async def change(shared):
            ...     try:
            ...         async with shared.lock:
            ...             shared.array += 1
            ...     except OwnerDied:
            ...         async with shared.lock.recover() as died:
            ...             if died is not None:
            ...                 shared.array[:] = 0
        """
        return Recovery(self)

    @property
    def sync(self) -> "SyncArrayLock":
        """The same lock for threads and plain worker code: its names block, and take a `timeout`."""
        return SyncArrayLock(self)

    # ------------------------------------------------------------------ looking

    def locked(self) -> bool:
        """Whether somebody holds it, or has died with it and nobody has come since."""
        return bool(self._open_words()[_HOLDER])

    def statistics(self) -> ArrayLockStatistics:
        """Who holds it, and how many of this process wait for it."""
        words = self._open_words()
        holder, died = words[_HOLDER], words[_DIED]
        here = self._turn.statistics()
        waiting = here.tasks_waiting, here.threads_waiting
        return ArrayLockStatistics(*waiting, bool(holder), holder or None, died or None)

    @property
    def state(self) -> str:
        """For people."""
        if self._news.is_lost:
            return "closed"
        holder, died = self._words[_HOLDER], self._words[_DIED]
        state = f"locked by process {holder}" if holder else "unlocked"
        return f"{state}, left half done by process {died}" if died else state

    def __repr__(self) -> str:
        return f"<ArrayLock {self.state}>"

    # ------------------------------------------------------------------ decisions

    def _try(self, recover: bool) -> tuple[bool, OwnerDied | None]:
        """Take it if it is free; whether that is so, and who died with it.

        Raises:
            OwnerDied: somebody did.
        """
        import fcntl

        words = self._open_words()
        try:
            fcntl.flock(self._file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words[_WAITED] = 1
            return False, None
        try:
            return True, self._take_over(recover)
        except BaseException:  # it is not recovered, or KeyboardInterrupt
            if words[_HOLDER] not in (0, os.getpid()):
                words[_DIED] = words[_HOLDER]
            words[_HOLDER] = 0
            self._unlock()
            raise

    def _take_over(self, recover: bool) -> OwnerDied | None:
        """Locked by the system: hold it, unless somebody has died with it."""
        words = self._words
        if words[_HOLDER]:
            words[_DIED] = words[_HOLDER]
        died = self._error(words[_DIED]) if words[_DIED] else None
        if died is not None and not recover:
            raise died
        words[_HOLDER] = os.getpid()
        try:
            os.eventfd_read(self._news.fd)
        except BlockingIOError:
            pass
        return died

    def _let_go(self, recovered: bool) -> None:
        words = self._open_words()
        if not self._turn.locked() or words[_HOLDER] != os.getpid():
            raise RuntimeError(
                "this lock is not acquired in this process: it is released by the process that "
                "took it"
            )
        if recovered:
            words[_DIED] = 0
        words[_HOLDER] = 0
        if words[_WAITED]:
            self._courteous_until = monotonic() + _COURTESY
        self._unlock()
        self._turn.release()

    def _unlock(self) -> None:
        import fcntl

        self._words[_WAITED] = 0
        fcntl.flock(self._file.fd, fcntl.LOCK_UN)
        os.eventfd_write(self._news.fd, 1)

    def _error(self, pid: int) -> OwnerDied:
        return OwnerDied(
            f"process {pid} died, or dropped this SharedArray, while it held the lock of it; the items "
            "may be half changed; put them right in `async with shared.lock.recover():`",
            pid=pid,
        )

    def _seconds_of_courtesy(self) -> float:
        return self._courteous_until - monotonic()

    # ------------------------------------------------------------------ waiting

    async def _take(self, recover: bool) -> OwnerDied | None:
        self._open_words()
        await self._turn.acquire()
        try:
            if (seconds := self._seconds_of_courtesy()) > 0:
                await asyncio.sleep(seconds)
            while True:
                taken, died = self._try(recover)
                if taken:
                    return died
                await self._wait_for_news()
        except BaseException:
            self._turn.release()
            raise

    async def _wait_for_news(self) -> None:
        """Until the lock may be free."""
        loop = asyncio.get_running_loop()
        news = loop.create_future()

        def tell() -> None:
            if not news.done():
                news.set_result(None)

        fd = self._news.fd
        loop.add_reader(fd, tell)
        timer = loop.call_later(_LOOK, tell)
        try:
            await news
        finally:
            timer.cancel()
            if not loop.is_closed():
                loop.remove_reader(fd)

    def _block(self, recover: bool, timeout: float | None) -> tuple[bool, OwnerDied | None]:
        """In a thread: take it, unless the time is up before."""
        self._open_words()
        end = None if timeout is None else monotonic() + timeout
        if not self._turn.sync.acquire(timeout=timeout):
            return False, None
        try:
            seconds = self._seconds_of_courtesy()
            while True:
                if seconds > 0:
                    threading.Event().wait(seconds)
                taken, died = self._try(recover)
                if taken:
                    return True, died
                left = _LOOK if end is None else min(_LOOK, end - monotonic())
                if left <= 0:
                    self._turn.release()
                    return False, None
                seconds = 0.0
                poll = select.poll()
                poll.register(self._news.fd, select.POLLIN)
                poll.poll(left * 1000)
        except BaseException:
            self._turn.release()
            raise

    # ------------------------------------------------------------------ its end, and processes

    def _open_words(self) -> memoryview:
        if self._news.is_lost:
            raise ValueError("the SharedArray of this lock is closed")
        return self._words

    def _check_free(self) -> None:
        if self._turn.locked():
            raise RuntimeError(
                "this process holds the lock of the array, or waits for it; release it before you close"
            )

    def _close(self) -> None:
        self._words.release()
        self._page.close()
        self._file.close()
        self._news.close()

    def __reduce__(self) -> Any:
        self._open_words()
        file = pass_on(self._open_anew(), close=True, owner=self)
        return _arrive, (file, pass_on(self._news.fd, owner=self))


def _arrive(file: Passed, news: Passed) -> ArrayLock:
    """Called where it is unpickled."""
    made = ArrayLock.__new__(ArrayLock)
    made._open(Descriptor(file.take()), Descriptor(news.take()))
    return made


class SyncArrayLock:
    """An `ArrayLock` for threads and plain worker code: what waits, blocks the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ("_lock",)

    def __init__(self, lock: ArrayLock) -> None:
        self._lock = lock

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Block until the lock is taken.

        Args:
            timeout: seconds >= 0; None: no limit.

        Returns:
            Whether it was taken in time.

        Raises:
            OwnerDied: its last holder died, and nobody has recovered it.
            ValueError: the array is closed.
            RuntimeError: an event loop runs in this thread.
        """
        check_blocking("ArrayLock.sync.acquire", "await shared.lock.acquire()")
        return self._lock._block(False, check_wait(timeout))[0]

    def release(self) -> None:
        """As `ArrayLock.release`."""
        self._lock.release()

    def recover(self) -> AbstractContextManager[OwnerDied | None]:
        """As `ArrayLock.recover`, for `with`."""
        return SyncRecovery(
            self._lock,
            lambda: check_blocking(
                "with ArrayLock.sync.recover", "async with shared.lock.recover():"
            ),
        )

    def locked(self) -> bool:
        """As `ArrayLock.locked`."""
        return self._lock.locked()

    def __enter__(self) -> None:
        check_blocking("with ArrayLock.sync", "async with shared.lock:")
        self._lock._block(False, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __repr__(self) -> str:
        return f"{self._lock!r}.sync"


_locks: "weakref.WeakSet[ArrayLock]" = weakref.WeakSet()


def _begin_in_child() -> None:
    """In a forked child: the locks of the parent are not held here, and may be used."""
    for lock in [*_locks]:
        if not lock._news.is_lost:
            try:
                lock._begin()
            except OSError:
                # There is no descriptor left. It is closed here: with the one of the parent both
                # would hold it at once, and it would stay locked beyond the parent's death.
                lock._file.close()
                lock._news.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
