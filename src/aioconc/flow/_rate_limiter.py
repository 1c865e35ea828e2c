"""At most so many calls per period, first come first served.

`RateLimiter` is a generic cell rate algorithm (GCRA, the virtual scheduling form of ITU-T I.371
and ATM Forum Traffic Management 4.0): one number says when the bucket will be full again, and all
arithmetic on it is exact. It limits the calls of one event loop at a time, by that loop's clock;
several processes that share a limit need a shared store, which this is not.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any

from aioconc._internal._check import check_count, check_seconds
from aioconc.tasks._scope import raise_if_cancelled

_NANOSECONDS = 1_000_000_000

# So many acquisitions may succeed without a suspension; then one goes through the queue, so that
# a loop of acquisitions cannot starve the event loop. A loop cycle costs tens of acquisitions,
# so the price stays below a third of one each.
_FREE_RUN = 100

# A timer that fired early is armed again for at least this long. Both loops round their timers to
# milliseconds, and uvloop would turn anything shorter into a busy loop.
_REARM = 0.001


@dataclass(frozen=True)
class RateLimiterStatistics:
    """A snapshot of a `RateLimiter`.

    Attributes:
        acquired: sum of the costs that have been acquired so far.
        available: cost that could go at this moment, if nobody were waiting; 0 during a pause.
        waiting: calls of `acquire` that wait.
        paused_for: seconds until the pause ends; 0.0 without one.
    """

    acquired: int
    available: int
    waiting: int
    paused_for: float


class _Waiter:
    """One call of `acquire` in the queue. `turn` is resolved only while it is the head."""

    __slots__ = ("cost", "turn")

    def __init__(self, cost: int, turn: "asyncio.Future[None]") -> None:
        self.cost = cost
        self.turn = turn


# Rule 1: a waiter takes its tokens itself, when it runs again, by the clock of that moment. So a
#         wake-up carries nothing that a cancelled waiter could lose, and calls that resume late
#         cannot crowd into somebody else's window.
# Rule 2: `_timer` is set only while there are waiters, and then it is the head's.
# Rule 3: nobody takes while others wait, except the head.
class RateLimiter:
    """At most `rate` calls per `per` seconds, with up to `burst` at once, in order of arrival.

    In no window of `per` seconds do more than `rate + burst` go, by the loop's clock. Unused
    time is kept for at most `burst` calls. Timers have a resolution of a millisecond or two, so a
    rate above some 500 a second is only reached with a burst of `rate / 500` or more.

    Serves one event loop at a time; `asyncio.run` again and again is fine. It never drifts: time
    is counted in whole fractions of a nanosecond, in exact integers.

    Args:
        rate: calls per period, a number > 0.
        per: length of the period in seconds, > 0.
        burst: calls that may go at once after a quiet time, int >= 1.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range.

    Example:
        >>> async def main():
        ...     limiter = RateLimiter(100, burst=2)
        ...     start = asyncio.get_running_loop().time()
        ...     for _ in range(4):
        ...         async with limiter:
        ...             pass
        ...     return asyncio.get_running_loop().time() - start >= 0.019
        >>> asyncio.run(main())
        True
    """

    __slots__ = (
        "__weakref__",
        "_acquired",
        "_burst",
        "_free_run",
        "_full_at",
        "_interval",
        "_loop",
        "_per",
        "_rate",
        "_resume_at",
        "_scale",
        "_seen",
        "_timer",
        "_waiters",
    )

    def __init__(self, rate: float, per: float = 1.0, *, burst: int = 1) -> None:
        if check_seconds("per", per, zero=False) * _NANOSECONDS < 1:
            raise ValueError(f"per must be at least a nanosecond, got {per!r}")
        if isinstance(rate, bool) or not isinstance(rate, (int, float)):
            raise TypeError(f"rate must be a number > 0, got {rate!r}")
        if not 0 < rate < float("inf"):
            raise ValueError(
                f"rate must be a number > 0, got {rate!r}; without a limit use no RateLimiter"
            )
        self._rate = rate
        self._per = per
        self._burst = check_count("burst", burst)
        # The interval between calls is `_interval / _scale` nanoseconds, both integers, so sums of
        # it are exact: 3 a second is 1_000_000_000 / 3. Times below are in units of 1 / _scale
        # nanoseconds. repr() turns 0.1 into 1/10, where its binary value is a hair off.
        interval = Fraction(repr(per)) * _NANOSECONDS / Fraction(repr(rate))
        self._interval = interval.numerator
        self._scale = interval.denominator
        # When the bucket will be full again ("theoretical arrival time" in I.371).
        self._full_at = 0
        self._resume_at = 0
        self._seen = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        # Acquisitions since the last one that suspended.
        self._free_run = 0
        self._acquired = 0

    @property
    def rate(self) -> float:
        """Calls per period."""
        return self._rate

    @property
    def per(self) -> float:
        """Length of the period in seconds."""
        return self._per

    @property
    def burst(self) -> int:
        """Calls that may go at once."""
        return self._burst

    async def acquire(self, cost: int = 1) -> None:
        """Wait until `cost` calls may go, and take them.

        Does not suspend while calls are free and nobody waits, except every hundredth time, so
        that a loop of acquisitions leaves the event loop its turn.

        Args:
            cost: calls that this one counts for, 1 <= cost <= burst.

        Raises:
            ValueError: `cost` is below 1, or above `burst` and so could never go.
            RuntimeError: the limiter is in use by another event loop.

        Cancellation:
            While it waits: nothing was taken, and those behind move up. It either raises having
            taken nothing or returns. Inside a cancelled `CancelScope` it raises at once; a plain
            `Task.cancel` strikes at the next suspension.

        Example:
            >>> async def main():
            ...     limiter = RateLimiter(1000, burst=10)
            ...     await limiter.acquire(4)
            ...     return limiter.statistics().acquired
            >>> asyncio.run(main())
            4
        """
        self._check_cost(cost)
        raise_if_cancelled()
        loop = self._enter_loop()
        if not self._waiters and self._free_run < _FREE_RUN and self._take(cost, loop):
            self._free_run += 1
            return
        waiter = _Waiter(cost, loop.create_future())
        self._waiters[waiter] = None
        try:
            if len(self._waiters) == 1:
                self._serve(loop)
            while True:
                if waiter.turn.done():  # due at once, but the loop gets its turn
                    await asyncio.sleep(0)
                else:
                    await waiter.turn
                self._free_run = 0
                if self._take(cost, loop):
                    return
                waiter.turn = loop.create_future()  # a pause came between wake-up and here
                self._serve(loop)
        finally:
            was_head = next(iter(self._waiters), None) is waiter
            # Absent if the loop was closed under it and another loop has taken over.
            self._waiters.pop(waiter, None)
            if was_head:
                self._serve(loop)

    def try_acquire(self, cost: int = 1) -> bool:
        """Take `cost` calls if they may go right now; never overtakes those who wait.

        Args:
            cost: calls that this one counts for, 1 <= cost <= burst.

        Returns:
            Whether they were taken.

        Raises:
            ValueError: `cost` is below 1 or above `burst`.
            RuntimeError: no event loop runs here, or the limiter is in use by another one.

        Example:
            >>> async def main():
            ...     limiter = RateLimiter(1, per=60)
            ...     return limiter.try_acquire(), limiter.try_acquire()
            >>> asyncio.run(main())
            (True, False)
        """
        self._check_cost(cost)
        loop = self._enter_loop()
        return not self._waiters and self._take(cost, loop)

    def pause(self, seconds: float) -> None:
        """Let nothing go for `seconds`, also none of those already waiting.

        Made for the `Retry-After` of a server that says stop. Of several pauses the one that ends
        last counts. A pause fills the bucket like any quiet time: at its end `burst` may go.

        Args:
            seconds: >= 0, from now.

        Raises:
            ValueError: `seconds` is negative or not finite.
            RuntimeError: no event loop runs here, or the limiter is in use by another one.

        Example:
            >>> async def main():
            ...     limiter = RateLimiter(100, burst=5)
            ...     limiter.pause(30)
            ...     return limiter.try_acquire()
            >>> asyncio.run(main())
            False
        """
        length = round(check_seconds("seconds", seconds) * _NANOSECONDS) * self._scale
        loop = self._enter_loop()
        self._resume_at = max(self._resume_at, self._now(loop) + length)
        self._serve(loop)

    def give_back(self, cost: int = 1) -> None:
        """Return `cost` calls that were taken and will not be made; those who wait move up.

        To be called at once: what has been refilled meanwhile would count twice.

        Args:
            cost: what was taken, 1 <= cost <= burst.

        Raises:
            ValueError: `cost` is below 1 or above `burst`.
            RuntimeError: no event loop runs here, or the limiter is in use by another one.

        Example:
            >>> async def main():
            ...     limiter = RateLimiter(1, per=60)
            ...     await limiter.acquire()
            ...     limiter.give_back()
            ...     return limiter.try_acquire()
            >>> asyncio.run(main())
            True
        """
        self._check_cost(cost)
        loop = self._enter_loop()
        self._full_at -= cost * self._interval
        self._acquired -= cost
        self._serve(loop)

    @property
    def rested(self) -> bool:
        """Whether the whole burst is free, so that a new limiter would act the same."""
        numbers = self.statistics()
        return numbers.available == self._burst and not numbers.waiting and not numbers.paused_for

    def statistics(self) -> RateLimiterStatistics:
        """A snapshot of the limiter's numbers; outside its loop as of the last use."""
        now = self._seen
        if self._loop is not None and asyncio._get_running_loop() is self._loop:
            now = self._now(self._loop)
        free = self._burst - -(-max(self._full_at - now, 0) // self._interval)
        pause = max(self._resume_at - now, 0)
        return RateLimiterStatistics(
            acquired=self._acquired,
            available=0 if pause else free,
            waiting=len(self._waiters),
            paused_for=pause / self._scale / _NANOSECONDS,
        )

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    # ------------------------------------------------------------------ the algorithm

    def _now(self, loop: asyncio.AbstractEventLoop) -> int:
        self._seen = round(loop.time() * _NANOSECONDS) * self._scale
        return self._seen

    def _due_at(self, cost: int) -> int:
        """When `cost` calls may go."""
        return max(self._full_at - (self._burst - cost) * self._interval, self._resume_at)

    def _take(self, cost: int, loop: asyncio.AbstractEventLoop) -> bool:
        now = self._now(loop)
        if now < self._due_at(cost):
            return False
        self._full_at = max(self._full_at, now) + cost * self._interval
        self._acquired += cost
        return True

    def _serve(self, loop: asyncio.AbstractEventLoop, *, least: float = 0.0) -> None:
        """Wake the head if its time has come, else set the timer for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        head = next(iter(self._waiters), None)
        if head is None or head.turn.done():
            return
        wait = self._due_at(head.cost) - self._now(loop)
        if wait <= 0:
            head.turn.set_result(None)
        else:
            delay = -(-wait // self._scale) / _NANOSECONDS  # rounded up to a nanosecond
            self._timer = loop.call_later(max(delay, least), self._on_timer, loop)

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._serve(loop, least=_REARM)  # timers may fire early: looks at the clock again

    # ------------------------------------------------------------------ loops

    def _enter_loop(self) -> asyncio.AbstractEventLoop:
        """The running loop, if the limiter is free to serve it."""
        loop = asyncio._get_running_loop()
        if loop is self._loop and loop is not None:
            return loop
        if loop is None:
            raise RuntimeError(
                "a RateLimiter needs the running event loop for its clock; "
                "from a thread use loop.call_soon_threadsafe(limiter.pause, seconds) or "
                "asyncio.run_coroutine_threadsafe(limiter.acquire(), loop)"
            )
        if self._loop is not None:
            self._leave_loop(self._loop, loop)
        self._loop = loop
        return loop

    def _leave_loop(self, old: asyncio.AbstractEventLoop, new: asyncio.AbstractEventLoop) -> None:
        if old.is_running() or (self._waiters and not old.is_closed()):
            raise RuntimeError(
                f"{self!r} is in use by another event loop; make one limiter for each loop, "
                f"or acquire in that loop with "
                f"asyncio.run_coroutine_threadsafe(limiter.acquire(), loop)"
            )
        self._waiters.clear()
        self._timer = None
        # Real loops share one monotonic clock, and the rate holds across them. A clock that is
        # behind is another one (a simulation): count the time between as none.
        seen = self._seen
        shift = self._now(new) - seen
        if shift < 0:
            self._full_at += shift
            self._resume_at += shift

    def _check_cost(self, cost: Any) -> None:
        if check_count("cost", cost) > self._burst:
            raise ValueError(
                f"cost must be <= burst ({self._burst}), got {cost}: it could never go; "
                f"make the limiter with burst={cost} or more"
            )

    def __repr__(self) -> str:
        now = self.statistics()
        waiting = f", {now.waiting} waiting" if now.waiting else ""
        paused = f", paused for {now.paused_for:.3g} s" if now.paused_for else ""
        return f"<RateLimiter {self._rate:g} per {self._per:g} s, burst {self._burst}{waiting}{paused}>"
