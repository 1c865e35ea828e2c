"""`explore`: what counts as a failure, what is run, and what is said about it."""

import asyncio
import gc
import itertools
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aioconc.errors import DeadlockError, ScheduleFailure
from aioconc.testing import Schedule, _explore, explore
from aioconc.testing._simulate import simulate

Program = Callable[[], Coroutine[Any, Any, object]]


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def racy() -> None:
    """Fails where the first task is delayed past the second's three steps."""
    log: list[str] = []

    async def write(name: str, late: int) -> None:
        await steps(late)
        log.append(name)

    await asyncio.gather(write("a", 1), write("b", 3))
    assert log == ["a", "b"]


def failure_of(program: Program, **options: Any) -> ScheduleFailure:
    with pytest.raises(ScheduleFailure) as failed:
        explore(program, **options)
    return failed.value


# -- what is a failure ------------------------------------------------------------------------------


def test_the_failure_has_the_schedule_the_steps_and_the_line_that_replays_it() -> None:
    """And the program's own exception as its cause."""
    failure = failure_of(racy)
    text = str(failure)
    assert text.startswith("racy fails under schedule d")
    assert isinstance(failure.__cause__, AssertionError)
    assert f'replay: explore(racy, schedule=Schedule.parse("{failure.schedule}"))' in text
    assert re.search(r"> write #\d  line \d+ of steps: await asyncio.sleep\(0\)", text)


def test_an_error_told_to_the_loop_is_a_failure() -> None:
    """A callback that raises fails nobody's await, and asyncio only logs it."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await steps(2)

    failure = failure_of(main)
    assert isinstance(failure.__cause__, ZeroDivisionError)
    assert "reported by the event loop: Exception in callback" in failure.__cause__.__notes__[0]


def test_a_report_without_an_exception_is_a_failure_that_says_it() -> None:
    """Such as an unclosed transport."""

    async def main() -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "something is odd"})

    assert "the event loop reported: something is odd" in str(failure_of(main).__cause__)


def test_an_exception_never_retrieved_is_a_failure() -> None:
    """Of a task that nobody awaits, as soon as it is collected."""

    async def fails() -> None:
        raise LookupError("nobody asks")

    async def main() -> None:
        task = asyncio.create_task(fails())
        await steps(2)
        del task

    assert isinstance(failure_of(main).__cause__, LookupError)


def test_an_exception_never_retrieved_is_found_in_garbage_of_a_closed_loop() -> None:
    """A task in a cycle is reported late; its schedule is named, and nothing else is claimed."""

    async def fails() -> None:
        raise LookupError("nobody asks")

    async def main() -> None:
        task: Any = asyncio.create_task(fails())
        cycle: list[Any] = [task]
        cycle.append(cycle)
        await steps(2)

    gc.disable()
    try:
        failure = failure_of(main, budget=5)
        again = failure_of(main, schedule=Schedule.parse(failure.schedule))
    finally:
        gc.enable()
    assert isinstance(failure.__cause__, LookupError)
    assert isinstance(again.__cause__, LookupError)
    assert "(run" not in str(failure)


def test_a_task_that_fails_while_it_is_cancelled_at_the_end_is_a_failure() -> None:
    """As with `asyncio.run`, what a run leaves is cancelled; its clean-up is part of the program."""

    async def breaks() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            raise OSError("clean-up")

    async def main() -> None:
        task = asyncio.create_task(breaks())
        await steps(1)
        assert not task.done()

    failure = failure_of(main, schedule=Schedule())
    assert isinstance(failure.__cause__, OSError)


def test_a_task_that_never_ends_its_clean_up_is_a_failure() -> None:
    """A deadlock after the main coroutine is one as well."""

    async def hangs() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        task = asyncio.create_task(hangs())
        await steps(1)
        assert not task.done()

    assert isinstance(failure_of(main, schedule=Schedule()).__cause__, DeadlockError)


def test_a_cancelled_program_is_a_failure() -> None:
    """Cancellation that comes out is no success."""

    async def main() -> None:
        raise asyncio.CancelledError

    assert isinstance(failure_of(main).__cause__, asyncio.CancelledError)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_the_exploration(stop: type[BaseException]) -> None:
    """It is nobody's finding."""

    async def main() -> None:
        raise stop

    with pytest.raises(stop):
        explore(main)


def test_async_generators_are_closed_before_the_next_run() -> None:
    """Their clean-up runs in the loop of their run, and may await."""
    closed = 0

    async def numbers() -> Any:
        nonlocal closed
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)
            closed += 1

    async def main() -> None:
        generator = numbers()
        await anext(generator)
        main_generators.append(generator)

    main_generators: list[Any] = []
    assert explore(main).schedules == closed == len(main_generators)


# -- what depends on more than its order --------------------------------------------------------------


def test_a_program_that_fails_once_is_reported_as_such() -> None:
    """No schedule is claimed to be the reason."""
    runs = itertools.count()

    async def main() -> None:
        await asyncio.gather(steps(2), steps(2))
        assert next(runs) != 5

    text = str(failure_of(main))
    assert "but not when it was run again" in text
    assert "depends on more than its order" in text


# -- what is run --------------------------------------------------------------------------------------


def traces_of(traces: set[str]) -> Program:
    """Three tasks of a few steps, whose order is written down."""

    async def main() -> None:
        trace = ""

        async def work(name: str, count: int) -> None:
            nonlocal trace
            for _ in range(count):
                trace += name
                await asyncio.sleep(0)

        await asyncio.gather(work("a", 2), work("b", 3), work("c", 2))
        traces.add(trace)

    return main


