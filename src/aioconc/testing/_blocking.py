"""`no_blocking`: a block in which nothing may hold the event loop for long.

A watchdog thread looks at the stack of the loop's thread, many times within the threshold, and
takes what it finds in the same callback for too long. Nothing is scheduled in a loop of asyncio,
so that its order, and a virtual clock, stay as they are; one that shows no callbacks on the stack,
such as uvloop, gets a timer that notes when it comes round. Durations are real.
"""

import asyncio
import linecache
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

from aioconc._internal._check import check_seconds
from aioconc.errors import BlockingError
from aioconc.testing._sites import Site, place_of, site_of, users_frame

# So many looks within the threshold, but not more often than the interpreter changes threads
# anyway. A stall is seen for certain when it is longer than the threshold by two looks.
_LOOKS: Final = 5
_SHORTEST_PAUSE: Final = 0.001

# Looks between two readings of how long the machine has kept this thread waiting: a reading costs
# more than a look, and what it may miss is then at most the delays of so many looks.
_READ_EVERY: Final = 20

_CALLBACK: Final[CodeType] = asyncio.Handle._run.__code__


@dataclass(frozen=True)
class Stall:
    """One time that the loop was held up.

    Attributes:
        seconds: for how long, as far as it was seen: at least this, and less than two looks more.
        code: the piece of the user's code that took so long, mostly a call; empty where the source
            is not at hand.
        site: where that is.
        inside: the innermost function, where that is not the user's, with its line.
    """

    seconds: float
    code: str
    site: Site | None
    inside: str = ""

    def __str__(self) -> str:
        what = f"`{self.code}` at {self.site}" if self.code else f"{self.site}"
        return f"{self.seconds:.3f} s: {what}" + (f", inside {self.inside}" if self.inside else "")


class BlockReport:
    """What held the loop up during a `no_blocking` block; given at its beginning.

    Attributes:
        stalls: the stalls seen so far; one that goes on is added when it has ended.
    """

    def __init__(self) -> None:
        self.stalls: list[Stall] = []

    def __repr__(self) -> str:
        return f"<BlockReport {len(self.stalls)} stalls>"


class _LoopThread:
    """What the thread of a loop is doing, seen from another thread.

    Args:
        loop: the loop, which runs in the calling thread.
        pause: seconds between two looks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pause: float) -> None:
        self._loop = loop
        self._pause = pause
        self._ident: Final = threading.get_ident()
        self._shows_callbacks: Final = isinstance(loop, asyncio.BaseEventLoop)
        # When the loop last came round, as far as that was noted, in the loop's thread.
        self.turned = perf_counter()
        # Ends the noting.
        self.end: Final = self._note_turns() if self._shows_callbacks else self._tick()
        # Seconds that the thread was ready in, without being given a processor.
        self.delayed: Final = _RunDelay()
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
            handle = self._loop.call_later(self._pause, tick)

        def end() -> None:
            if handle is not None:
                handle.cancel()

        tick()
        return end

    def look(self) -> tuple[object, FrameType] | None:
        """What runs now, and the innermost frame in it; None if nothing does.

        The first is the same object as long as it is the same call of the same callback. Where
        the loop shows no callbacks, it is the same until the loop comes round.
        """
        frame = sys._current_frames().get(self._ident)
        if frame is None or not self._loop.is_running():
            return None
        callback: object = _callback(frame) if self._shows_callbacks else self.turned
        return None if callback is None else (callback, frame)

    def worked(self) -> float:
        """Seconds of processor time that the thread has used; 0.0 where that is not told."""
        return 0.0 if self._clock is None else time.clock_gettime(self._clock)


def _callback(frame: FrameType | None) -> FrameType | None:
    """The outermost frame in which a loop runs a callback; a new one for each."""
    found = None
    while frame is not None:
        if frame.f_code is _CALLBACK:
            found = frame
        frame = frame.f_back
    return found


# Watch life:   one look after another -> told to end -> a last look -> ended
# Rule 1: only the watchdog thread touches what is below `report`; the block reads it after `end`.
class _Watchdog:
    """Looks at a loop until it is told to end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threshold: float) -> None:
        self._threshold = threshold
        self._pause = max(threshold / _LOOKS, _SHORTEST_PAUSE)
        self._subject = _LoopThread(loop, self._pause)
        self._told_to_end = threading.Lock()  # held until then
        self._told_to_end.acquire()
        self._thread = threading.Thread(target=self._watch, name="no_blocking", daemon=True)
        self.report = BlockReport()
        # The callback of the last look; since when it counts; how long the machine had let its
        # thread wait when it was seen again; how long it has taken.
        self._callback: object = None
        self._since = self._took = 0.0
        self._delayed: float | None = None
        # Where in the callback the thread was, look by look.
        self._spots: Counter[_Spot] = Counter()

    def begin(self) -> None:
        """Start looking."""
        try:
            self._thread.start()
        except BaseException:
            self._subject.end()
            raise

    def end(self) -> None:
        """Look once more and stop."""
        self._told_to_end.release()
        self._thread.join()
        self._subject.end()

    def _watch(self) -> None:
        waited = _RunDelay()
        last, worked, kept_waiting = perf_counter(), self._subject.worked(), waited()
        for number in count():
            if number % _READ_EVERY == 0:
                kept_waiting = waited()
            ending = self._told_to_end.acquire(timeout=self._pause)
            # First, and at once: what lets other threads run would let the moment pass.
            found = self._subject.look()
            now = perf_counter()
            late = now - last - self._pause
            spot = None
            if found and (found[0] is self._callback or late > self._threshold):
                spot = _Spot.of(found[1])
            # Code that keeps the interpreter to itself keeps this thread out too. That is so when
            # the loop has not come round meanwhile (one that turns fast keeps others out as well),
            # its thread was at work, and it was neither the machine nor the turns of threads.
            kept_out = 0.0
            if late > self._threshold:
                late = min(late, now - self._subject.turned - self._pause)
                late -= waited() - kept_waiting + 2 * sys.getswitchinterval()
                if late > self._threshold and self._subject.worked() - worked > late / 2:
                    kept_out = late
            self._note(found and found[0], spot, now, kept_out, ending)
            if ending:
                break
            last, worked = now, self._subject.worked()
            del found
        self._callback_over()
        self._callback = None  # a frame, which would keep those below it

    def _note(
        self, callback: object, spot: "_Spot | None", now: float, kept_out: float, ending: bool
    ) -> None:
        if callback is not self._callback:
            self._callback_over()
            self._callback = callback
            self._since = now - kept_out
            self._delayed = None
            if not kept_out:
                return
        if callback is None or spot is None:
            return
        if self._delayed is None:
            # Asked at the second look only, since it costs more than a look. What the machine did
            # before then is unknown, so not more of that time counts than two looks take.
            self._since = max(self._since, now - max(kept_out, 2 * self._pause))
            self._delayed = self._subject.delayed()
        self._took = now - self._since - (self._subject.delayed() - self._delayed)
        if not ending or not self._spots:  # at the end the thread is in this block's own exit
            self._spots[spot] += 1

    def _callback_over(self) -> None:
        if self._took >= self._threshold:
            [(spot, _)] = self._spots.most_common(1)
            self.report.stalls.append(Stall(self._took, spot.text(), spot.site, spot.inside))
        self._took = 0.0
        self._spots.clear()


