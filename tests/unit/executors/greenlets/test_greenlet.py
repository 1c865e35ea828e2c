"""`greenlet_run` and `await_`: values, errors, cancellation, nesting, threads and garbage."""

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

import aioconc
from aioconc.errors import MissingExtra
from aioconc.executors.greenlets import _greenlet, await_, greenlet_run
from aioconc.testing import cancel_everywhere

greenlet = pytest.importorskip("greenlet")

pytestmark = pytest.mark.loops("all")

variable = contextvars.ContextVar("variable", default="default")


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def fail_later(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


def wait_for_ever(log: list[str]) -> None:
    """Await what never comes; say how it ended, and await once more."""
    try:
        await_(asyncio.get_running_loop().create_future())
    except BaseException as error:
        log.append(type(error).__name__)
        raise
    finally:
        try:
            log.append(await_(later("cleaned up")))
        except RuntimeError as error:
            log.append(str(error))


# -- values and errors ------------------------------------------------------------------------------


async def test_plain_code_gets_what_it_awaits() -> None:
    """Values of coroutines, futures and tasks; arguments and the result cross too."""

    def add(a: int, *, b: int) -> int:
        made = asyncio.get_running_loop().create_future()
        made.set_result(100)
        task = asyncio.get_running_loop().create_task(later(1000))
        return a + await_(later(b)) + await_(made) + await_(task)

    assert await greenlet_run(add, 1, b=10) == 1111


async def test_what_an_awaitable_raises_is_raised_at_its_await() -> None:
    """It can be caught there; what is not caught leaves with the frames of the plain code."""

    def careful() -> str:
        try:
            await_(fail_later(KeyError("first")))
        except KeyError:
            await_(fail_later(ValueError("second")))  # in the clean-up of the first
        return "never"

    with pytest.raises(ValueError, match="second") as caught:
        await greenlet_run(careful)
    assert isinstance(caught.value.__context__, KeyError)
    assert "careful" in [each.name for each in caught.traceback]


async def test_errors_of_the_function_arrive_as_they_are() -> None:
    """Also those that mean something to the greenlet or to a coroutine."""

    def fail(error: BaseException) -> None:
        await_(later(1))
        raise error

    with pytest.raises(SystemExit):
        await greenlet_run(fail, SystemExit(3))
    with pytest.raises(greenlet.GreenletExit):
        await greenlet_run(fail, greenlet.GreenletExit())
    with pytest.raises(RuntimeError, match="StopIteration"):
        await greenlet_run(fail, StopIteration(1))


async def test_the_loop_goes_on_at_each_await() -> None:
    """Two such tasks take turns."""
    turns: list[str] = []

    def take_turns(name: str) -> None:
        for _ in range(3):
            turns.append(name)
            await_(asyncio.sleep(0))

    await asyncio.gather(greenlet_run(take_turns, "a"), greenlet_run(take_turns, "b"))
    assert turns == ["a", "b"] * 3


async def test_calls_can_be_nested() -> None:
    """Plain code awaits async code that runs plain code that awaits, at any depth."""

    def down(depth: int) -> int:
        return await_(greenlet_run(down, depth - 1)) + 1 if depth else await_(later(0))

    assert await greenlet_run(down, 20) == 20


async def test_a_task_made_inside_outlives_its_maker() -> None:
    """A task that starts eagerly in another's greenlet is resumed without it."""
    gate = asyncio.get_running_loop().create_future()
    made: list[asyncio.Task[Any]] = []

    def inner() -> Any:
        return [await_(later(1)), await_(gate), await_(later(3))]

    def outer(wait: bool) -> Any:
        made.append(asyncio.get_running_loop().create_task(greenlet_run(inner)))
        return await_(later("outer")) if wait else "outer"

    assert await greenlet_run(outer, True) == "outer"
    assert await greenlet_run(outer, False) == "outer"
    gate.set_result(2)
    assert await asyncio.gather(*made) == [[1, 2, 3], [1, 2, 3]]


# -- the task around it -----------------------------------------------------------------------------


async def test_task_and_context_are_those_of_the_caller() -> None:
    """One task, and context variables that are set on either side are seen on the other."""

    async def change() -> None:
        variable.set("by what was awaited")

    def look() -> list[Any]:
        seen = [asyncio.current_task(), variable.get()]
        await_(change())
        seen.append(variable.get())
        variable.set("by the plain code")
        return seen

    variable.set("by the task")
    seen = await greenlet_run(look)
    assert seen == [asyncio.current_task(), "by the task", "by what was awaited"]
    assert variable.get() == "by the plain code"


async def test_a_cancel_is_raised_at_the_await() -> None:
    """`finally` blocks run and may await; the cancellation goes on, with its message."""
    log: list[str] = []
    task = asyncio.ensure_future(greenlet_run(wait_for_ever, log))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert log == ["CancelledError", "cleaned up"]


async def test_a_cancel_before_the_first_step_starts_nothing() -> None:
    """Like every await of the library, it raises at once in a cancelled scope."""
    log: list[str] = []
    with aioconc.move_on_after(60) as scope:
        scope.cancel()
        await greenlet_run(wait_for_ever, log)
    assert scope.cancelled_caught
    assert log == []


async def test_scopes_work_in_plain_code() -> None:
    """A time limit around an `await_` is that of the task."""

    def limited() -> bool:
        with aioconc.move_on_after(0.001) as scope:
            await_(asyncio.get_running_loop().create_future())
        return scope.cancelled_caught and await_(later(True))

    assert await greenlet_run(limited) is True


def test_it_may_be_cancelled_anywhere() -> None:
    """Wherever the cancel strikes, everything has ended and the clean-up has run."""
    begun: list[int] = []
    ended: list[int] = []

    def work() -> None:
        begun.append(1)
        try:
            await_(later(1))
            await_(greenlet_run(lambda: await_(asyncio.sleep(0))))
        finally:
            ended.append(1)
            await_(asyncio.sleep(0))

    async def scenario() -> None:
        await greenlet_run(work)

    cancel_everywhere(scenario)
    assert len(begun) == len(ended) > 3


# -- misuse -----------------------------------------------------------------------------------------


async def test_outside_it_says_so_and_closes_the_coroutine() -> None:
    """In a task, in a greenlet of somebody else, and in a thread; nothing is 'never awaited'."""
    pattern = r"outside greenlet_run, in thread .*in an async function write `await x`"
    coroutine = later(1)
    with pytest.raises(RuntimeError, match=pattern):
        await_(coroutine)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine

    async def count() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(RuntimeError, match=pattern):
        await_(anext(count()))
    future = asyncio.get_running_loop().create_future()
    with pytest.raises(RuntimeError, match=pattern):
        await_(future)
    assert not future.done()  # it belongs to somebody

    def in_other_greenlet() -> None:
        greenlet.greenlet(lambda: await_(later(1))).switch()

    with pytest.raises(RuntimeError, match=pattern):
        await greenlet_run(in_other_greenlet)
    errors: list[str] = []

    def in_thread() -> None:
        try:
            await_(later(1))
        except RuntimeError as error:
            errors.append(str(error))

    def start() -> None:
        thread = threading.Thread(target=in_thread, name="foreign")
        thread.start()
        thread.join()

    await greenlet_run(start)
    assert "in thread 'foreign'" in errors[0]


async def test_what_cannot_be_awaited_or_run_is_refused() -> None:
    """With the line that was probably meant."""
    wrong: Any = 42
    with pytest.raises(TypeError, match=r"await_ expected an awaitable, got 42; .*await_\(fetch"):
        await greenlet_run(lambda: await_(wrong))
    with pytest.raises(TypeError, match=r"greenlet_run expected a plain function.*later"):
        await greenlet_run(later, 1)
    with pytest.raises(TypeError, match=r"did you mean greenlet_run\(fn, arg\)"):
        await greenlet_run(wrong)


@pytest.mark.loops("asyncio")
async def test_without_greenlet_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing engine says what to install, and nothing is left unawaited."""
    monkeypatch.setattr(_greenlet, "_loaded", None)
    monkeypatch.setitem(sys.modules, "greenlet", None)
    with pytest.raises(MissingExtra, match=r"install aioconc\[greenlet\]"):
        await greenlet_run(len, "abc")
    with pytest.raises(MissingExtra, match=r"install aioconc\[greenlet\]"):
        await_(later(1))


# -- coroutines that are thrown away ----------------------------------------------------------------


def _begin(coroutine: Coroutine[Any, Any, Any]) -> asyncio.AbstractEventLoop:
    """Run it up to its first wait, in no task."""
    loop = asyncio.new_event_loop()

    async def step() -> None:
        coroutine.send(None)

    loop.run_until_complete(step())
    return loop


@pytest.mark.loops("asyncio")
def test_closing_the_coroutine_unwinds_the_greenlet() -> None:
    """GeneratorExit at the `await_`; an await in the clean-up is refused, its coroutine closed."""
    log: list[str] = []
    coroutine = greenlet_run(wait_for_ever, log)
    loop = _begin(coroutine)
    coroutine.close()
    assert log[0] == "GeneratorExit"
    assert "the task that ran wait_for_ever is gone" in log[1]
    assert "nothing can be awaited in the clean-up" in log[1]
    loop.close()


@pytest.mark.loops("asyncio")
def test_garbage_collected_by_another_thread_ends_in_its_own() -> None:
    """The other thread cannot enter the greenlet: its own thread unwinds it, at its next switch."""
    ended_in: list[str] = []

    def hold() -> None:
        try:
            await_(asyncio.get_running_loop().create_future())
        finally:
            ended_in.append(threading.current_thread().name)

    kept = [greenlet_run(hold)]
    loop = _begin(kept[0])

    def collect() -> None:
        kept.clear()
        gc.collect()

    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()
    assert ended_in == []
    greenlet.getcurrent()
    assert ended_in == [threading.current_thread().name]
    loop.close()


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("fails", [False, True])
def test_a_coroutine_resumed_by_another_thread_is_refused(fails: bool) -> None:
    """A clear error, and the greenlet ends in its own thread all the same."""
    log: list[str] = []

    def hold() -> None:
        try:
            await_(asyncio.sleep(0))
        finally:
            log.append("ended")

    coroutine = greenlet_run(hold)
    loop = _begin(coroutine)

    def resume() -> None:
        try:
            if fails:
                coroutine.throw(ValueError())
            else:
                coroutine.send(None)
        except RuntimeError as error:
            log.append(str(error))

    thread = threading.Thread(target=resume, name="foreign")
    thread.start()
    thread.join()
    assert "begun by another thread than 'foreign'" in log[0]
    greenlet.getcurrent()
    assert log[1:] == ["ended"]
    loop.close()


@pytest.mark.loops("asyncio")
def test_nothing_is_kept_after_the_end() -> None:
    """Neither arguments nor greenlet, without a collection of garbage."""

    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    gc.disable()
    try:
        asyncio.run(greenlet_run(lambda each: await_(later(None)), thing))
        del thing
        assert gone() is None
    finally:
        gc.enable()
