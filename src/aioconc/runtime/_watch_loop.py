"""`watch_loop`: tells what holds the event loop up, in production as well.

It guarantees that each stall is told once, from another thread, so that also a loop that never
comes back is told of; and that an idle loop is not taken for a blocked one. How looks are taken
is in `_bridge._watchdog`, what is made of them in `_stall_report`; for tests there is
`aioconc.testing.no_blocking`.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from aioconc._bridge._watchdog import Watchdog
from aioconc._internal._check import check_seconds
from aioconc.runtime._gc_clock import gc_clock
from aioconc.runtime._stall import LoopStall
from aioconc.runtime._stall_report import Reporter, WatchStatistics


class watch_loop:  # noqa: N801  # reads as a phrase: `with watch_loop():`
    """A block during which whatever holds the event loop up is reported.

    Equals asyncio's debug mode with `loop.slow_callback_duration`, but names the line while it
    holds the loop, tells a hang while it lasts, and costs little enough to be left on. A thread
    looks four times per threshold at the stack of the loop's thread, and a timer in the loop
    notes when it comes round. Each stall is reported once: when it has ended, or while it goes on
    if that takes ten thresholds and 5 s. Of more than 10 in a minute, the rest is only counted.

    Args:
        threshold: seconds > 0 for which one callback, or the step of a task from one await to the
            next, may take. What is longer by two thirds is found for certain, what is shorter is never
            reported. Time for which a busy machine kept the thread waiting does not count (on
            Linux).
        on_block: called with each `LoopStall`, in the watching thread: the loop may be held up. What
            it raises is logged. None: the stall is logged as a warning of the logger `aioconc`, or
            as info when the cause is a debugger or that the process was stopped.

    Returns:
        A context manager for use inside a coroutine; it gives itself, with `statistics()`.

    Raises:
        RuntimeError: no event loop is running here, or it is entered twice.
        ValueError: `threshold` is not positive.
        TypeError: `on_block` cannot be called.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     with watch_loop(threshold=0.1) as watch:
        ...         await asyncio.sleep(0.01)
        ...     return watch.statistics().stalls
        >>> asyncio.run(main())
        0
    """

    def __init__(
        self, threshold: float = 0.1, on_block: Callable[[LoopStall], object] | None = None
    ) -> None:
        self._threshold: Final = check_seconds("threshold", threshold, zero=False)
        if on_block is not None and not callable(on_block):
            raise TypeError(f"on_block must be a function of a LoopStall, got {on_block!r}")
        self._on_block: Final = on_block
        self._reporter: Reporter | None = None
        self._watchdog: Watchdog | None = None

    def __enter__(self) -> Self:
        if self._reporter is not None:
            raise RuntimeError("this watch_loop() was entered before; make one for each block")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "watch_loop watches the running event loop, and none is running here; "
                "use it inside a coroutine"
            ) from None
        reporter = Reporter(loop, self._threshold, self._on_block)
        # A clock of its own, as in tests, would have nothing but the ticks to wait for.
        own_clock = getattr(type(loop), "time", None) is not asyncio.BaseEventLoop.time
        watchdog = Watchdog(
            loop, self._threshold, reporter, looks=4, name="watch_loop", timer=not own_clock
        )
        reporter.worked, reporter.slices = watchdog.worked, watchdog.slices
        gc_clock.begin()
        try:
            watchdog.begin()
        except BaseException:
            gc_clock.end()
            raise
        self._reporter, self._watchdog = reporter, watchdog
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._watchdog is not None
        watchdog, self._watchdog = self._watchdog, None
        try:
            watchdog.end()
        finally:
            gc_clock.end()

    def statistics(self) -> WatchStatistics:
        """What it has seen so far. Any thread may ask."""
        if self._reporter is None:
            return WatchStatistics(0, 0.0, 0.0, 0)
        return self._reporter.statistics

    def __repr__(self) -> str:
        state = (
            "new" if self._reporter is None else "ended" if self._watchdog is None else "watching"
        )
        return f"<watch_loop {self._threshold:g} s, {state}, {self.statistics().stalls} stalls>"
