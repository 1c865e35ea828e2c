"""A thread that looks at the thread of an event loop, and finds what holds the loop up.

It guarantees that each callback that holds the loop for longer than the threshold is told once, at
its end, that an idle loop is told nothing of, and that the time for which a busy machine let
threads wait is not counted (told on Linux). What to remember of a look, and what to say in the
end, is left to its `Observer`.
"""

import asyncio
import sys
import threading
import time
from itertools import count
from time import perf_counter
from types import FrameType
from typing import Any, Final, Protocol

from aioconc._bridge._loop_thread import LoopThread, RunDelay

resource: Any
try:
    import resource

    if not hasattr(resource, "RUSAGE_THREAD"):  # pragma: no cover - not on Linux
        resource = None
except ImportError:  # pragma: no cover - not on Windows
    resource = None

# Looks are not taken more often than the interpreter changes threads anyway.
_SHORTEST_PAUSE: Final = 0.001

# Looks between two readings of how long the machine has kept this thread waiting: a reading costs
# more than a look, and what it may miss is then at most the delays of so many looks.
_READ_EVERY: Final = 20


def _times_woken() -> int:
    """How often the calling thread has stopped waiting.

    One that waits for the interpreter wakes at each switch interval, to ask for it.
    """
    if resource is None:  # pragma: no cover - the tests run on Linux
        return 0
    times: int = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return times


class Observer(Protocol):
    """Makes something of the looks. Called in the watchdog's thread."""

    def remember(self, frame: FrameType, *, again: bool) -> Any:
        """What to keep of this moment, given the innermost frame.

        Called when a callback is met that was met before; `again` if so for the second time, or if
        it is known otherwise that it has taken long.
        """

    def meets_again(self, since: float, worked: float, processed: float) -> None:
        """A callback is met for the second time: it may become a stall.

        Given is what the clock said when it was first met, and how much processor time the loop's
        thread and the process had used by then.
        """

    def goes_on(self, moment: Any, seconds: float, *, last: bool) -> None:
        """It has held the loop for so long by now; `moment` is what `remember` gave.

        `last`: the watch ends, and the thread is where it was told to end.
        """

    def is_over(self, seconds: float, *, stalled: bool) -> None:
        """It has ended, or the watch has; `stalled`: it took longer than the threshold."""

    def was_kept_out(self, seconds: float, *, asked: bool, within: bool) -> None:
        """For so long nobody could look, and it was neither the loop's work nor a busy machine.

        `asked`: this thread has asked for the interpreter all the time, so another had it; else no
        thread of the process ran. `within`: the callback was the same before and after.
        """


# Watch life:   one look after another -> told to end -> a last look -> ended
# Rule 1: only the watchdog thread touches what is below `_thread`.
class Watchdog:
    """Looks at the loop of the calling thread until it is told to end.

    Args:
        loop: the loop, which runs in the calling thread.
        threshold: seconds, > 0.
        looks: so many within the threshold. A stall is seen for certain when it is longer than the
            threshold by two looks; waking the thread for them is most of what a watch costs.
        observer: is told what is seen.
        name: of the thread.
        timer: as for `LoopThread`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threshold: float,
        observer: Observer,
        *,
        looks: int,
        name: str,
        timer: bool,
    ) -> None:
        self._threshold = threshold
        self._observer = observer
        self._pause = min(max(threshold / looks, _SHORTEST_PAUSE), threading.TIMEOUT_MAX)
        self._subject = LoopThread(loop, self._pause, timer=timer)
        self.worked: Final = self._subject.worked
        self.slices: Final = self._subject.delayed.slices
        self._told_to_end = threading.Lock()  # held until then
        self._told_to_end.acquire()
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
        # The callback of the last look; since when it counts; how long the machine had let its
        # thread wait when it was seen again; how long it has taken.
        self._callback: object = None
        self._since = self._took = 0.0
        self._delayed: float | None = None
        # Taken after the last look: the clock, and processor seconds of the loop's thread and of
        # the process.
        self._readings = (0.0, 0.0, 0.0)

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
        # The collector may end a forgotten block in any thread, this one's included.
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._subject.end()

    def _watch(self) -> None:
        waited = RunDelay()
        last, worked, kept_waiting = perf_counter(), self._subject.worked(), waited()
        processed, woken = time.process_time(), _times_woken()
        for number in count():
            if number % _READ_EVERY == 0:
                kept_waiting = waited()
            ending = self._told_to_end.acquire(timeout=self._pause)
            # First, and at once: what lets other threads run would let the moment pass.
            found = self._subject.look()
            now = perf_counter()
            late = now - last - self._pause
            moment = None
            if found and (found[0] is self._callback or late > self._threshold):
                again = self._delayed is not None or late > self._threshold
                moment = (self._observer.remember(found[1], again=again),)
            # Code that keeps the interpreter to itself keeps this thread out too. That is so when
            # the loop has not come round meanwhile (one that turns fast keeps others out as well),
            # its thread was at work, and it was neither the machine nor the turns of threads.
            kept_out = apart = 0.0
            if late > self._threshold:
                machine = waited() - kept_waiting + 2 * sys.getswitchinterval()
                missed = min(late, now - self._subject.turned - self._subject.tick) - machine
                if missed > self._threshold and self._subject.worked() - worked > missed / 2:
                    kept_out = missed
                elif late - machine > self._threshold:
                    apart = late - machine
            self._readings = (last, worked, processed)
            self._note(found, moment, now, kept_out, ending)
            if apart:
                times = apart / sys.getswitchinterval()
                asked = _times_woken() - woken > times / 4
                self._observer.was_kept_out(apart, asked=asked, within=self._delayed is not None)
            if ending:
                break
            last, worked = now, self._subject.worked()
            processed, woken = time.process_time(), _times_woken()
            del found
        self._callback_over()
        self._callback = None  # a frame, which would keep those below it

    def _note(
        self,
        found: tuple[object, FrameType, float] | None,
        moment: tuple[Any] | None,
        now: float,
        kept_out: float,
        ending: bool,
    ) -> None:
        callback, _, since = found or (None, None, now)
        if callback is not self._callback:
            self._callback_over()
            self._callback = callback
            self._since = min(since, now - kept_out)
            self._delayed = None
            if not kept_out:
                return
        if callback is None or moment is None:
            return
        if self._delayed is None:
            # Asked at the second look only, since it costs more than a look. What the machine did
            # before then is unknown, so not more of that time counts than two looks take.
            self._since = max(self._since, now - max(kept_out, 2 * self._pause))
            self._delayed = self._subject.delayed()
            self._observer.meets_again(*self._readings)
        self._took = now - self._since - (self._subject.delayed() - self._delayed)
        self._observer.goes_on(moment[0], self._took, last=ending)

    def _callback_over(self) -> None:
        if self._delayed is not None:
            self._observer.is_over(self._took, stalled=self._took >= self._threshold)
        self._took = 0.0
        self._delayed = None
