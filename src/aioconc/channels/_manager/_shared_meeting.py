"""Shared events and barriers, as programs hold them."""

from types import TracebackType
from typing import Any, Literal

from aioconc.channels._manager._client import Client
from aioconc.channels._manager._shared import Asked, Shared, SyncShared, TimeUp
from aioconc.channels._manager._statistics import SharedBarrierStatistics, SharedEventStatistics
from aioconc.sync._errors import BarrierBroken


class SharedEvent(Shared):
    """Something that has happened, or has not yet, for all processes.

    Made by `Manager.Event`. As `aioconc.sync.Event`. It belongs to nobody: the death of who set it
    changes nothing.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         ready = manager.Event()
        ...         ready.set()
        ...         await ready.wait()
        ...         return await ready.is_set()
        >>> asyncio.run(main())
        True
    """

    __slots__ = ()

    _called = "event"

    def is_set(self) -> Asked[bool]:
        """Whether it is set: `await event.is_set()`."""
        return self._asked("is_set()", self._look(_is_set))

    def set(self) -> None:
        """Set it: all who wait go on. Any thread may call it; it does not wait."""
        self._tell("set")

    def clear(self) -> None:
        """Make it not set; who comes from now on waits. Any thread may call it."""
        self._tell("clear")

    async def wait(self) -> Literal[True]:
        """Wait until it is set; at once if it is.

        Returns:
            True, always.

        Raises:
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            Nothing is lost.
        """
        await self._do(self._ask("wait"))
        return True

    @property
    def sync(self) -> "SyncSharedEvent":
        """The same event for threads and plain worker code: `wait` blocks."""
        return SyncSharedEvent(self)

    def statistics(self) -> Asked[SharedEventStatistics]:
        """Whether it is set, and how many wait: `await event.statistics()`.

        Cancellation:
            Nothing is lost.
        """
        return self._asked("statistics()", self._look(SharedEventStatistics))


class SyncSharedEvent(SyncShared):
    """A `SharedEvent` for threads: `wait` blocks the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ()

    _shared: SharedEvent

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is set.

        Args:
            timeout: seconds >= 0; None: no limit.

        Returns:
            Whether it was set in time.

        Raises:
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: an event loop runs in this thread.
        """
        return self._in_time("wait()", self._shared._ask("wait"), timeout)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self.statistics().is_set

    def set(self) -> None:
        """As `SharedEvent.set`."""
        self._shared.set()

    def clear(self) -> None:
        """As `SharedEvent.clear`."""
        self._shared.clear()

    def statistics(self) -> SharedEventStatistics:
        """Whether it is set, and how many wait."""
        return self._do("statistics()", self._shared._look(SharedEventStatistics))


def _is_set(*state: Any) -> bool:
    return SharedEventStatistics(*state).is_set


class SharedBarrier(Shared):
    """A point at which so many, of all processes, wait for one another.

    Made by `Manager.Barrier`. As `aioconc.sync.Barrier`. A process that dies while it waits breaks
    the barrier, since nobody will arrive in its place; one that dies before it arrives is not
    known to the barrier.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         barrier = manager.Barrier(2)
        ...         return await asyncio.gather(barrier.wait(), barrier.wait())
        >>> asyncio.run(main())
        [0, 1]
    """

    __slots__ = ("_parties",)

    _called = "barrier"

    def __init__(self, client: Client, number: int, parties: int) -> None:
        super().__init__(client, number)
        self._parties = parties

    def _options(self) -> tuple[Any, ...]:
        return (self._parties,)

    @property
    def parties(self) -> int:
        """How many pass together."""
        return self._parties

    @property
    def n_waiting(self) -> Asked[int]:
        """How many wait now: `await barrier.n_waiting`."""
        return self._asked("n_waiting", self._look(_n_waiting))

    @property
    def broken(self) -> Asked[bool]:
        """Whether it is broken: `await barrier.broken`."""
        return self._asked("broken", self._look(_is_broken))

    async def wait(self) -> int:
        """Wait until all parties have arrived.

        Returns:
            A number from 0 to `parties - 1`, another one for each, in the order of arrival.

        Raises:
            BarrierBroken: it is or becomes broken, or is reset, while this task waits.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            The task leaves, and another one has to arrive in its place. If all had arrived
            already, the others pass.
        """
        number: int = await self._do(self._ask("wait"))
        return number

    async def __aenter__(self) -> int:
        return await self.wait()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    async def reset(self) -> None:
        """Begin anew: who waits now gets `BarrierBroken`, who comes later waits.

        Cancellation:
            It cannot be cancelled.
        """
        self._tell("reset")

    async def abort(self) -> None:
        """Break it: who waits now, and who comes until it is reset, gets `BarrierBroken`.

        Cancellation:
            It cannot be cancelled.
        """
        self._tell("abort")

    @property
    def sync(self) -> "SyncSharedBarrier":
        """The same barrier for threads and plain worker code: `wait` blocks."""
        return SyncSharedBarrier(self)

    def statistics(self) -> Asked[SharedBarrierStatistics]:
        """How many wait, and for how many: `await barrier.statistics()`.

        Cancellation:
            Nothing is lost.
        """
        return self._asked("statistics()", self._look(SharedBarrierStatistics))


class SyncSharedBarrier(SyncShared):
    """A `SharedBarrier` for threads: `wait` blocks the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ()

    _shared: SharedBarrier

    def wait(self, timeout: float | None = None) -> int:
        """Block until all parties have arrived.

        Args:
            timeout: seconds >= 0, after which the barrier is broken, as with threading; None: no
                limit.

        Returns:
            A number from 0 to `parties - 1`, another one for each, in the order of arrival.

        Raises:
            BarrierBroken: it is or becomes broken, or is reset, while this thread waits.
            ManagerClosed: the manager has closed, or closes meanwhile.
            RuntimeError: an event loop runs in this thread.
        """
        try:
            number: int = self._do("wait()", self._shared._ask("wait"), timeout)
        except TimeUp:
            self._shared._tell("abort")
            raise BarrierBroken(
                f"the barrier was broken, since not all arrived in {timeout} s; reset it first"
            ) from None
        return number

    @property
    def parties(self) -> int:
        """How many pass together."""
        return self._shared.parties

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return self.statistics().waiting

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self.statistics().broken

    def reset(self) -> None:
        """Begin anew: who waits now gets `BarrierBroken`, who comes later waits."""
        self._shared._tell("reset")

    def abort(self) -> None:
        """Break it: who waits now, and who comes until it is reset, gets `BarrierBroken`."""
        self._shared._tell("abort")

    def statistics(self) -> SharedBarrierStatistics:
        """How many wait, and for how many."""
        return self._do("statistics()", self._shared._look(SharedBarrierStatistics))


def _n_waiting(*state: Any) -> int:
    return SharedBarrierStatistics(*state).waiting


def _is_broken(*state: Any) -> bool:
    return SharedBarrierStatistics(*state).broken
