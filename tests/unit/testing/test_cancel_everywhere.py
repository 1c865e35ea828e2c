"""`cancel_everywhere`: where it cancels, and what it calls wrong."""

import asyncio
import contextlib
import pickle
import re
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from aioconc import gather_limited
from aioconc.errors import CancelFailure, DeadlockError, TaskCancelled
from aioconc.testing import (
    CancelPoint,
    CancelReport,
    Schedule,
    cancel_everywhere,
    loop_factory,
)
from tests.conftest import loop_variants

Program = Callable[[], Coroutine[Any, Any, object]]
Loop = asyncio.AbstractEventLoop

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")


def failure(program: Program, **options: Any) -> CancelReport:
    """The report of a sweep that fails."""
    with pytest.raises(CancelFailure) as raised:
        cancel_everywhere(program, **options)
    report = raised.value.report
    assert isinstance(report, CancelReport)
    return report


def at(points: tuple[CancelPoint, ...]) -> list[tuple[int, str]]:
    return [(each.k, each.phase) for each in points]


async def two_sleeps() -> None:
    await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)


# -- where ------------------------------------------------------------------------------------


def test_every_suspension_in_both_phases() -> None:
    """The root is cancelled before its first step, and twice at each of its suspensions."""
    report = cancel_everywhere(two_sleeps)
    assert report.suspensions == 2
    assert at(report.points) == [
        (0, "start"),
        (1, "suspended"),
        (1, "ready"),
        (2, "suspended"),
        (2, "ready"),
    ]
    assert {each.outcome for each in report.points} == {"cancelled"}
    assert {each.task for each in report.points} == {"root"}


@pytest.mark.parametrize("new_loop", loop_variants().values(), ids=loop_variants())
def test_same_points_on_every_loop(new_loop: Callable[[], Loop]) -> None:
    """Real loops, eager or not, give the points of the simulated one."""
    assert cancel_everywhere(two_sleeps, loop_factory=new_loop) == cancel_everywhere(two_sleeps)


def test_suspended_and_ready_differ_in_what_has_happened() -> None:
    """Cancelled while suspended, what it waits for has not happened; cancelled ready, it has."""
    seen: list[tuple[bool, bool]] = []

    async def program() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1, lambda: future.done() or future.set_result(1))
        try:
            await future
        except asyncio.CancelledError:
            seen.append((future.cancelled(), future.done()))
            raise

    report = cancel_everywhere(program)
    assert at(report.points)[1:] == [(1, "suspended"), (1, "ready")]
    assert seen == [(True, True), (False, True)]


def test_bare_yield_is_only_ready() -> None:
    """What only asks to be called again has nothing that could be pending."""
    report = cancel_everywhere(lambda: asyncio.sleep(0))
    assert at(report.points) == [(0, "start"), (1, "ready")]


def test_phases_narrow_the_sweep() -> None:
    """Of the two phases, those that are asked for."""
    report = cancel_everywhere(two_sleeps, phases=["ready"])
    assert at(report.points) == [(0, "start"), (1, "ready"), (2, "ready")]


def test_site_is_the_await_in_the_users_code() -> None:
    """A point names the innermost line of the program, with its source."""

    async def inner() -> None:
        await asyncio.sleep(1)  # here

    async def program() -> None:
        async with asyncio.timeout(5):
            await inner()

    point = cancel_everywhere(program).points[1]
    assert re.search(r"test_cancel_everywhere\.py:\d+ in .*inner$", point.site)
    assert point.source == "await asyncio.sleep(1)  # here"


def test_start_is_before_the_first_line() -> None:
    """A task that is cancelled before its first step never runs."""
    runs: list[str] = []

    async def program() -> None:
        runs.append("began")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    (start, ready) = cancel_everywhere(program).points
    assert (start.phase, start.outcome) == ("start", "cancelled")
    assert ready.outcome == "swallowed"
    # Twice undisturbed, once after the cancel at the start, twice for the other point.
    assert len(runs) == 2 + 1 + 2


