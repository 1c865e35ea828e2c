"""What is made of the looks at a loop: cause, place and number of reports, without any real stall."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from time import perf_counter
from types import FrameType

import pytest

import aioconc.runtime._stall_report as stall_report
from aioconc.runtime import LoopStall
from aioconc.runtime._gc_clock import gc_clock
from aioconc.runtime._stall_report import Reporter

THRESHOLD = 0.1


@pytest.fixture
def told() -> list[LoopStall]:
    return []


@pytest.fixture
def reporter(told: list[LoopStall]) -> Iterator[Reporter]:
    loop = asyncio.new_event_loop()
    yield Reporter(loop, THRESHOLD, told.append)
    loop.close()


def here() -> FrameType:
    return sys._getframe(1)


def stall(reporter: Reporter, seconds: float = 1.0, *, before: float = 1.0) -> None:
    """A stall that was looked at three times, all at one place."""
    reporter.meets_again(perf_counter() - before, 0.0, time.process_time())
    for _ in range(3):
        reporter.goes_on(reporter.remember(here(), again=True), seconds, last=False)
    reporter.is_over(seconds, stalled=True)


def test_first_meeting_costs_no_stack(reporter: Reporter, told: list[LoopStall]) -> None:
    """Most callbacks that are met twice end soon: nothing is kept of them, and nothing told."""
    assert reporter.remember(here(), again=False) is None
    reporter.meets_again(perf_counter(), 0.0, 0.0)
    reporter.goes_on(None, 0.01, last=False)
    reporter.is_over(0.01, stalled=False)
    assert told == []
    assert reporter.statistics.stalls == 0


def test_place_that_was_seen_most_often_is_told(reporter: Reporter, told: list[LoopStall]) -> None:
    """One stall may be seen at several places; the others are left out."""

    def often() -> FrameType:
        return here()

    def once() -> FrameType:
        return here()

    reporter.meets_again(perf_counter(), 0.0, time.process_time())
    for look in (once, often, often):
        reporter.goes_on(reporter.remember(look(), again=True), 1.0, last=False)
    # The last look meets the thread where it was told to end.
    reporter.goes_on(reporter.remember(here(), again=True), 1.0, last=True)
    reporter.is_over(1.0, stalled=True)
    assert [each.where.rpartition(".")[2] for each in told] == ["often"]


def test_places_within_one_stall_are_bounded(
    reporter: Reporter, told: list[LoopStall], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long stall at many places costs a bounded number of stacks."""
    monkeypatch.setattr(stall_report, "_PLACES", 1)
    reporter.meets_again(perf_counter(), 0.0, time.process_time())
    first = reporter.remember(here(), again=True)
    assert first is not None
    assert reporter.remember(here(), again=True) is None
    reporter.goes_on(first, 1.0, last=False)
    reporter.is_over(1.0, stalled=True)
    assert len(told) == 1


def test_starved_step_is_told_apart(reporter: Reporter, told: list[LoopStall]) -> None:
    """Others have worked, this thread asked for the interpreter, and would have been quick alone."""
    slices = iter([0, 1000])
    reporter.slices = lambda: next(slices)
    reporter.worked = lambda: THRESHOLD / 2
    # As if the process had worked for ten seconds meanwhile, this thread for nearly none of them.
    reporter.meets_again(perf_counter() - 1, 0.0, time.process_time() - 10)
    reporter.goes_on(reporter.remember(here(), again=True), 1.0, last=False)
    reporter.is_over(1.0, stalled=True)
    assert told[0].cause == "gil"
    assert "kept the interpreter to itself, while the loop was at " in str(told[0])


@pytest.mark.parametrize(
    ("worked", "others", "slices"),
    [(1.0, 10.0, 1000), (0.0, 0.0, 1000), (0.0, 10.0, 1)],
    ids=["computed", "nobody else worked", "waited in a call"],
)
def test_step_that_was_long_by_itself_is_the_codes(
    reporter: Reporter, told: list[LoopStall], worked: float, others: float, slices: int
) -> None:
    """If one of the three is not so, the step is accused."""
    given = iter([0, slices])
    reporter.slices = lambda: next(given)
    reporter.worked = lambda: worked
    reporter.meets_again(perf_counter() - 4, 0.0, time.process_time() - worked - others)
    reporter._met -= 4
    reporter.goes_on(reporter.remember(here(), again=True), 4.0, last=False)
    reporter.is_over(4.0, stalled=True)
    assert told[0].cause == "code"


