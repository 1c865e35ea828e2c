"""Which of several candidates runs next: the algorithms behind a `Schedule`.

A policy is asked at each choice point and answers with a candidate's place in the order of
arrival; 0 is what asyncio would run. It sees task steps only: a plain callback is a candidate
too, always the last one, and has no task. What is a candidate at all is decided in `_ready`.
"""

import heapq
import random
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol

from aioconc.testing._schedule import Schedule

# A candidate that was passed over so often runs next, whatever the policy says: else a task that
# polls starves the one that it polls for, and the schedule shows what no fair loop would do.
# 200 is where random priorities raised no false alarm over busy waits in a hundred seeds.
FAIRNESS: Final = 200

# Most demotions in a schedule of random priorities, and the steps among which they are drawn.
PCT_DEMOTIONS: Final = 2
PCT_HORIZON: Final = 200

Steps = deque[Any]  # handles of task steps, in order of arrival


class Policy(Protocol):
    """Answers at each choice point."""

    def choose(self, point: int, steps: Steps, count: int) -> int:
        """The candidate that runs.

        Args:
            point: number of this choice point, from 0.
            steps: the task steps among the candidates; never empty.
            count: number of candidates, >= 2; one more than `steps` if a plain callback is one.
        """
        ...


def policy_of(schedule: Schedule) -> Policy:
    """The policy that makes a run follow `schedule`."""
    if schedule.picks:
        return Picks(schedule.picks)
    if schedule.random is not None:
        return Random(schedule.random)
    if schedule.pct is not None:
        return Priorities(schedule.pct)
    return Demotions(schedule.demotions)


def task_of(handle: Any) -> Any:
    """The task whose step `handle` is; the handle itself if it is no task's."""
    return getattr(handle._callback, "__self__", handle)


class Demotions:
    """The usual order, but for tasks that fall behind at the given points."""

    def __init__(self, points: Sequence[int]) -> None:
        self._points = frozenset(points)
        # Task -> how far down: the one demoted last is the very last.
        self._demoted: dict[Any, int] = {}

    def choose(self, point: int, steps: Steps, count: int) -> int:
        demoted = self._demoted
        if not demoted and point not in self._points:
            return 0
        rank = self._first(steps)
        if point in self._points and rank < len(steps):
            demoted[task_of(steps[rank])] = len(demoted)
            rank = self._first(steps)
        if rank < count:
            return rank
        # Demoted ones only: the one that is least far down.
        return min(range(len(steps)), key=lambda each: demoted[task_of(steps[each])])

    def _first(self, steps: Steps) -> int:
        """Place of the first step that was not demoted; the plain callback comes after them."""
        demoted = self._demoted
        for rank, handle in enumerate(steps):
            if task_of(handle) not in demoted:
                return rank
        return len(steps)


class Picks:
    """The usual order, but for the given candidates at the given points."""

    def __init__(self, picks: Sequence[tuple[int, int]]) -> None:
        self._picks = dict(picks)

    def choose(self, point: int, steps: Steps, count: int) -> int:
        # Taken from another run, or shrunk: there may be fewer candidates here.
        return self._picks.get(point, 0) % count


class Random:
    """Any candidate, each as likely."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def choose(self, point: int, steps: Steps, count: int) -> int:
        return int(self._random() * count)


class Priorities:
    """The candidate with the highest priority: drawn once for each task, lowered a few times.

    Plain callbacks share one priority. A run starves most what it ranks last, and so reaches
    orders that a uniform draw at every step all but never does.
    """

    def __init__(self, seed: int) -> None:
        draw = self._random = random.Random(seed)
        self._changes = {draw.randrange(PCT_HORIZON) for _ in range(PCT_DEMOTIONS)}
        self._plain = draw.random()
        self._priorities: dict[Any, float] = {}
        self._lowest = 0.0
        # Steps seen -> their handles by priority; those that have run are thrown out when met.
        self._heap: list[tuple[float, int, Any]] = []
        self._known: set[Any] = set()
        self._count = 0

    def choose(self, point: int, steps: Steps, count: int) -> int:
        best = self._best(steps)
        if point in self._changes:
            self._lowest -= 1.0
            self._priorities[task_of(best)] = self._lowest
            self._rebuild(steps)
            best = self._best(steps)
        if count > len(steps) and self._plain > self._priorities[task_of(best)]:
            return len(steps)
        return steps.index(best)

    def _best(self, steps: Steps) -> Any:
        # New steps are at the end: look from there until a known one comes.
        known = self._known
        for handle in reversed(steps):
            if handle in known:
                break
            self._add(handle)
        heap = self._heap
        while heap[0][2] not in known:
            heapq.heappop(heap)
        return heap[0][2]

    def _add(self, handle: Any) -> None:
        task = task_of(handle)
        priority = self._priorities.get(task)
        if priority is None:
            priority = self._priorities[task] = self._random.random()
        self._count += 1
        heapq.heappush(self._heap, (-priority, self._count, handle))
        self._known.add(handle)

    def _rebuild(self, steps: Steps) -> None:
        self._heap.clear()
        self._known.clear()
        for handle in steps:
            self._add(handle)

    def ran(self, handle: Any) -> None:
        """This step was taken, by whatever rule."""
        self._known.discard(handle)