def test_children_are_cancelled_one_at_a_time() -> None:
    """Every task but the root is a target, and each suspension of each is a point."""

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(two_sleeps(), name="a")
            group.create_task(two_sleeps())

    report = cancel_everywhere(program, target="children")
    assert report.suspensions == 4
    assert len(report.points) == 2 + 2 * 4
    assert {each.task for each in report.points} == {"a", "two_sleeps #2"}


@eager
def test_eager_child_has_no_start() -> None:
    """A task that takes its first step at once cannot be cancelled before it."""

    def new_loop() -> Loop:
        loop = loop_factory()()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        return loop

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(two_sleeps())

    report = cancel_everywhere(program, target="children", loop_factory=new_loop)
    assert [each.phase for each in report.points] == ["suspended", "ready"] * 2


def test_function_of_a_task_chooses_targets() -> None:
    """Those tasks are cancelled for which it is true, the root among them if it is meant."""

    async def program() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(two_sleeps(), name="a")
            group.create_task(two_sleeps(), name="b")

    report = cancel_everywhere(program, target=lambda task: task.get_name() == "b")
    assert {each.task for each in report.points} == {"b"}
    assert len(report.points) == 5
    everyone = cancel_everywhere(program, target=lambda task: True)
    assert {each.task for each in everyone.points} == {"root", "a", "b"}


def test_schedule_orders_the_steps() -> None:
    """A sweep is for one order of steps: under another one it can find something else."""

    async def program() -> None:
        gate = asyncio.Event()

        async def opens() -> None:
            await asyncio.sleep(0)
            gate.set()

        async def asks() -> None:
            await asyncio.sleep(0)
            if not gate.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await gate.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(opens())
            group.create_task(asks(), name="asks")

    def asks(task: Any) -> bool:
        return bool(task.get_name() == "asks")

    assert not cancel_everywhere(program, target=asks).swallowed
    assert cancel_everywhere(program, target=asks, schedule=Schedule(demotions=(0,))).swallowed


# -- what is wrong ----------------------------------------------------------------------------


def test_task_left_behind() -> None:
    """A task that outlives the root is named, with where it is."""

    async def program() -> None:
        task = asyncio.create_task(two_sleeps(), name="left")
        await asyncio.wait([task])

    report = failure(program)
    assert at(report.failures) == [(1, "suspended")]
    (problem,) = report.failures[0].problems
    assert problem.startswith("leaves task 'left' (two_sleeps) at ")
    assert "in two_sleeps" in problem


def test_task_left_behind_a_shield() -> None:
    """What `asyncio.shield` kept from the cancel runs on with nobody to wait for it, and is named."""

    async def program() -> None:
        await asyncio.shield(asyncio.ensure_future(two_sleeps()))

    (point,) = failure(program).failures
    assert (point.k, point.phase) == (1, "suspended")
    assert "which asyncio.shield kept from the cancel" in point.problems[0]


@pytest.mark.parametrize("new_loop", loop_variants().values(), ids=loop_variants())
def test_async_generator_left_unfinished(new_loop: Callable[[], Loop]) -> None:
    """An async generator that was begun and not closed is a finding on each loop."""
    kept: list[Any] = []

    async def numbers() -> Any:
        yield 1
        yield 2

    async def program() -> None:
        generator = numbers()
        kept.append(generator)
        await anext(generator)
        await asyncio.sleep(0)
        await generator.aclose()

    (point,) = failure(program, loop_factory=new_loop).failures
    assert "numbers unfinished" in point.problems[0]


def test_report_of_the_loop() -> None:
    """What the loop's exception handler is told is a finding."""

    async def program() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, 1)  # somebody may have cancelled it by then
        await future

    (point,) = failure(program).failures
    assert point.phase == "suspended"
    assert "the event loop reported" in point.problems[0]
    assert "InvalidStateError" in point.problems[0]


