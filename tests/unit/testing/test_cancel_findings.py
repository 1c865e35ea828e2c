"""What `cancel_everywhere` calls wrong, and what it does not."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from aioconc.errors import CancelFailure, DeadlockError, TaskCancelled
from aioconc.testing import cancel_everywhere, loop_factory
from tests.conftest import loop_variants
from tests.unit.testing.sweeps import Loop, at, failure, two_sleeps


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
    assert report.undisturbed == "raised OSError: undisturbed"
    assert report.summary.endswith("(undisturbed it raised OSError: undisturbed)")


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


@pytest.mark.parametrize("new_loop", [None, asyncio.new_event_loop])
def test_what_cannot_be_ended(new_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that hangs and also ignores every later cancel is told, and left."""
    monkeypatch.setattr("aioconc.testing._cancel_trial.REAL_SECONDS", 0.1)

    async def program() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
            return
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    report = failure(program, loop_factory=new_loop)
    assert at(report.failures) == [(1, "ready")]
    first, second = report.failures[0].problems
    assert first.startswith("does not end")
    assert second.startswith("what is left does not end when cancelled")


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
    """A thread that outlives the loop is named, at the point that has left it."""
    stop = threading.Event()

    async def program() -> None:
        if asyncio.get_running_loop().time():
            return  # the second call
        stop.clear()
        thread = threading.Thread(target=stop.wait, name="left")
        thread.start()
        await asyncio.sleep(0)
        stop.set()
        thread.join()

    try:
        report = failure(program, check=lambda: asyncio.sleep(1))
    finally:
        stop.set()
    assert at(report.failures) == [(1, "ready")]
    assert report.failures[0].problems[0].startswith("leaves thread 'left'")


def test_file_left_open() -> None:
    """So is a descriptor, also in virtual time."""
    ends: list[int] = []

    async def program() -> None:
        ends[:] = os.pipe()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for end in ends:
            os.close(end)
        ends.clear()

    async def check() -> None:
        opened.extend(ends)

    opened: list[int] = []
    try:
        report = failure(program, check=check)
    finally:
        for end in opened:
            os.close(end)
    assert at(report.failures) == [(1, "ready"), (2, "ready")]
    assert all("leaves descriptor" in each.problems[0] for each in report.failures)


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
