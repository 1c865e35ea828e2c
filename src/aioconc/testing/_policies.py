"""Which of several candidates runs next: the algorithms behind a `Schedule`.

A policy is asked at each choice point and answers with a candidate's place in the order of
arrival; 0 is what asyncio would run. It sees task steps only: a plain callback is a candidate
too, always the last one, and has no task. What is a candidate at all is decided in `_ready`.
"""

import asyncio
import heapq
import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from types import BuiltinMethodType, MethodType
from typing import Any, Final, Literal, Protocol

from aioconc.testing._schedule import Schedule

# What a schedule may reorder; the rules are in `_ready`.
Reorder = Literal["tasks", "external"]

# A candidate that was passed over so often runs next, whatever the policy says: else a task that
# polls starves the one that it polls for, and the schedule shows what no fair loop would do.
# 200 is where random priorities raised no false alarm over busy waits in a hundred seeds.
FAIRNESS: Final = 200

# Most demotions in a schedule of random priorities, and the steps among which they are drawn.
PCT_DEMOTIONS: Final = 2
PCT_HORIZON: Final = 200
# Names of the methods through which a task written in Python goes on. `Task.cancel` is bound to a
# task as well, and is a plain callback.
_WAKE_UPS: Final = frozenset({"__step", "__wakeup"})

# The type of a task's step that waits for nothing; known once one was seen.
STEPS: Final[set[type]] = set()


Ready = deque[Any]  # handles, in order of arrival


class Policy(Protocol):
    """Answers at each choice point.

    Attributes:
        begins: first choice point at which it may leave the usual order; not asked before.
    """

    begins: float

    def choose(self, point: int, ready: Ready, steps: int, count: int) -> int:
        """The place of the candidate that runs.

        Args:
            point: number of this choice point, from 0.
            ready: its first `count` handles are the candidates.
            steps: how many of them are task steps, or arrivals from outside; >= 1, they come first.
            count: >= 2; one more than `steps` if a plain callback is a candidate.
        """
        ...


def is_step(handle: Any) -> bool:
    """Whether `handle` runs a task, rather than a plain callback."""
    callback = handle._callback
    kind = type(callback)
    if kind in STEPS:
        return True
    if kind is BuiltinMethodType:
        return callback.__name__ == "task_wakeup"  # type: ignore[no-any-return]
    if kind is MethodType:
        return callback.__name__ in _WAKE_UPS and asyncio.isfuture(callback.__self__)
    if kind.__name__ == "TaskStepMethWrapper":
        STEPS.add(kind)
        return True
    return False


def policy_of(schedule: Schedule, reorder: Reorder = "tasks") -> Policy:
    """The policy that makes a run follow `schedule`."""
    if schedule.picks:
        return Picks(schedule.picks)
    if schedule.random is not None:
        return Random(schedule.random)
    if schedule.pct is not None:
        return Priorities(schedule.pct)
    if reorder == "external":
        return LateArrivals(schedule.demotions)
    return Demotions(schedule.demotions)


def task_of(handle: Any) -> Any:
    """The task whose step `handle` is; the handle itself if it is no task's."""
    return getattr(handle._callback, "__self__", handle)


class Demotions:
    """The usual order, but for tasks that fall behind at the given points."""

    def __init__(self, points: Sequence[int]) -> None:
        self.begins = min(points, default=math.inf)
        self._points = frozenset(points)
        # Task -> how far down: the one demoted last is the very last.
        self._demoted: dict[Any, int] = {}

    def choose(self, point: int, ready: Ready, steps: int, count: int) -> int:
        demoted = self._demoted
        demotes = point in self._points
        rank = 0
        while rank < steps:
            task = ready[rank]._callback.__self__
            if task not in demoted:
                if not demotes:
                    return rank
                demotes = False
                demoted[task] = len(demoted)
            rank += 1
        if rank < count:
            return rank  # the plain callback
        # Demoted ones only: the one that is least far down.
        return min(range(steps), key=lambda each: demoted[ready[each]._callback.__self__])


