"""The thread of an event loop, seen from another thread: what it runs, since when, and how hard.

Looking costs the loop nothing but the interpreter lock for some microseconds. What to make of it is
left to `_watchdog` and those who use that.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import CodeType, FrameType
from typing import Any, Final

_CALLBACK: Final[CodeType] = asyncio.Handle._run.__code__


class LoopThread:
    """What the thread of a loop is doing, seen from another thread.

    Args:
        loop: the loop, which runs in the calling thread.
        tick: seconds after which a timer in the loop notes, again and again, that it comes round;
            twice as many where callbacks are seen.
        timer: False: not by a timer, which leaves the order of things in the loop, and a virtual
            clock, as they are. Where the loop shows no callbacks on its stack, such as uvloop,
            there is a timer all the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: float, *, timer: bool) -> None:
        self._loop = loop
        self._ident: Final = threading.get_ident()
        self._shows_callbacks: Final = isinstance(loop, asyncio.BaseEventLoop)
        # Who sees the callbacks need not know so exactly when the loop comes round.
        self.tick: Final = 2 * tick if self._shows_callbacks and timer else tick
        # When the loop last came round, as far as that was noted, in the loop's thread.
        self.turned = perf_counter()
        # Ends the noting.
        noted = self._shows_callbacks and not timer
        self.end: Final = self._note_turns() if noted else self._tick()
        # Seconds that the thread was ready in, without being given a processor.
        self.delayed: Final = RunDelay()
        clock = getattr(time, "pthread_getcpuclockid", None)
        self._clock: Final = None if clock is None else clock(self._ident)

    def _note_turns(self) -> Callable[[], None]:
        selector: Any = getattr(self._loop, "_selector", None)
        if selector is None:
            return lambda: None
        original, before = selector.select, vars(selector).get("select")

        def select(timeout: float | None = None) -> Any:
            self.turned = perf_counter()
            return original(timeout)

        def end() -> None:
            if vars(selector).get("select") is select:  # else somebody has wrapped it in turn
                if before is None:
                    del selector.select
                else:
                    selector.select = before

        selector.select = select
        return end

    def _tick(self) -> Callable[[], None]:
        handle: asyncio.TimerHandle | None = None

        def tick() -> None:
            nonlocal handle
            self.turned = perf_counter()
            handle = self._loop.call_later(self.tick, tick)

        def end() -> None:
            if handle is not None:
                handle.cancel()

        tick()
        return end

    def look(self) -> tuple[object, FrameType, float] | None:
        """What runs now, the innermost frame in it, and since when it has run; None if nothing does.

        The first is the same object as long as it is the same call of the same callback; it was not
        there before the last look, so it counts from now. Where the loop shows no callbacks, it
        is the same until the loop comes round, and counts from when it should have done so.
        """
        frame = sys._current_frames().get(self._ident)
        if frame is None or not self._loop.is_running():
            return None
        now = perf_counter()
        if self._shows_callbacks:
            callback = _callback(frame)
            return None if callback is None else (callback, frame, now)
        due = self.turned + self.tick
        return None if now <= due else (self.turned, frame, due)

    def worked(self) -> float:
        """Seconds of processor time that the thread has used; 0.0 where that is not told."""
        if self._clock is None:
            return 0.0
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # the thread has ended, with its loop and a block that was never left
            return 0.0


def _callback(frame: FrameType | None) -> FrameType | None:
    """The outermost frame in which a loop runs a callback; a new one for each."""
    found = None
    while frame is not None:
        if frame.f_code is _CALLBACK:
            found = frame
        frame = frame.f_back
    return found


class RunDelay:
    """Seconds for which a thread was ready to run, and was not given a processor."""

    def __init__(self) -> None:
        self._file = f"/proc/self/task/{threading.get_native_id()}/schedstat"

    def __call__(self) -> float:
        return self._read()[0] / 1e9

    def slices(self) -> int:
        """How often it was given one. Who waits for the interpreter asks for one again and again."""
        return self._read()[1]

    def _read(self) -> tuple[int, int]:
        try:
            _, delay, slices = Path(self._file).read_text().split()
            return int(delay), int(slices)
        except (OSError, ValueError):  # not on Linux
            return 0, 0
