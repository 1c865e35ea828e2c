"""A point at which so many tasks and threads wait for one another.

It guarantees that a party is let through whole: who arrives later belongs to the next one. What
the parties do between two passages is left to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from aioconc._internal._check import check_count
from aioconc.sync._errors import BarrierBroken
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

# Told to a waiter in place of its number.
_REFUSED: Final = -1


@dataclass(frozen=True)
class BarrierStatistics(WaitStatistics):
    """The state of a barrier.

    Attributes:
        parties: how many pass together.
        broken: whether it was aborted, or a thread's time was up.
    """

    parties: int
    broken: bool


class Barrier(Waitable):
    """Lets tasks and threads through when so many have arrived, again and again.

    Equals `asyncio.Barrier`, and `threading.Barrier` under `sync`.

    Args:
        parties: how many pass together, int >= 1.

    Raises:
        ValueError: `parties` is below 1.
        TypeError: `parties` is not an int.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     barrier = Barrier(2)
        ...     return await asyncio.gather(barrier.wait(), barrier.wait())
        >>> asyncio.run(main())
        [0, 1]
    """

    # Fewer than `_parties` wait. Nobody waits while it is broken.
    __slots__ = ("_broken", "_parties", "_waiters")

    def __init__(self, parties: int) -> None:
        super().__init__()
        self._parties = check_count("parties", parties)
        self._waiters = WaitQueue()
        self._broken = False

    @property
    def parties(self) -> int:
        """How many pass together."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return self._waiters.count_waiting()

    @property
    def broken(self) -> bool:
        """Whether it was aborted, or a thread's time was up."""
        return self._broken

    async def wait(self) -> int:
        """Wait until all parties have arrived.

        Returns:
            A number from 0 to `parties - 1`, another one for each, in the order of arrival.

        Raises:
            BarrierBroken: it is or becomes broken, or is reset, while this task waits.
            RuntimeError: in a forked child, if it was made before the fork.

        Cancellation:
            The task leaves, and another one has to arrive in its place. If all had arrived
            already, the others pass.
        """
        waiter = TaskWaiter(self._waiters)
        number = self._arrive(waiter)
        if number is None:
            await self._wait(waiter)
            number = waiter.value
        return self._passed(number)

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

        A coroutine as with asyncio; it never waits. Threads call `sync.reset`.

        Cancellation:
            It cannot be cancelled.
        """
        self._break(False)

    async def abort(self) -> None:
        """Break it: who waits now, and who comes until it is reset, gets `BarrierBroken`.

        A coroutine as with asyncio; it never waits. Threads call `sync.abort`.

        Cancellation:
            It cannot be cancelled.
        """
        self._break(True)

    @property
    def sync(self) -> "SyncBarrier":
        """The same barrier for threads: `wait` blocks, and takes a `timeout`."""
        return SyncBarrier(self)

    def statistics(self) -> BarrierStatistics:
        """How many wait, and for how many."""
        with self._mutex:
            return BarrierStatistics(*waiting(self._waiters), self._parties, self._broken)

    def __repr__(self) -> str:
        with self._mutex:
            state = (
                "broken"
                if self._broken
                else f"{self._waiters.count_waiting()}/{self._parties} waiting"
            )
            return f"<{type(self).__name__} {state}>"

    # ------------------------------------------------------------------ decisions

    def _arrive(self, waiter: Any) -> int | None:
        """The number of the last to arrive; None: to be waited for."""
        if self._home.left:
            refuse(self)
        woken: Sequence[Waiter] = ()
        with self._mutex:
            if self._broken:
                return _REFUSED
            if self._waiters.count_waiting() + 1 < self._parties:
                self._waiters.add(waiter)
                return None
            woken = self._waiters.grant_all()
            for number, each in enumerate(woken):
                each.value = number
        self._wake(woken)
        return len(woken)

    def _break(self, broken: bool) -> None:
        if self._home.left:
            refuse(self)
        with self._mutex:
            self._broken = broken
            woken = self._waiters.grant_all(_REFUSED)
        self._wake(woken)

    def _passed(self, number: int) -> int:
        if number == _REFUSED:
            how = "broken; reset it first" if self._broken else "reset while this one waited"
            raise BarrierBroken(f"the barrier was {how}")
        return number


class SyncBarrier:
    """A `Barrier` for threads: `wait` blocks the thread.

    Equals `threading.Barrier`. Raises RuntimeError in the thread of a running event loop, which it
    would stop.
    """

    __slots__ = ("_barrier",)

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier

    def wait(self, timeout: float | None = None) -> int:
        """Block until all parties have arrived.

        Args:
            timeout: seconds >= 0, after which the barrier is broken, as with threading; None: no
                limit.

        Returns:
            A number from 0 to `parties - 1`, another one for each, in the order of arrival.

        Raises:
            BarrierBroken: it is or becomes broken, or is reset, while this thread waits.
            RuntimeError: an event loop runs in this thread.
        """
        check_blocking("Barrier.sync.wait", "await barrier.wait()")
        timeout = check_wait(timeout)
        barrier = self._barrier
        waiter = ThreadWaiter(barrier._waiters)
        number = barrier._arrive(waiter)
        if number is None:
            if not barrier._park(waiter, timeout):
                barrier._break(True)
                number = _REFUSED
            else:
                number = waiter.value
                assert number is not None
        return barrier._passed(number)

    @property
    def parties(self) -> int:
        """How many pass together."""
        return self._barrier.parties

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return self._barrier.n_waiting

    @property
    def broken(self) -> bool:
        """Whether it was aborted, or a thread's time was up."""
        return self._barrier.broken

    def reset(self) -> None:
        """Begin anew: who waits now gets `BarrierBroken`, who comes later waits."""
        self._barrier._break(False)

    def abort(self) -> None:
        """Break it: who waits now, and who comes until it is reset, gets `BarrierBroken`."""
        self._barrier._break(True)

    def __repr__(self) -> str:
        return f"{self._barrier!r}.sync"