def test_stall_in_which_the_process_stood_still_is_told_once(
    reporter: Reporter, told: list[LoopStall]
) -> None:
    """The looks that were missed belong to the callback that was there before and after."""
    reporter.meets_again(perf_counter(), 0.0, time.process_time())
    reporter.goes_on(reporter.remember(here(), again=True), 3.0, last=False)
    reporter.was_kept_out(3.0, asked=False, within=True)
    reporter.is_over(3.0, stalled=True)
    assert [each.cause for each in told] == ["suspended"]
    stall(reporter)
    assert [each.cause for each in told] == ["suspended", "code"]  # forgotten with its stall


def test_idle_loop_of_a_process_that_stood_still(reporter: Reporter, told: list[LoopStall]) -> None:
    """A second or more is told, with no place; less is not worth a word."""
    reporter.was_kept_out(0.5, asked=False, within=False)
    assert told == []
    reporter.was_kept_out(2.0, asked=False, within=False)
    assert [(each.cause, each.where, each.task) for each in told] == [("suspended", "", None)]
    assert str(told[0]) == (
        "the event loop was held up for 2.000 s while the process did nothing at all, as when it is "
        "stopped"
    )


def test_thread_that_took_the_interpreter_is_named(
    reporter: Reporter, told: list[LoopStall]
) -> None:
    """An idle loop that could not turn has others to blame: those that are in the user's code."""
    stop = threading.Event()

    def hogs() -> None:
        stop.wait()

    thread = threading.Thread(target=hogs, name="hog")
    thread.start()
    try:
        watching = threading.Thread(
            target=reporter.was_kept_out, args=(0.5,), kwargs={"asked": True, "within": False}
        )
        watching.start()
        watching.join()
    finally:
        stop.set()
        thread.join()
    assert [each.cause for each in told] == ["gil"]
    assert "hogs, thread 'hog'" in told[0].where
    assert "kept the interpreter to itself, perhaps at " in str(told[0])


def test_collector_is_told_also_when_nobody_could_look(
    reporter: Reporter, told: list[LoopStall]
) -> None:
    """Collections keep all threads out."""
    gc_clock.begin()
    try:
        gc_clock._note("start", {})
        gc_clock._began = perf_counter() - 0.5
        reporter.was_kept_out(0.5, asked=True, within=False)
        gc_clock._note("stop", {})
        gc_clock._note("stop", {})  # of one that had begun before the clock
    finally:
        gc_clock.end()
    assert [each.cause for each in told] == ["gc"]
    assert str(told[0]).startswith(
        "the event loop was held up for 0.500 s by the garbage collector ("
    )


def test_stall_that_was_not_seen_has_no_place(reporter: Reporter, told: list[LoopStall]) -> None:
    """It is told all the same."""
    reporter.meets_again(perf_counter(), 0.0, time.process_time())
    reporter.goes_on(None, 1.0, last=False)
    reporter.is_over(1.0, stalled=True)
    assert str(told[0]) == "the event loop was held up for 1.000 s by what was not seen"


def test_task_that_cannot_be_asked_for_is_none(
    reporter: Reporter, told: list[LoopStall], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another thread may not ask for the current task, the stall is told without."""

    def refuse(loop: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(asyncio, "current_task", refuse)
    stall(reporter)
    assert told[0].task is None


def test_deep_stacks_are_cut(reporter: Reporter, told: list[LoopStall]) -> None:
    """The innermost frames are kept."""

    def deep(n: int) -> FrameType:
        return here() if n == 0 else deep(n - 1)

    reporter.meets_again(perf_counter(), 0.0, time.process_time())
    reporter.goes_on(reporter.remember(deep(200), again=True), 1.0, last=False)
    reporter.is_over(1.0, stalled=True)
    assert len(told[0].stack) == stall_report._FRAMES
    assert told[0].stack[-1].name == "deep"