@pytest.mark.parametrize("bound", [0, 1, 2, 3])
def test_exhausted_at_a_bound_means_every_placement(
    bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by brute force over all choice points, without any of the search's short cuts."""
    monkeypatch.setattr(_explore._Search, "_draw", lambda self: None)
    found: set[str] = set()
    explored = explore(traces_of(found), bound=bound, budget=20_000)
    assert explored.exhausted == bound

    every: set[str] = set()
    program = traces_of(every)
    most = explored.points + 4
    for count in range(bound + 1):
        for points in itertools.combinations(range(most), count):
            run = simulate(
                program, Schedule(demotions=points), reorder="tasks", max_steps=None, late=[]
            )
            assert run.points <= most
            assert run.error is None
    assert found == every
    assert explored.orders >= len(every)


def test_a_budget_that_is_too_small_for_a_bound_does_not_claim_it() -> None:
    """What is run then is a sample, spread over all placements."""
    seen: set[str] = set()
    explored = explore(traces_of(seen), budget=20, bound=3)
    assert explored.schedules == 20
    assert explored.exhausted < 2


@pytest.mark.parametrize("budget", [1, 2, 7, 50])
def test_budget_is_the_number_of_schedules(budget: int) -> None:
    """No run is made beyond it."""
    runs = 0

    async def main() -> None:
        nonlocal runs
        runs += 1
        await asyncio.gather(*(steps(4) for _ in range(4)))

    assert explore(main, budget=budget).schedules == budget == runs


def test_what_has_no_choices_is_run_once() -> None:
    """And every placement of no choice has been tried."""
    explored = explore(lambda: asyncio.sleep(1))
    assert (explored.schedules, explored.points, explored.exhausted) == (1, 0, 2)


def test_an_exploration_ends_when_nothing_new_comes() -> None:
    """Two tasks of one step have few orders; the rest of the budget is not spent."""

    async def main() -> None:
        await asyncio.gather(steps(1), steps(1))

    explored = explore(main, budget=100_000)
    assert explored.schedules < 1_000


def test_a_schedule_that_is_given_is_run_alone() -> None:
    """Once."""
    runs = 0

    async def main() -> None:
        nonlocal runs
        runs += 1
        await asyncio.gather(steps(2), steps(2))

    explored = explore(main, schedule=Schedule.parse("d1"))
    assert explored.schedules == runs == 1


def test_a_seed_is_an_exploration() -> None:
    """The same runs in the same order; another seed, other random ones; None is a seed of its own."""

    def orders(seed: int | None) -> list[str]:
        every: list[str] = []

        async def main() -> None:
            trace = ""

            async def work(name: str) -> None:
                nonlocal trace
                for _ in range(3):
                    trace += name
                    await asyncio.sleep(0)

            await asyncio.gather(*map(work, "abcd"))
            every.append(trace)

        assert explore(main, seed=seed, budget=60).seed == (seed or 0)
        return every

    assert orders(7) == orders(7)
    assert orders(None) == orders(None)
    assert orders(7) != orders(8)


def test_external_reorders_timers_for_the_same_moment_and_no_tasks() -> None:
    """A program may rely on the order of its tasks and not on that of its timers."""

    async def tasks() -> None:
        order: list[int] = []

        async def note(number: int) -> None:
            order.append(number)

        await asyncio.gather(*map(note, range(5)))
        assert order == sorted(order)

    async def timers() -> None:
        order: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(2):
            loop.call_at(1.0, order.append, number)
        await asyncio.sleep(2)
        assert order == sorted(order)

    assert explore(tasks, reorder="external").orders == 1
    assert explore(timers).orders == 1
    failure = failure_of(timers, reorder="external")
    assert failure.schedule == "d0"
    assert "a timer: list.append" in str(failure)


def test_the_result_says_what_it_is_and_is_not() -> None:
    """In one line."""
    assert str(explore(lambda: asyncio.sleep(1), bound=1)) == (
        "no failure in 1 schedules (1 different orders, 0 choice points); "
        "exhausted at bound 1: a bounded result, not a proof"
    )


# -- slips --------------------------------------------------------------------------------------------


def test_a_coroutine_is_refused_with_the_right_line() -> None:
    """It would run only once."""
    with pytest.raises(TypeError, match=r"did you mean explore\(racy\) without calling it\?"):
        explore(racy())  # type: ignore[arg-type]


def test_what_is_not_callable_is_refused() -> None:
    """By name."""
    with pytest.raises(TypeError, match=r"explore expected an async function.*got 3"):
        explore(3)  # type: ignore[arg-type]


def test_a_plain_function_is_refused_and_is_no_failure() -> None:
    """It forgot its `async`, or the return of the coroutine."""

    def plain() -> None:
        pass

    with pytest.raises(TypeError, match=r"expected an async function.*plain.*no coroutine"):
        explore(plain)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"budget": 0}, ValueError, "budget must be an int >= 1, got 0"),
        ({"budget": 1.5}, TypeError, "budget"),
        ({"bound": -1}, ValueError, "bound must be an int >= 0"),
        ({"max_steps": 0}, ValueError, "max_steps"),
        ({"seed": -1}, ValueError, "seed"),
        ({"reorder": "all"}, ValueError, "reorder must be one of 'tasks', 'external'"),
        ({"schedule": "d2"}, TypeError, r"did you mean Schedule.parse\('d2'\)"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_runs(
    options: Any, error: type[Exception], text: str
) -> None:
    """The value and the rule are named."""

    async def main() -> None:
        raise AssertionError("must not run")

    with pytest.raises(error, match=text):
        explore(main, **options)


async def test_explore_inside_a_loop_is_refused() -> None:
    """It runs loops of its own, which cannot be nested."""
    with pytest.raises(RuntimeError, match="call it from a plain function, not from a coroutine"):
        explore(racy)
