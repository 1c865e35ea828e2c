"""`cancel_everywhere`: where it cancels, what it shows, and what it refuses."""

import asyncio
import contextlib
import pickle
import re
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from aioconc import gather_limited
from aioconc.errors import CancelFailure
from aioconc.testing import Schedule, cancel_everywhere, loop_factory, wait_graph
from tests.conftest import loop_variants
from tests.unit.testing.sweeps import Loop, Program, at, two_sleeps

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")

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


class AtOnce(asyncio.Future[None]):
    """A future that has its task go on in the callback that sets it, before others hear of it."""

    def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
        super().add_done_callback(fn, context=context)
        self.go_on, self.context = fn, context

    def finish(self) -> None:
        self.remove_done_callback(self.go_on)
        self.set_result(None)
        self.context.run(self.go_on, self)


def test_a_task_that_has_ended_before_it_can_be_cancelled_swallows_nothing() -> None:
    """Where what it awaits lets it go on at once, there is no moment between the two."""

    async def program() -> None:
        loop = asyncio.get_running_loop()
        future = AtOnce(loop=loop)
        loop.call_soon(lambda: future.done() or future.finish())
        await future

    report = cancel_everywhere(program)
    assert [each.outcome for each in report.points] == ["cancelled", "cancelled", "not reached"]


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


def test_point_after_the_end_of_the_root() -> None:
    """What is done only when the root has ended is not cancelled any more."""

    async def child() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: future.done() or future.set_result(1))
        await future

    async def program() -> None:
        kept[:] = [asyncio.create_task(child())]
        await asyncio.sleep(0)

    kept: list[Any] = []
    assert at(cancel_everywhere(program, target="children").not_reached) == [(1, "ready")]


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
        coro.close()

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

    async def parent() -> None:
        await asyncio.wait([asyncio.get_running_loop().create_task(ByHand())])

    assert len(cancel_everywhere(ByHand).points) == 5
    assert len(cancel_everywhere(parent, target="children").points) == 5


def test_task_factory_that_wraps() -> None:
    """A factory may put a coroutine of its own around each: what is inside is seen all the same."""

    async def around(coro: Any) -> Any:
        try:
            return await coro
        finally:
            await asyncio.sleep(0)  # not the program's, and not counted

    def new_loop() -> Loop:
        loop = loop_factory()()
        loop.set_task_factory(lambda loop, coro, **_: asyncio.Task(around(coro), loop=loop))  # type: ignore[arg-type]
        return loop

    async def parent() -> None:
        task = asyncio.create_task(two_sleeps())
        await asyncio.sleep(0)
        graphs.append(str(wait_graph()))
        await asyncio.wait([task])

    graphs: list[str] = []
    cancel_everywhere(parent, target="children", loop_factory=new_loop)
    assert "in two_sleeps" in graphs[0]

    report = cancel_everywhere(two_sleeps, loop_factory=new_loop)
    assert [each.source for each in report.points[1:]] == ["await asyncio.sleep(0.001)"] * 4


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