class LateArrivals:
    """Demotions where arrivals from outside are reordered: each is there only once."""

    def __init__(self, points: Sequence[int]) -> None:
        self.begins = min(points, default=math.inf)
        self._points = frozenset(points)
        # Those that are late, the one to come last at the end. Not a dict: timers for the same
        # moment may be equal.
        self._demoted: list[Any] = []

    def choose(self, point: int, ready: Ready, steps: int, count: int) -> int:
        late = {id(each): place for place, each in enumerate(self._demoted)}
        ranks = sorted(range(count), key=lambda each: late.get(id(ready[each]), -1))
        first = ready[ranks[0]]
        if point not in self._points or id(first) in late:
            return ranks[0]
        self._demoted.append(first)
        return ranks[1]


class Picks:
    """The usual order, but for the given candidates at the given points."""

    def __init__(self, picks: Sequence[tuple[int, int]]) -> None:
        self.begins = min((point for point, _ in picks), default=math.inf)
        self._picks = dict(picks)

    def choose(self, point: int, ready: Ready, steps: int, count: int) -> int:
        # Taken from another run, or shrunk: there may be fewer candidates here.
        return self._picks.get(point, 0) % count


class Random:
    """Any candidate, each as likely."""

    begins = 0.0

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def choose(self, point: int, ready: Ready, steps: int, count: int) -> int:
        return int(self._random() * count)


# Priority, lowest number first; order of arrival, so that no two are equal; the task.
_Ranked = tuple[float, int, Any]


class Priorities:
    """The candidate with the highest priority: drawn once for each task, lowered a few times.

    Plain callbacks share one priority. A run starves most what it ranks last, and so reaches
    orders that a uniform draw at every step all but never does.
    """

    begins = 0.0

    def __init__(self, seed: int) -> None:
        draw = self._random = random.Random(seed)
        self._changes = {draw.randrange(PCT_HORIZON) for _ in range(PCT_DEMOTIONS)}
        self._plain = draw.random()
        self._priorities: dict[Any, float] = {}
        self._lowest = 0.0
        # Numbers, by arrival, of the steps at the front of the queue that are known here.
        self._numbers: deque[int] = deque()
        self._last = 0
        # The best of those if it is known, and the others; but for the ones in `_gone`.
        self._best: _Ranked | None = None
        self._others: list[_Ranked] = []
        self._gone: set[int] = set()
        # The task chosen last, which is above all the others known: when its next step is the
        # only one that came in since, it runs again, and no books are kept of it.
        self._top: Any = None
        self._top_priority = 0.0

    def choose(self, point: int, ready: Ready, steps: int, count: int) -> int:
        numbers = self._numbers
        if (
            steps == len(numbers) + 1
            and getattr(ready[steps - 1]._callback, "__self__", None) is self._top
            and (count == steps or self._plain <= self._top_priority)
            and point not in self._changes
        ):
            return steps - 1
        if len(numbers) < steps:
            self._add(ready, steps)
        best = self._best
        if best is None:
            best = self._best = self._next()
        if point in self._changes:
            _, number, task = best
            self._lowest -= 1.0
            self._priorities[task] = self._lowest
            heapq.heappush(self._others, (-self._lowest, number, task))
            best = self._best = self._next()
        if count > steps and self._plain > -best[0]:
            self._top = None
            return steps
        self._top, self._top_priority = best[2], -best[0]
        number = best[1]
        # As a rule it is the task that ran just now, and its step has come in last.
        return steps - 1 if number == numbers[-1] else bisect_left(numbers, number)

    def _add(self, ready: Ready, steps: int) -> None:
        numbers, best = self._numbers, self._best
        for place in range(len(numbers), steps):
            task = task_of(ready[place])
            priority = self._priorities.get(task)
            if priority is None:
                priority = self._priorities[task] = self._random.random()
            self._last = number = self._last + 1
            numbers.append(number)
            new = (-priority, number, task)
            others = self._others
            if best is None:
                if not others or new < others[0]:
                    best = new
                    continue
            elif new < best:
                best, new = new, best
            heapq.heappush(others, new)
        self._best = best

    def _next(self) -> "_Ranked":
        best = heapq.heappop(self._others)
        while best[1] in self._gone:
            self._gone.remove(best[1])
            best = heapq.heappop(self._others)
        return best

    def ran(self, rank: int) -> None:
        """The step at this place was taken, by whatever rule."""
        numbers = self._numbers
        if rank >= len(numbers):
            return  # it was the only candidate, and nothing was asked
        number = numbers[rank]
        del numbers[rank]
        if self._best is not None and self._best[1] == number:
            self._best = None
        else:
            self._gone.add(number)
