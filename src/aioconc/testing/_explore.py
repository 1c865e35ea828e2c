"""`explore`: run a program under many orders of its tasks, and keep the smallest that breaks it.

The usual order comes first, then demotions by rising number, which find most bugs within a few
runs, then random choices and random priorities for the rest of the budget. What may be reordered
is decided in `_ready`, so a failure is a failure that asyncio's documentation allows.
"""

import gc
import random
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from aioconc._internal._check import check_choice, check_count
from aioconc.errors import ScheduleFailure
from aioconc.testing._loop import check_schedules_work
from aioconc.testing._owners import record_owners
from aioconc.testing._policies import Reorder
from aioconc.testing._schedule import Schedule, check_schedule
from aioconc.testing._shrink import shrink
from aioconc.testing._simulate import Run, check_program, error_of_report, simulate
from aioconc.testing._trace import Trace

# What a call gets that gives no budget; the pytest option `--aioconc-budget` sets it for a run.
default_budget = 500

# Random runs that showed no new order, after which there hardly is one.
_SATURATED: Final = 100

# Runs that shrinking may take beside the budget.
_SHRINK_RUNS: Final = 200


@dataclass(frozen=True)
class Exploration:
    """What was explored without a failure.

    Attributes:
        schedules: how many schedules ran.
        orders: how many different orders of steps they made.
        points: choice points of the usual order.
        exhausted: the largest number of demotions of which every placement was run; -1 where not
            even the usual order was reached by the search.
        seed: what the random part was drawn from.
    """

    schedules: int
    orders: int
    points: int
    exhausted: int
    seed: int

    def __str__(self) -> str:
        return (
            f"no failure in {self.schedules} schedules ({self.orders} different orders, "
            f"{self.points} choice points); exhausted at bound {self.exhausted}: "
            "a bounded result, not a proof"
        )


def explore(
    fn: Callable[[], Coroutine[Any, Any, object]],
    *,
    budget: int | None = None,
    bound: int = 2,
    seed: int | None = None,
    reorder: Reorder = "tasks",
    max_steps: int = 20_000,
    schedule: Schedule | None = None,
) -> Exploration:
    """Run `fn()` under many schedules; raise at the first that makes it fail.

    Equals calling `asyncio.run(fn())` again and again, in virtual time, with the steps of the
    tasks in another legal order each time. A run fails when `fn` raises, when nothing can go on
    (deadlock, livelock), or when the loop's exception handler is told of an error.

    Args:
        fn: async function without arguments; makes everything that it works on anew.
        budget: most schedules, int >= 1. A program of fifteen steps takes about 0.3 ms each.
            None: 500, or what the pytest option `--aioconc-budget` says.
        bound: most demotions in the systematic part, int >= 0.
        seed: int; of the random part. None: 0, so that every run of a test tries the same.
        reorder: "tasks": a task's step may be delayed, plain callbacks keep their order.
            "external": tasks keep their order; timers for the same moment and calls from different
            threads do not.
        max_steps: callbacks, int >= 1, without any progress of time after which it is a livelock.
        schedule: run this one alone, as printed in a failure.

    Returns:
        What was explored. "Exhausted at bound 2" says that every order with two demotions passed;
        it is no proof.

    Raises:
        ScheduleFailure: a schedule failed. Its text has the smallest such schedule found and the
            steps around it; its cause is the program's own exception.
        RuntimeError: called inside a running loop, or schedules do not work on this interpreter.
        TypeError, ValueError: an argument is out of range.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
        >>> explore(main).exhausted
        2
    """
    check_program("explore", fn)
    budget = default_budget if budget is None else check_count("budget", budget)
    check_count("bound", bound, least=0)
    check_count("max_steps", max_steps)
    check_choice("reorder", reorder, ("tasks", "external"))
    check_schedule(schedule)
    seed = 0 if seed is None else check_count("seed", seed, least=0)
    check_schedules_work()
    search = _Search(fn, budget=budget, bound=bound, seed=seed, reorder=reorder, steps=max_steps)
    with record_owners():
        return search.run_one(schedule) if schedule is not None else search.run_all()