def test_exception_that_nobody_retrieves() -> None:
    """A failure that is lost with its task is found when the garbage is collected."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise OSError("lost")

    async def program() -> None:
        task = asyncio.ensure_future(fail())
        task.circle = task  # type: ignore[attr-defined]  # as tracebacks often make one
        await asyncio.sleep(1)
        with contextlib.suppress(OSError):
            await task

    report = failure(program, phases=["ready"])
    problems = [problem for each in report.failures for problem in each.problems]
    assert any("never retrieved: OSError: lost" in problem for problem in problems), problems


def test_wrong_exception_of_the_root() -> None:
    """A root that answers its cancel with another exception is a finding."""

    async def program() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            raise KeyError("clean-up") from None

    report = failure(program)
    assert at(report.failures) == [(1, "suspended"), (1, "ready")]
    assert {each.outcome for each in report.failures} == {"raised"}
    assert report.failures[0].problems == (
        "raised KeyError: 'clean-up', in place of the cancellation",
    )


def test_exception_that_is_also_raised_undisturbed() -> None:
    """What the program raises in any case, alone or in a group, it may raise when cancelled."""

    async def program() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            raise ExceptionGroup("both", [OSError("cancelled")]) from None
        raise OSError("undisturbed")

    report = cancel_everywhere(program)
    assert [each.outcome for each in report.points] == ["cancelled", "swallowed", "swallowed"]


def test_deadlock_after_a_cancel() -> None:
    """A run that does not end is a finding, with what waits for what."""

    async def program() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    with pytest.raises(CancelFailure) as raised:
        cancel_everywhere(program)
    points = raised.value.report.failures
    assert {each.outcome for each in points} == {"hung"}
    assert points[0].problems[0].startswith("does not end: deadlock")
    assert "Event" in points[0].problems[0]
    assert isinstance(raised.value.__cause__, DeadlockError)


def test_deadlock_with_clean_up() -> None:
    """What hangs is cancelled at the end, and has the time that its clean-up takes."""
    cleaned: list[int] = []

    async def program() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(1)
                cleaned.append(1)

    report = failure(program)
    assert len(cleaned) == len(report.failures) == 2


def test_livelock_after_a_cancel() -> None:
    """A run that spins without time passing is a finding too."""

    async def program() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            while True:
                await asyncio.sleep(0)

    def new_loop() -> Loop:
        return loop_factory(max_steps=100)()

    report = failure(program, phases=["ready"], loop_factory=new_loop)
    assert report.failures[0].problems[0].startswith("does not end: livelock")


def test_hang_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loop in real time a run has a limit, and the first that reaches it ends the sweep."""
    monkeypatch.setattr("aioconc.testing._cancel_trial.REAL_SECONDS", 0.1)

    async def program() -> None:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    with pytest.raises(CancelFailure, match="not all points were tried") as raised:
        cancel_everywhere(program, loop_factory=asyncio.new_event_loop)
    assert at(raised.value.report.points) == [(0, "start"), (1, "suspended")]
    assert "real seconds" in raised.value.report.failures[0].problems[0]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_check_that_raises(asynchronous: bool) -> None:
    """An invariant of the program is looked at after each run, in the same loop."""
    counts = {"open": 0}

    async def program() -> None:
        counts["open"] = 1
        await asyncio.sleep(1)
        counts["open"] = 0

    def check() -> None:
        assert asyncio.get_running_loop().is_running()
        if counts["open"]:
            raise ValueError("left open")

    async def check_later() -> None:
        await asyncio.sleep(1)
        check()

    report = failure(program, check=check_later if asynchronous else check)
    assert at(report.failures) == [(1, "suspended"), (1, "ready")]
    assert report.failures[0].problems == ("check() raised ValueError: left open",)


def test_check_that_hangs() -> None:
    """A check that waits for what was lost shows the deadlock."""
    locks: list[asyncio.Lock] = []

    async def program() -> None:
        locks[:] = [asyncio.Lock()]
        await locks[0].acquire()
        await asyncio.sleep(1)
        locks[0].release()

    async def check() -> None:
        async with locks[0]:
            pass

    report = failure(program, check=check)
    assert at(report.failures) == [(1, "suspended"), (1, "ready")]
    assert report.failures[0].problems[0].startswith("check() does not end: deadlock")


