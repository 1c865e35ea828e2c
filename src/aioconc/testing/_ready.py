"""The queue of what can run next, in an order that a policy chooses.

Takes the place of the loop's own queue and reorders only what asyncio leaves open. With
`reorder="tasks"`: the step of a task may be delayed, since when a task goes on is not documented;
nothing jumps over an earlier plain callback, since `call_soon` is documented to be first in,
first out. With `reorder="external"`: only what comes from outside in no documented order, that
is timers for the same moment and calls from different threads; tasks keep their order.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from aioconc.testing._policies import FAIRNESS, STEPS, Policy, Priorities, Reorder, is_step

# Called for every step, where `super()` would cost more than the rest.
_pop = deque.popleft


# Rule: the first `_steps` handles are known to be candidates. They are counted when a choice is
#       due, not on arrival: `append` and `len` stay the deque's own.
class ReadyQueue(deque[Any]):
    """What is ready to run, handed out by `policy`.

    Args:
        policy: answers at each choice point.
        reorder: what may be reordered.
        from_threads: handle -> thread that it came from, for `reorder="external"`.
    """

    __slots__ = (
        "_begins",
        "_choose",
        "_from_threads",
        "_joins",
        "_kinds",
        "_next_runs",
        "_passed_over",
        "_ran",
        "_steps",
        "deviations",
        "points",
    )

    def __init__(
        self, policy: Policy, reorder: Reorder = "tasks", from_threads: Any = MappingProxyType({})
    ) -> None:
        super().__init__()
        self._choose = policy.choose
        self._ran = policy.ran if isinstance(policy, Priorities) else None
        # No question is asked before this choice point.
        self._begins = policy.begins
        # What is a candidate: by the type of its callback, or by asking.
        self._kinds: Collection[type] = STEPS
        self._joins = is_step
        # Whether the first that is none is a candidate, too.
        self._next_runs = 1
        if reorder == "external":
            self._from_threads = from_threads
            self._begins = 0
            self._kinds = ()
            self._joins = self._comes_with_first
            self._next_runs = 0
        self._steps = 0
        self._passed_over = 0
        # Choice points so far.
        self.points = 0
        # Where this run left the usual order, choice point -> rank: as `Schedule.picks`, so that it
        # can be replayed.
        self.deviations: dict[int, int] = {}

    def clear(self) -> None:
        """Drop everything, as a loop does that is closed."""
        super().clear()
        self._steps = 0

    # In one piece: it runs for every step of a program, and a call costs a tenth of a whole step.
    def popleft(self) -> Any:
        """The handle that runs next."""
        point = self.points
        if point < self._begins:
            # A step with anything behind it is a choice, made in the usual way.
            handle = _pop(self)
            if self and (type(handle._callback) in STEPS or is_step(handle)):
                self.points = point + 1
            return handle
        steps = self._steps
        length = len(self)
        while steps < length:
            handle = self[steps]
            if type(handle._callback) not in self._kinds and not self._joins(handle):
                break
            steps += 1
        count = steps if steps == length else steps + self._next_runs
        rank = 0
        if steps and count > 1:
            self.points = point + 1
            rank = self._choose(point, self, steps, count)
        if rank and self._passed_over < FAIRNESS:
            self._passed_over += 1
            self.deviations[point] = rank
            handle = self[rank]
            del self[rank]
        else:
            # The policy's choice, or it is overruled.
            self._passed_over = rank = 0
            handle = _pop(self)
        if rank < steps:
            steps -= 1
            if self._ran is not None:
                self._ran(rank)
        self._steps = steps
        return handle

    def _comes_with_first(self, handle: Any) -> bool:
        """Whether `handle` comes from outside and has no order among the candidates before it."""
        first = self[0]
        if isinstance(handle, asyncio.TimerHandle):
            return isinstance(first, asyncio.TimerHandle) and first.when() == handle.when()
        threads = self._from_threads
        if handle not in threads or (first is not handle and first not in threads):
            return False
        # What one thread calls keeps its order, as with `call_soon`.
        before = takewhile(lambda each: each is not handle, self)
        return all(threads[each] != threads[handle] for each in before)

    def usual_order_from_here(self) -> None:
        """Leave nothing to choice any more, for tidying up after a run."""
        self._begins = math.inf

    def watch_choices(self, tell: Callable[[Any, bool], object]) -> None:
        """Call `tell(handle, overtakes)` at each choice point from now on, before it runs."""
        choose = self._choose

        def choose_and_tell(point: int, ready: deque[Any], steps: int, count: int) -> int:
            rank = choose(point, ready, steps, count)
            tell(ready[rank], rank > 0)
            return rank

        self._choose = choose_and_tell
        self._begins = 0
