"""Makes `LoopStall`s of what the watchdog sees: where, why, and not too many of them.

Everything here runs in the watchdog's thread, also the user's function: it must get through while
the loop is held up.
"""

import asyncio
import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from traceback import StackSummary
from types import CodeType, FrameType
from typing import Final, Literal

from aioconc._internal import _hooks
from aioconc._internal._sites import site_of, users_frame
from aioconc.runtime._gc_clock import GcClock, gc_clock
from aioconc.runtime._stall import Cause, LoopStall

# Stalls that are told in a period, in seconds. A loop that is held up ten times a minute needs no
# eleventh report, and each costs some stack and some log.
_MOST: Final = 10
_PERIOD: Final = 60.0

# A stall that has gone on for so long, in thresholds and in seconds, may never end: it is told.
_LONG: Final = (10, 5.0)

# Frames of a stack, and places within one stall, that are kept.
_FRAMES: Final = 50
_PLACES: Final = 20

# Other threads that are named.
_OTHERS: Final = 3

# A process that was stopped for less than so many seconds is not worth a word.
_SUSPENDED: Final = 1.0

_CALLBACK: Final[CodeType] = asyncio.Handle._run.__code__
_GC_NOTE: Final[CodeType] = GcClock._note.__code__
_LOOPS: Final = (".run_forever", ".run_until_complete", "Runner.run")
_DEBUGGERS: Final = ("/bdb.py", "/pdb.py", "pydevd", "debugpy")

_log = logging.getLogger("aioconc")

Place = tuple[CodeType, int]  # code, instruction


@dataclass(frozen=True)
class WatchStatistics:
    """What a watch has seen so far.

    Attributes:
        stalls: how many there were, told or not, whatever their cause.
        seconds: how long all of them took, together.
        longest: how long the longest one took, in seconds.
        suppressed: how many were not told, since there were too many.
    """

    stalls: int
    seconds: float
    longest: float
    suppressed: int