class _Search:
    def __init__(
        self,
        fn: Callable[[], Coroutine[Any, Any, object]],
        *,
        budget: int,
        bound: int,
        seed: int,
        reorder: Reorder,
        steps: int,
    ) -> None:
        self._fn = fn
        self._budget = budget
        self._bound = bound
        self._seed = seed
        self._reorder: Reorder = reorder
        self._steps = steps
        self._runs = 0
        self._orders: set[tuple[tuple[int, int], ...]] = set()
        self._exhausted = -1
        # Whether the placements being tried are all there are.
        self._complete = True
        # What loops that are closed were told: exceptions of tasks that were collected late.
        self._late: list[tuple[Schedule, dict[str, Any]]] = []

    def run_one(self, schedule: Schedule) -> Exploration:
        run = self._run(schedule, shrinks=False)
        self._check_late_reports()
        return self._result(run.points)

    def run_all(self) -> Exploration:
        usual = self._run(Schedule())
        self._exhausted = 0 if usual.points else self._bound
        if usual.points:
            self._demote(usual)
            self._draw()
        self._check_late_reports()
        return self._result(usual.points)

    def _result(self, points: int) -> Exploration:
        return Exploration(
            schedules=self._runs,
            orders=len(self._orders),
            points=points,
            exhausted=self._exhausted,
            seed=self._seed,
        )

    # -- the search -------------------------------------------------------------------------------

    def _demote(self, usual: Run) -> None:
        """Every placement of 1, 2, ... demotions, as far as half of the budget goes."""
        most = 1 + self._budget // 2
        # Demotions that made a new order, and how many choice points that run had.
        bases: list[tuple[tuple[int, ...], int]] = [((), usual.points)]
        for bound in range(1, self._bound + 1):
            longer = []
            for points, at in self._placements(bases, most - self._runs):
                if self._runs >= most:
                    return
                before = len(self._orders)
                run = self._run(Schedule(demotions=(*points, at)))
                if len(self._orders) > before:
                    longer.append(((*points, at), run.points))
            if not self._complete:
                return
            self._exhausted = bound
            bases = longer

    def _placements(
        self, bases: list[tuple[tuple[int, ...], int]], quota: int
    ) -> Iterator[tuple[tuple[int, ...], int]]:
        """Where one more demotion may be put; a sample of them if they are more than `quota`."""
        ranges = [(points, points[-1] + 1 if points else 0, count) for points, count in bases]
        total = sum(max(0, count - first) for _, first, count in ranges)
        self._complete = total <= quota
        if self._complete:
            for points, first, count in ranges:
                for at in range(first, count):
                    yield points, at
            return
        draw = random.Random(self._seed)
        chosen = sorted(draw.sample(range(total), max(0, quota)))
        draw.shuffle(chosen)
        starts = []
        start = 0
        for _, first, count in ranges:
            starts.append(start)
            start += max(0, count - first)
        for number in chosen:
            which = bisect_right(starts, number) - 1
            points, first, _ = ranges[which]
            yield points, first + number - starts[which]

    def _draw(self) -> None:
        """Random choices and random priorities in turn, for the rest of the budget."""
        seeds = random.Random(self._seed)
        stale = 0
        while self._runs < self._budget and stale < _SATURATED:
            before = len(self._orders)
            number = seeds.randrange(2**32)
            odd = self._runs & 1
            self._run(Schedule(random=number) if odd else Schedule(pct=number))
            stale = 0 if len(self._orders) > before else stale + 1

    # -- one run ----------------------------------------------------------------------------------

    def _simulate(self, schedule: Schedule, trace: Trace | None = None) -> Run:
        return simulate(
            self._fn,
            schedule,
            reorder=self._reorder,
            max_steps=self._steps,
            late=self._late,
            watch=None if trace is None else trace.watch,
        )

    def _run(self, schedule: Schedule, *, shrinks: bool = True) -> Run:
        run = self._simulate(schedule)
        self._runs += 1
        if run.error is not None:
            self._fail(run, shrinks=shrinks)
        if self._late:
            self._raise_late_report()
            self._late.clear()
        self._orders.add(run.deviations)
        return run

    def _fail(self, run: Run, *, shrinks: bool) -> None:
        found = run.schedule
        kind = type(run.error)

        def fails(schedule: Schedule) -> bool:
            again = self._simulate(schedule)
            return type(again.error) is kind

        smallest = shrink(run, fails, most=_SHRINK_RUNS) if shrinks else found
        trace = Trace()
        last = self._simulate(smallest, trace)
        replays = type(last.error) is kind
        self._raise(last.error if replays else run.error, smallest, found, trace, replays=replays)

    def _check_late_reports(self) -> None:
        """Exceptions that nobody retrieved are reported when their task is collected."""
        gc.collect()
        self._raise_late_report()

    def _raise_late_report(self) -> None:
        for schedule, context in self._late:
            if (error := error_of_report(context)) is not None:
                self._raise(error, schedule, schedule, None, replays=True)

    def _raise(
        self,
        error: BaseException | None,
        smallest: Schedule,
        found: Schedule,
        trace: Trace | None,
        *,
        replays: bool,
    ) -> NoReturn:
        name = getattr(self._fn, "__qualname__", repr(self._fn))
        if replays:
            # A late report has no trace, and came who knows how many runs later.
            notes = [] if trace is None else [f"run {self._runs}"]
            if found != smallest:
                notes.append(f"found as {found}")
            lines = [f"{name} fails under schedule {smallest}"]
            if notes:
                lines[0] += f" ({', '.join(notes)})"
        else:
            lines = [f"{name} failed under schedule {found}, but not when it was run again:"]
            lines.append("it depends on more than its order (sets of objects, threads, real time)")
            smallest = found
        lines.append(f"{type(error).__name__}: {error}")
        if trace is not None and (steps := str(trace)):
            lines.append(f"choices made (> overtook others):\n{steps}")
        lines.append(f'replay: explore({name}, schedule=Schedule.parse("{smallest}"))')
        failure = ScheduleFailure("\n".join(lines), schedule=str(smallest))
        try:
            raise failure from error
        finally:
            del failure, error, trace
