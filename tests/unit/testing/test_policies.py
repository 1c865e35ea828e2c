"""Policies one by one: which candidate each of them picks, and what counts as a task's step."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from aioconc.testing import Schedule
from aioconc.testing._policies import PCT_DEMOTIONS, is_step, policy_of
from aioconc.testing._ready import ReadyQueue
from tests.unit.testing.handles import Handles, handles

TASKS = 4


@pytest.fixture(scope="module")
def make() -> Iterator[Handles]:
    with handles(TASKS) as made:
        yield made


def run(
    make: Handles, schedule: str, *, steps: int, plain_before: Callable[[int], bool] | None = None
) -> str:
    """Names of what runs when each of four tasks, A to D, takes so many steps; `.` is plain."""
    queue = ReadyQueue(policy_of(Schedule.parse(schedule)))
    names: dict[int, str] = {}
    kept = []
    left = dict.fromkeys("ABCD", steps)

    def arrive(name: str) -> None:
        handle = make.plain() if name == "." else make.step("ABCD".index(name))
        kept.append(handle)
        names[id(handle)] = name
        queue.append(handle)

    for name in "ABCD":
        arrive(name)
    ran = ""
    while queue:
        name = names[id(queue.popleft())]
        ran += name
        if name == ".":
            continue
        left[name] -= 1
        if left[name]:
            if plain_before is not None and plain_before(len(ran)):
                arrive(".")
            arrive(name)
    return ran


def test_the_empty_schedule_takes_turns(make: Handles) -> None:
    """As asyncio does."""
    assert run(make, "fifo", steps=3) == "ABCDABCDABCD"


@pytest.mark.parametrize(
    ("schedule", "ran"),
    [
        ("d0", "BCDBCDBCDAAA"),
        ("d1", "ACDACDACDBBB"),
        ("d4", "ABCDBCDBCDAA"),
        # The one demoted last is the very last.
        ("d0,1", "BDBDBDAAACCC"),
        ("d0,1,2", "BDDDAAACCCBB"),
        # All of them: the one demoted first is first again, and nobody is left to be demoted.
        ("d0,1,2,3", "BDDAAACCCBBD"),
        ("d0,1,2,3,4,5", "BDDAAACCCBBD"),
    ],
)
def test_a_demoted_task_runs_while_no_other_can(make: Handles, schedule: str, ran: str) -> None:
    """For good, not for a step."""
    assert run(make, schedule, steps=3) == ran


def test_a_plain_callback_runs_before_a_demoted_task(make: Handles) -> None:
    """It is the last candidate, and comes before those that fell behind."""
    assert run(make, "d0", steps=2, plain_before=lambda ran: ran == 1) == "BCD.BCDAA"


@pytest.mark.parametrize(
    ("schedule", "ran"),
    [
        ("p0:1", "BACDBACD"),
        ("p0:3,1:1", "DBACDBAC"),
        ("p0:5", "BACDBACD"),  # 5 of 4 candidates: counted round
        ("p0:0", "ABCDABCD"),
    ],
)
def test_picks_run_the_given_candidates(make: Handles, schedule: str, ran: str) -> None:
    """And the usual one elsewhere."""
    assert run(make, schedule, steps=2) == ran


@pytest.mark.parametrize("kind", ["r", "pct"])
def test_a_seed_is_an_order(make: Handles, kind: str) -> None:
    """The same one each time, and another one for most other seeds."""
    orders = [run(make, f"{kind}{seed}", steps=4) for seed in range(20)]
    assert orders == [run(make, f"{kind}{seed}", steps=4) for seed in range(20)]
    assert len(set(orders)) > 10


def test_random_choices_are_uniform(make: Handles) -> None:
    """Each of four candidates runs first in about a quarter of the seeds."""
    first = Counter(run(make, f"r{seed}", steps=1)[0] for seed in range(400))
    assert all(60 <= first[name] <= 140 for name in "ABCD")


def test_priorities_let_one_task_run_until_they_change(make: Handles) -> None:
    """So a run has few switches: one for each task, and two for each lowered priority."""
    for seed in range(50):
        ran = run(make, f"pct{seed}", steps=10)
        switches = sum(one != other for one, other in pairwise(ran))
        assert switches <= TASKS - 1 + PCT_DEMOTIONS
        assert Counter(ran) == dict.fromkeys("ABCD", 10)


def test_priorities_are_lowered_in_some_runs(make: Handles) -> None:
    """A task is interrupted for good, and goes on after all the others."""
    interrupted = [
        ran
        for ran in (run(make, f"pct{seed}", steps=40) for seed in range(20))
        if sum(one != other for one, other in pairwise(ran)) > TASKS - 1
    ]
    assert interrupted


def test_priorities_place_plain_callbacks_anywhere(make: Handles) -> None:
    """They share one priority: before all waiting steps in some runs, after them in others."""
    places = {
        run(make, f"pct{seed}", steps=2, plain_before=lambda ran: ran == 1).index(".")
        for seed in range(40)
    }
    assert len(places) > 2


# -- what is a step -------------------------------------------------------------------------------


def test_first_step_and_wake_up_of_a_task_are_steps() -> None:
    """Those of the interpreter's own tasks."""
    with handles(2) as make:
        assert is_step(make.step(0))
        assert is_step(make.step(1))
        assert not is_step(make.plain())


def test_what_is_bound_to_a_task_and_does_not_run_it_is_no_step() -> None:
    """`call_soon(task.cancel)` keeps its place, and so does a handle that was cancelled."""

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(asyncio.sleep(0))
        cancel = loop.call_soon(task.cancel)
        cancelled = loop.call_soon(task.cancel)
        cancelled.cancel()
        await asyncio.wait([task])
        return [is_step(cancel), is_step(cancelled)]

    assert asyncio.run(main()) == [False, False]


def test_steps_of_tasks_written_in_python_are_steps() -> None:
    """As some debuggers and task factories use them."""
    kind: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
    seen: list[bool] = []

    class Loop(asyncio.SelectorEventLoop):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
            handle = super().call_soon(callback, *args, context=context)
            if getattr(callback, "__self__", None) is task:
                seen.append(is_step(handle))
            return handle

    loop = Loop()
    task: Any = loop  # until there is one

    async def waits() -> None:
        await asyncio.sleep(0)
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future

    try:
        task = kind(waits(), loop=loop)
        loop.run_until_complete(task)
    finally:
        loop.close()
    assert seen == [True, True]