def test_second_call_that_does_not_work() -> None:
    """What a cancel has spoilt outside of the function, a second call in the same loop finds."""
    locks: WeakKeyDictionary[Loop, asyncio.Lock] = WeakKeyDictionary()

    async def program() -> None:
        lock = locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        await lock.acquire()
        await asyncio.sleep(1)
        lock.release()

    report = failure(program)
    assert at(report.failures) == [(1, "suspended"), (1, "ready")]
    assert report.failures[0].problems[0].startswith("a second call does not end: deadlock")


def test_second_call_that_ends_otherwise() -> None:
    """It has to end as it always does."""
    busy: WeakKeyDictionary[Loop, bool] = WeakKeyDictionary()

    async def program() -> None:
        loop = asyncio.get_running_loop()
        if busy.get(loop):
            raise LookupError("still busy")
        busy[loop] = True
        await asyncio.sleep(1)
        busy[loop] = False

    report = failure(program)
    assert report.failures[0].problems == (
        "a second call raised LookupError: still busy; undisturbed it returned",
    )


def test_program_that_works_only_once_in_a_loop() -> None:
    """What a second call does undisturbed, it may do after a cancel."""
    used: WeakKeyDictionary[Loop, bool] = WeakKeyDictionary()

    async def program() -> None:
        if used.setdefault(asyncio.get_running_loop(), False):
            raise LookupError("used up")
        used[asyncio.get_running_loop()] = True
        await asyncio.sleep(1)

    assert not cancel_everywhere(program).failures


def test_thread_left_behind() -> None:
    """A thread that outlives the loop is named."""
    stop = threading.Event()

    async def program() -> None:
        stop.clear()
        thread = threading.Thread(target=stop.wait, name="left")
        thread.start()
        await asyncio.sleep(0)
        stop.set()
        thread.join()

    async def second_call_only() -> None:
        if not asyncio.get_running_loop().time():
            await program()

    try:
        report = failure(second_call_only, check=lambda: asyncio.sleep(1))
    finally:
        stop.set()
    assert at(report.failures) == [(1, "ready")]
    assert report.failures[0].problems[0].startswith("leaves thread 'left'")


def test_answer_of_a_program_to_a_lost_child() -> None:
    """When a child is cancelled, the root may say so; what tells of a slip is a finding."""

    async def tells() -> None:
        task = asyncio.ensure_future(two_sleeps())
        await asyncio.wait([task])
        if task.cancelled():
            raise TaskCancelled("lost")

    assert not cancel_everywhere(tells, target="children").failures

    async def slips() -> None:
        results: dict[int, None] = {}
        task = asyncio.ensure_future(two_sleeps())
        await asyncio.wait([task])
        if not task.cancelled():
            results[0] = task.result()
        results[0]

    report = failure(slips, target="children")
    assert len(report.failures) == len(report.points) == 5
    assert report.failures[0].problems == ("raised KeyError: 0",)


def test_slip_of_the_cancelled_child() -> None:
    """A child that answers its cancel by a slip is a finding, also where nobody hears of it."""

    async def child() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            raise ValueError("released too often")

    async def program() -> None:
        with contextlib.suppress(ValueError):
            await asyncio.gather(child())

    # Undisturbed it raises the same, so nothing is new.
    assert not cancel_everywhere(program, target="children").failures

    async def only_cancelled() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            raise ValueError("released too often") from None

    async def deaf() -> None:
        await asyncio.gather(only_cancelled(), return_exceptions=True)

    report = failure(deaf, target="children")
    assert report.failures[0].outcome == "raised"
    assert report.failures[0].problems == (
        "the cancelled task raised ValueError: released too often",
    )


