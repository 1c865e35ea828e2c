"""The queue of what can run next, in an order that a policy chooses.

Takes the place of the loop's own queue and reorders only what asyncio leaves open. With
`reorder="tasks"`: the step of a task may be delayed, since when a task goes on is not documented;
nothing jumps over an earlier plain callback, since `call_soon` is documented to be first in,
first out. With `reorder="external"`: only what comes from outside in no documented order, that
is timers for the same moment and calls from threads; tasks keep their order.
"""

import asyncio
from collections import deque
from types import BuiltinMethodType, MethodType
from typing import Any, Final, Literal

from aioconc.testing._policies import FAIRNESS, Policy, Priorities

Reorder = Literal["tasks", "external"]

# Called for every step, where `super()` would cost more than the rest.
_pop = deque.popleft
_length = deque.__len__

# Names of the methods through which a task written in Python goes on. `Task.cancel` is bound to a
# task as well, and is a plain callback.
_WAKE_UPS: Final = frozenset({"__step", "__wakeup"})


def is_step(handle: Any) -> bool:
    """Whether `handle` runs a task, rather than a plain callback."""
    callback = handle._callback
    kind = type(callback)
    if kind is BuiltinMethodType:
        return callback.__name__ == "task_wakeup"  # type: ignore[no-any-return]
    if kind is MethodType:
        return callback.__name__ in _WAKE_UPS and isinstance(callback.__self__, asyncio.Future)
    return kind.__name__ == "TaskStepMethWrapper"


# Rule 1: `_steps` holds the candidates in order of arrival, and all of them arrived before what is
#         in the deque itself, whose first element is the candidate after them.
# Rule 2: `_steps` is filled when a choice is due, not on arrival: `append` stays the deque's own.
class ReadyQueue(deque[Any]):
    """What is ready to run, handed out by `policy`.

    Args:
        policy: answers at each choice point.
        reorder: what may be reordered.
        from_threads: handles that came from other threads, for `reorder="external"`.
    """

    def __init__(
        self, policy: Policy, reorder: Reorder = "tasks", from_threads: Any = frozenset()
    ) -> None:
        super().__init__()
        self._choose = policy.choose
        self._ran = policy.ran if isinstance(policy, Priorities) else None
        self._external = reorder == "external"
        self._from_threads = from_threads
        self._steps: deque[Any] = deque()
        self._passed_over = 0
        # Choice points so far.
        self.points = 0
        # Where this run left the usual order: as `Schedule.picks`, so that it can be replayed.
        self.deviations: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return _length(self) + len(self._steps)

    def __bool__(self) -> bool:
        return len(self) > 0

    def clear(self) -> None:
        """Drop everything, as a loop does that is closed."""
        super().clear()
        self._steps.clear()

    def popleft(self) -> Any:
        """The handle that runs next."""
        steps = self._steps
        behind = _length(self)
        if self._external:
            self._take_in_external()
            behind = 0 if steps else behind
        else:
            while behind and is_step(self[0]):
                steps.append(_pop(self))
                behind -= 1
        if not steps:
            return _pop(self)
        count = len(steps) + (behind > 0)
        if count == 1:
            self._passed_over = 0
            handle = steps.popleft()
        else:
            point = self.points
            self.points = point + 1
            rank = self._choose(point, steps, count)
            if rank == 0:
                self._passed_over = 0
                handle = steps.popleft()
            else:
                self._passed_over += 1
                if self._passed_over > FAIRNESS:
                    self._passed_over = rank = 0
                else:
                    self.deviations.append((point, rank))
                if rank == len(steps):
                    return _pop(self)
                handle = steps[rank]
                del steps[rank]
        if self._ran is not None:
            self._ran(handle)
        return handle

    def usual_order_from_here(self) -> None:
        """Leave nothing to choice any more, for tidying up after a run."""
        self.extendleft(reversed(self._steps))
        self._steps.clear()
        self._external = True
        self._from_threads = frozenset()
        self._choose = _first

    def _take_in_external(self) -> None:
        """Candidates: the first run of arrivals from outside that have no order among them."""
        steps = self._steps
        while _length(self):
            handle = self[0]
            if steps and not self._same_moment(steps[0], handle):
                return
            if not steps and not self._is_external(handle):
                return
            steps.append(_pop(self))

    def _is_external(self, handle: Any) -> bool:
        return isinstance(handle, asyncio.TimerHandle) or handle in self._from_threads

    def _same_moment(self, one: Any, other: Any) -> bool:
        if isinstance(one, asyncio.TimerHandle):
            return isinstance(other, asyncio.TimerHandle) and one.when() == other.when()
        return other in self._from_threads


def _first(point: int, steps: deque[Any], count: int) -> int:
    return 0