class _RunDelay:
    """Seconds for which a thread was ready to run, and was not given a processor."""

    def __init__(self) -> None:
        self._file = f"/proc/self/task/{threading.get_native_id()}/schedstat"

    def __call__(self) -> float:
        try:
            return int(Path(self._file).read_text().split()[1]) / 1e9
        except (OSError, IndexError):  # not on Linux
            return 0.0


@dataclass(frozen=True)
class _Spot:
    """A point in a program."""

    code: CodeType
    instruction: int
    site: Site | None
    inside: str

    @classmethod
    def of(cls, frame: FrameType) -> "_Spot":
        """Where a thread is, given its innermost frame."""
        users = users_frame(frame) or frame
        code, instruction = users.f_code, users.f_lasti // 2
        inside = "" if users is frame else str(place_of(frame))
        return cls(code, instruction, site_of(frame), inside)

    def text(self) -> str:
        """The expression that the thread is in the middle of."""
        nowhere = (None, None, None, None)
        line, end_line, start, end = next(
            islice(self.code.co_positions(), self.instruction, None), nowhere
        )
        if line is None or start is None:
            return ""
        text = linecache.getline(self.code.co_filename, line).encode()
        text = text[start:end] if end_line == line else text[start:].rstrip() + b" ..."
        return text.decode(errors="replace").strip()[:100]


class no_blocking:  # noqa: N801  # reads as a phrase: `with no_blocking():`
    """A block in which nothing may hold the event loop for longer than `threshold`.

    Names each stall with how long it was and the line of your code that caused it, calls of
    `time.sleep`, of blocking libraries, and plain computing alike. Each callback counts by
    itself, a task's step from one await to the next. Virtual time does not matter, nor does time
    for which a busy machine kept the thread waiting (told on Linux).

    Args:
        threshold: seconds of real time, > 0. What is longer by half is found for certain, what
            is shorter is never reported.

    Returns:
        A context manager for use inside a coroutine, that gives a `BlockReport`.

    Raises:
        BlockingError: at the end of the block, if the loop was held up. If the block raised, its
            exception leaves, and the stalls are added to it as a note.
        RuntimeError: no event loop is running here.
        ValueError: `threshold` is not positive.

    Example:
        >>> import asyncio
        >>> from aioconc.testing import no_blocking
        >>> async def main():
        ...     with no_blocking():
        ...         await asyncio.sleep(0.1)
        >>> asyncio.run(main())
    """

    def __init__(self, threshold: float = 0.05) -> None:
        self._threshold: Final = check_seconds("threshold", threshold, zero=False)
        self._watchdog: _Watchdog | None = None

    def __enter__(self) -> BlockReport:
        if self._watchdog is not None:
            raise RuntimeError("this no_blocking() is entered already; make one for each block")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no_blocking watches the running event loop, and none is running here; "
                "use it inside a coroutine"
            ) from None
        watchdog = _Watchdog(loop, self._threshold)
        watchdog.begin()
        self._watchdog = watchdog
        return watchdog.report

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._watchdog is not None
        watchdog, self._watchdog = self._watchdog, None
        watchdog.end()
        lines = [str(each) for each in watchdog.report.stalls]
        if not lines:
            return
        text = f"the event loop was held up, for longer than {self._threshold} s each time:"
        text = "\n  ".join([text, *lines])
        if error is None:
            raise BlockingError(text, stalls=lines)
        error.add_note(text)