def test_program_that_is_wrong_undisturbed() -> None:
    """Nothing is cancelled where even the undisturbed run leaves something."""

    async def program() -> None:
        kept.append(asyncio.ensure_future(asyncio.sleep(1)))

    kept: list[Any] = []
    with pytest.raises(CancelFailure, match="wrong before anything is cancelled") as raised:
        cancel_everywhere(program)
    assert "leaves task sleep" in str(raised.value)
    assert raised.value.report.points == ()


# -- labels -----------------------------------------------------------------------------------


def test_swallowed_cancel_is_labelled() -> None:
    """A cancel that does not leave the task is no failure, and is shown."""

    async def program() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)

    report = cancel_everywhere(program)
    assert at(report.swallowed) == [(1, "suspended"), (1, "ready")]
    assert "2 swallowed" in str(report)


def test_awaits_after_the_cancel_are_shown() -> None:
    """Clean-up that awaits delays the end: how often, and where."""

    async def program() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            for _ in range(7):
                await asyncio.sleep(0)  # cleaning

    point = cancel_everywhere(program).delayed[0]
    assert (point.k, point.phase, point.outcome) == (1, "suspended", "cancelled")
    assert point.delay_count == 7
    assert len(point.delays) == 5
    assert point.delays[0].endswith(
        "in " + program.__qualname__ + ": await asyncio.sleep(0)  # cleaning"
    )
    assert "and 2 more" in str(point)


def test_point_that_is_not_reached() -> None:
    """A program that goes another way the next time leaves points out, and they are shown."""
    runs: list[int] = []

    async def program() -> None:
        runs.append(1)
        for _ in range(2 if len(runs) == 1 else 1):
            await asyncio.sleep(1)

    report = cancel_everywhere(program)
    assert at(report.not_reached) == [(2, "suspended"), (2, "ready")]
    assert not report.failures


def test_cancel_in_the_tick_of_another_cancel() -> None:
    """A wait that a time limit ends is ready, too: that is when cancels are mixed up."""

    async def mixed_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(1, task.cancel)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            task.uncancel()  # takes every cancel for that of its timer
        finally:
            timer.cancel()

    async def asyncio_does() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(5)
        await asyncio.sleep(1)

    assert at(cancel_everywhere(mixed_up).swallowed) == [(1, "suspended"), (1, "ready")]
    assert not cancel_everywhere(asyncio_does).swallowed


# -- transparency -----------------------------------------------------------------------------


def test_watched_tasks_look_like_others() -> None:
    """Stacks, reprs and states of a task are those of its coroutine."""

    async def child() -> None:
        await asyncio.sleep(1)

    async def program() -> None:
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
        coro: Any = task.get_coro()
        if task.done():
            return  # cancelled before its first step
        assert coro.__qualname__.endswith("child")
        assert coro.cr_code is child.__code__
        assert coro.cr_frame is not None
        assert coro.cr_await is not None
        assert not coro.cr_running
        assert "child" in repr(task)
        assert [frame.f_code for frame in task.get_stack()] == [child.__code__]
        await asyncio.wait([task])

    assert not cancel_everywhere(program, target="children").failures


def test_a_coroutine_by_hand_is_as_good_as_one_of_the_interpreter() -> None:
    """Something that only behaves like a coroutine, as compiled code does, is cancelled as well."""

    class ByHand(Coroutine[Any, Any, int]):
        def __init__(self) -> None:
            self._inner = two_sleeps()

        def send(self, value: Any) -> Any:
            return self._inner.send(value)

        def throw(self, *error: Any) -> Any:
            return self._inner.throw(*error)

        def close(self) -> None:
            self._inner.close()

        def __await__(self) -> Any:
            return self._inner.__await__()

    assert len(cancel_everywhere(ByHand).points) == 5


# -- the report -------------------------------------------------------------------------------