class Reporter:
    """An `Observer` that tells of stalls.

    Args:
        loop: the loop that is watched, in the calling thread.
        threshold: seconds.
        tell: is given each stall.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threshold: float,
        tell: Callable[[LoopStall], object] | None,
    ) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._threshold = threshold
        self._long = max(_LONG[0] * threshold, _LONG[1])
        self._tell = _log_stall if tell is None else tell
        # Read how long the loop's thread has had a processor, and how often; set by the watch.
        self.worked: Callable[[], float] = float
        self.slices: Callable[[], int] = int
        self.statistics = WatchStatistics(0, 0.0, 0.0, 0)
        self._told: deque[float] = deque(maxlen=_MOST)
        self._untold = 0  # since the last that was told
        self._forget()

    def _forget(self) -> None:
        """No stall is under way."""
        self._seen: Counter[Place] = Counter()
        self._details: dict[Place, tuple[StackSummary, str, str | None, bool]] = {}
        # Whether, within it, nobody could look, and why.
        self._apart: Literal["asked", "suspended"] | None = None
        self._told_of_this = False

    # -- what the watchdog says -----------------------------------------------------------------

    def remember(self, frame: FrameType, *, again: bool) -> Place | None:
        if not again:
            return None  # most callbacks that are met twice are not met for long
        place = (frame.f_code, frame.f_lasti)
        if place not in self._details:
            if len(self._details) == _PLACES:
                return None
            self._details[place] = (*_stack(frame), self._task_name(), _in_debugger(frame))
        return place

    def meets_again(self, since: float, worked: float, processed: float) -> None:
        self._began, self._worked, self._processed = since, worked, processed
        self._met, self._slices = perf_counter(), self.slices()

    def goes_on(self, moment: Place | None, seconds: float, *, last: bool) -> None:
        if moment is not None and not (last and self._seen):
            self._seen[moment] += 1
        if seconds >= self._long and not self._told_of_this:
            self._told_of_this = True
            self._report(self._stall(seconds, ongoing=True))

    def is_over(self, seconds: float, *, stalled: bool) -> None:
        if stalled:
            self._count(seconds)
            if not self._told_of_this:
                self._report(self._stall(seconds, ongoing=False))
        if self._details or self._apart or self._told_of_this:
            self._forget()

    def was_kept_out(self, seconds: float, *, asked: bool, within: bool) -> None:
        if within:
            self._apart = "asked" if asked else "suspended"
            return
        if not asked and seconds < _SUSPENDED:
            return
        self._count(seconds)
        now = perf_counter()
        gc_seconds = gc_clock.within(now - seconds, now)
        cause: Cause = "gil" if asked else "suspended"
        if gc_seconds > seconds / 2:
            cause = "gc"
        where = self._others() if cause == "gil" else ""
        self._report(LoopStall(seconds, cause, None, where, StackSummary(), gc_seconds, False, 0))

    # -- making something of it -----------------------------------------------------------------

    def _stall(self, seconds: float, *, ongoing: bool) -> LoopStall:
        now = perf_counter()
        gc_seconds = gc_clock.within(now - seconds, now)
        stack, where, task, in_debugger = StackSummary(), "", None, False
        if self._seen:
            [(place, _)] = self._seen.most_common(1)
            stack, where, task, in_debugger = self._details[place]
        cause: Cause
        if in_debugger:
            cause = "debugger"
        elif gc_seconds > seconds / 2:
            cause = "gc"
        elif self._apart == "suspended":
            cause = "suspended"
        else:
            cause = "gil" if self._is_starved(now) else "code"
        return LoopStall(seconds, cause, task, where, stack, gc_seconds, ongoing, 0)

    def _is_starved(self, now: float) -> bool:
        """Whether it was mostly the turns of other threads that made it long.

        Then the loop's thread, alone, would not have taken so long; others have worked for most of
        the rest; and it has asked for the interpreter, as one that waits in a call does not.
        """
        worked = self.worked() - self._worked
        others = time.process_time() - self._processed - worked
        asked = (now - self._met) / sys.getswitchinterval() / 4
        return (
            worked < self._threshold
            and others > (now - self._began - worked) / 2
            and (self._apart == "asked" or self.slices() - self._slices > asked)
        )

    def _others(self) -> str:
        """What other threads do that are in the user's code: one of them has had the interpreter."""
        frames = sys._current_frames()
        names = {each.ident: each.name for each in threading.enumerate()}
        places = [
            f"{site_of(frame)}, thread {names.get(ident, ident)!r}"
            for ident, frame in frames.items()
            if ident not in (self._thread, threading.get_ident()) and users_frame(frame) is not None
        ]
        return "; or ".join(places[:_OTHERS])

    def _task_name(self) -> str | None:
        try:
            task = asyncio.current_task(self._loop)
        except RuntimeError:  # where another thread may not ask
            return None
        return None if task is None else task.get_name()

    def _count(self, seconds: float) -> None:
        before = self.statistics
        self.statistics = replace(
            before,
            stalls=before.stalls + 1,
            seconds=before.seconds + seconds,
            longest=max(before.longest, seconds),
        )

    def _report(self, stall: LoopStall) -> None:
        now = perf_counter()
        if len(self._told) == _MOST and now - self._told[0] < _PERIOD:
            self._untold += 1
            self.statistics = replace(self.statistics, suppressed=self.statistics.suppressed + 1)
            return
        self._told.append(now)
        stall = replace(stall, suppressed=self._untold)
        self._untold = 0
        if _hooks.listeners:
            _hooks.emit("loop.stalled", stall=stall)
        try:
            self._tell(stall)
        except Exception:
            _log.exception("on_block %r failed on: %s", self._tell, stall)


def _log_stall(stall: LoopStall) -> None:
    # What was done to the process from outside is no fault of the program.
    level = logging.INFO if stall.cause in ("debugger", "suspended") else logging.WARNING
    _log.log(level, "%s", stall)


def _stack(innermost: FrameType) -> tuple[StackSummary, str]:
    """The stack up to where the loop called, outermost first, and the line to look at."""
    frames: list[tuple[FrameType, int]] = []
    frame: FrameType | None = innermost
    if innermost.f_code is _GC_NOTE:
        frame = innermost.f_back
    while frame is not None and len(frames) < _FRAMES:
        if frame.f_code is _CALLBACK or frame.f_code.co_qualname.endswith(_LOOPS):
            break
        frames.append((frame, frame.f_lineno or frame.f_code.co_firstlineno))
        frame = frame.f_back
    # Source lines are read when the stack is shown, if it is.
    stack = StackSummary.extract(iter(reversed(frames)), lookup_lines=False)
    return stack, str(site_of(innermost) or "")


def _in_debugger(frame: FrameType | None) -> bool:
    while frame is not None:
        if any(each in frame.f_code.co_filename for each in _DEBUGGERS):
            return True
        frame = frame.f_back
    return False
