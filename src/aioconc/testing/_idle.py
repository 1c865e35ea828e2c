"""What a simulated loop does when nothing is ready: wait for the real, jump, or give a verdict.

    nothing ready -> held work under way?  wait for it, time stands still
                  -> sockets or threads?   a moment of real time for them to show themselves
                  -> somebody settles?     wake them: all that can run has run
                  -> a timer?              jump to it
                  -> no timer              deadlock; or stuck, if something could still wake us

A verdict is raised out of the selector, and so out of `run_until_complete`.
"""

from time import perf_counter
from typing import TYPE_CHECKING, Final

from aioconc.errors import DeadlockError, LivelockError, StuckError
from aioconc.testing._outside import Outside
from aioconc.testing._selector import Events, LazySelector
from aioconc.testing._verdicts import describe_deadlock, describe_livelock, describe_stuck
from aioconc.testing._wait_graph import cycle_key, wait_graph

if TYPE_CHECKING:
    from aioconc.testing._loop import SimulationLoop

# Real seconds for which held work may be silent before the clock goes on at real pace beside it:
# else work that itself waits for the loop's time would wait for ever.
PATIENCE: Final = 5.0

# Real seconds without a sign before a loop that something could still wake is called stuck.
STUCK_AFTER: Final = 10.0

# Longest real wait in one piece: work that ends without waking the loop is noticed after it.
_SLICE: Final = 0.05

# Timers keep firing in a program whose tasks are in a circle. After so many jumps, and beyond
# every timer that was set when the circle was first seen, none of them is going to break it.
_CIRCLE_JUMPS: Final = 1_000

# Steps before the limit from which on it is noted who takes them.
_NOTED_STEPS: Final = 2_000


class Idle:
    """The judgement of one loop.

    Args:
        loop: whose.
        outside: what is real and in flight.
        selector: waits in real time.
        max_steps: most callbacks without any progress of time; None for no limit.
    """

    def __init__(
        self,
        loop: "SimulationLoop",
        outside: Outside,
        selector: LazySelector,
        max_steps: int | None,
    ) -> None:
        self._loop = loop
        self._outside = outside
        self._selector = selector
        self._max_steps = max_steps
        self._steps = 0
        self._busy: dict[str, int] = {}
        self._jumps = 0
        # The circle that is being watched, since which jump, and until when it may still break.
        self._circle: object = None
        self._circle_seen = 0
        self._circle_until = 0.0

    def select(self, timeout: float | None) -> Events:
        """Stands in for the selector's own `select`."""
        if timeout is not None and timeout <= 0:
            if not self._loop._ready:
                self._loop._reach_timer()
            self._count_steps()
            if self._selector.real is None:
                return []
            events = self._selector.poll()
            if events:
                self.progressed()
            return events
        if self._selector.answer():
            self.progressed()
            return self._selector.poll()
        events = self._selector.poll()
        if events:
            self.progressed()
            return events
        return self._when_idle(timeout)

    def progressed(self) -> None:
        """Time passed, or something real happened."""
        self._steps = 0
        if self._busy:
            self._busy = {}

    # -- nothing is ready ---------------------------------------------------------------------

    def _when_idle(self, timeout: float | None) -> Events:
        events = self._wait_for_held(timeout)
        if events is not None:
            return events
        if grace := self._outside.grace():
            happened, events = self._selector.wait(grace)
            if happened:
                self.progressed()
                return events
        if self._loop._wake_settlers():
            return []
        if timeout is None:
            return self._verdict()
        self._jumps += 1
        if not self._jumps & 127:
            self._look_for_circle()
        self.progressed()
        self._loop._jump()
        return []

    def _wait_for_held(self, timeout: float | None) -> Events | None:
        """Wait while held work is under way; None once there is none."""
        began = before = perf_counter()
        piece = 0.001
        while self._outside.held():
            happened, events = self._selector.wait(piece)
            if happened:
                self.progressed()
                return events
            now = perf_counter()
            if timeout is not None and now - began > PATIENCE:
                self._loop.advance(now - before)
                if self._loop._is_due():
                    self.progressed()
                    return []
            before = now
            piece = min(2 * piece, _SLICE)
        if self._selector.answer():
            self.progressed()
            return []
        return None

    # -- verdicts -----------------------------------------------------------------------------

    def _verdict(self) -> Events:
        outside = self._outside.could_wake()
        deadline = perf_counter() + STUCK_AFTER
        while outside and (left := deadline - perf_counter()) > 0:
            happened, events = self._selector.wait(min(left, _SLICE))
            if happened:
                self.progressed()
                return events
            outside = self._outside.could_wake()
        if not outside:
            raise DeadlockError(describe_deadlock(self._loop))
        raise StuckError(describe_stuck(self._loop, outside))

    def _look_for_circle(self) -> None:
        graph = wait_graph(self._loop)
        circle = cycle_key(graph) if graph.cycle else None
        if circle is None or circle != self._circle:
            self._circle = circle
            self._circle_seen = self._jumps
            self._circle_until = self._loop._last_timer()
        elif (
            self._jumps - self._circle_seen >= _CIRCLE_JUMPS
            and self._loop.time() > self._circle_until
        ):
            raise DeadlockError(describe_deadlock(self._loop))

    def _count_steps(self) -> None:
        if self._max_steps is None:
            return
        self._steps += len(self._loop._ready)
        if self._steps > self._max_steps - _NOTED_STEPS:
            for name in self._loop._names_of_ready():
                self._busy[name] = self._busy.get(name, 0) + 1
            if self._steps > self._max_steps:
                steps, busy = self._steps, self._busy
                self.progressed()
                raise LivelockError(describe_livelock(self._loop, steps, busy))