def test_report_is_a_value() -> None:
    """It prints as a table, crosses processes, and comes with the failure."""

    async def program() -> None:
        task = asyncio.create_task(two_sleeps(), name="left")
        await asyncio.wait([task])

    with pytest.raises(CancelFailure) as raised:
        cancel_everywhere(program)
    report = raised.value.report
    assert pickle.loads(pickle.dumps(raised.value)).report == report
    lines = str(report).splitlines()
    assert lines[0] == report.summary
    assert "1 suspensions, 3 points, 1 failed" in lines[0]
    assert re.match(r" +1 suspended FAILED, cancelled +root +.*await asyncio\.wait", lines[2])
    assert lines[3].strip().startswith("! leaves task 'left'")
    assert str(report.failures[0]) in str(raised.value)
    assert str(raised.value).startswith(lines[0])


def test_failure_text_stays_readable() -> None:
    """Of very many failing points the first are shown in full, the others by number."""

    async def program() -> None:
        for _ in range(15):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                raise KeyError("slip") from None

    with pytest.raises(CancelFailure) as raised:
        cancel_everywhere(program)
    assert len(raised.value.report.failures) == 30
    text = str(raised.value)
    assert text.count("! raised KeyError") == 20
    assert "... and at 11 suspended, 11 ready," in text


# -- the claim --------------------------------------------------------------------------------


def test_naive_gather_and_ours() -> None:
    """A semaphore around each call fails at most points; `gather_limited` at none."""
    semaphores: WeakKeyDictionary[Loop, asyncio.Semaphore] = WeakKeyDictionary()

    def semaphore() -> asyncio.Semaphore:
        return semaphores.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(2))

    async def naive() -> None:
        async def call() -> None:
            await semaphore().acquire()
            await asyncio.sleep(1)
            semaphore().release()

        for task in [asyncio.create_task(call()) for _ in range(5)]:
            await task

    async def check() -> None:
        await asyncio.sleep(9)  # until what was left behind has given back what it holds
        for _ in range(2):
            await semaphore().acquire()
        for _ in range(2):
            semaphore().release()

    async def ours() -> None:
        await gather_limited(*(asyncio.sleep(1) for _ in range(5)), limit=2)

    def failed(program: Program, target: Any, **options: Any) -> tuple[int, int]:
        try:
            report = cancel_everywhere(program, target=target, **options)
        except CancelFailure as found:
            report = found.report
        return len(report.failures), len(report.points)

    assert failed(naive, "root", check=check) == (5, 7)
    assert failed(naive, "children", check=check) == (15, 21)
    assert failed(ours, "root") == (0, 3)
    assert failed(ours, "children") == (0, 12)


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target": "child"}, ValueError, "target must be 'root', 'children' or a function"),
        ({"phases": "ready"}, TypeError, r"did you mean phases=\['ready'\]"),
        ({"phases": []}, ValueError, "phases must be some of"),
        ({"phases": ["later"]}, ValueError, "phases must be some of"),
        ({"check": 1}, TypeError, "check must be a function without arguments, got 1"),
        ({"loop_factory": 1}, TypeError, "loop_factory must be a function that makes a loop"),
        (
            {"schedule": Schedule(), "loop_factory": asyncio.new_event_loop},
            ValueError,
            "schedule and loop_factory exclude one another",
        ),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """A wrong option is refused before anything runs."""
    with pytest.raises(error, match=text):
        cancel_everywhere(two_sleeps, **options)


def test_bad_programs() -> None:
    """What cannot be run again and again is refused, with the right line."""
    with pytest.raises(TypeError, match=r"did you mean cancel_everywhere\(two_sleeps\)"):
        cancel_everywhere(two_sleeps())  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"expected an async function, got .*<lambda>, which return"
    ):
        cancel_everywhere(lambda: None)  # type: ignore[arg-type, return-value]


async def test_refused_inside_a_loop() -> None:
    """It runs loops of its own, so it is called from a plain function."""
    with pytest.raises(RuntimeError, match="call it from a plain function"):
        cancel_everywhere(two_sleeps)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_interrupt_leaves_at_once(end: type[BaseException]) -> None:
    """Ctrl-C is nobody's finding: it ends the sweep."""

    async def program() -> None:
        raise end

    with pytest.raises(end):
        cancel_everywhere(program)
