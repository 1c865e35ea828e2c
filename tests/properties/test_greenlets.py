"""Plain code in `greenlet_run` does what the same code does when it is written as async functions.

Random programs of sleeps, failures, clean-ups, context variables and children are run twice, in
virtual time and cancelled at the same moment: once as a coroutine, once in greenlets. Both must do
the same things at the same times in the same order.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from aioconc.executors.greenlets import await_, greenlet_run
from aioconc.testing import run

pytest.importorskip("greenlet")

# A program is a list of steps; a step is a tuple that begins with its kind.
Program = list[tuple[Any, ...]]
Log = list[tuple[Any, ...]]

variable = contextvars.ContextVar("variable", default=0)


class Expected(Exception):
    """What a program raises."""


steps: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("sleep"), st.sampled_from([0, 0, 1, 2, 5])),
    st.tuples(st.just("set"), st.integers(1, 9)),
    st.tuples(st.just("fail")),
)


def _deeper(inner: "st.SearchStrategy[tuple[Any, ...]]") -> "st.SearchStrategy[tuple[Any, ...]]":
    body = st.lists(inner, max_size=4)
    return st.one_of(
        inner,
        st.tuples(st.just("call"), body),
        st.tuples(st.just("both"), body, body),
        st.tuples(st.just("clean up"), body, body),
        st.tuples(st.just("catch"), body),
        st.tuples(st.just("swallow"), body),
        st.tuples(st.just("limit"), st.sampled_from([0, 1, 3]), body),
    )


programs = st.lists(st.recursive(steps, _deeper, max_leaves=12), max_size=5)


def note(log: Log, *what: Any) -> None:
    log.append((asyncio.get_running_loop().time(), variable.get(), *what))


async def native(program: Program, log: Log) -> None:
    """The program as a coroutine."""
    for step in program:
        note(log, step[0])
        match step:
            case ("sleep", seconds):
                await asyncio.sleep(seconds)
            case ("set", value):
                variable.set(value)
            case ("fail",):
                raise Expected
            case ("call", body):
                await native(body, log)
            case ("both", first, second):
                await asyncio.gather(native(first, log), native(second, log))
            case ("clean up", body, after):
                try:
                    await native(body, log)
                finally:
                    await native(after, log)
            case ("catch", body):
                try:
                    await native(body, log)
                except Expected as error:
                    note(log, "caught", type(error.__context__))
            case ("swallow", body):
                try:
                    await native(body, log)
                except asyncio.CancelledError:
                    note(log, "swallowed")
            case ("limit", seconds, body):
                try:
                    async with asyncio.timeout(seconds):
                        await native(body, log)
                except TimeoutError:
                    note(log, "timed out")
    note(log, "end")


def plain(program: Program, log: Log) -> None:
    """The same as plain code."""
    for step in program:
        note(log, step[0])
        match step:
            case ("sleep", seconds):
                await_(asyncio.sleep(seconds))
            case ("set", value):
                variable.set(value)
            case ("fail",):
                raise Expected
            case ("call", body):
                await_(greenlet_run(plain, body, log))
            case ("both", first, second):
                await_(
                    asyncio.gather(
                        greenlet_run(plain, first, log), greenlet_run(plain, second, log)
                    )
                )
            case ("clean up", body, after):
                try:
                    plain(body, log)
                finally:
                    plain(after, log)
            case ("catch", body):
                try:
                    plain(body, log)
                except Expected as error:
                    note(log, "caught", type(error.__context__))
            case ("swallow", body):
                try:
                    plain(body, log)
                except asyncio.CancelledError:
                    note(log, "swallowed")
            case ("limit", seconds, body):
                await_(_limited(seconds, body, log))
    note(log, "end")


async def _limited(seconds: float, body: Program, log: Log) -> None:
    try:
        async with asyncio.timeout(seconds):
            await greenlet_run(plain, body, log)
    except TimeoutError:
        note(log, "timed out")


def outcome(start: Callable[[Log], Coroutine[Any, Any, None]], cancel_at: float | None) -> Log:
    """What the program did, and how it ended."""
    log: Log = []

    async def main() -> None:
        task = asyncio.ensure_future(start(log))
        if cancel_at is not None:
            await asyncio.wait([task], timeout=cancel_at)
            task.cancel()
        await asyncio.wait([task])
        ended = "cancelled" if task.cancelled() else type(task.exception()).__name__
        log.append((asyncio.get_running_loop().time(), ended))
        # Children of a gather that failed go on by themselves, as gather has it.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
            for each in others:
                if not each.cancelled():
                    each.exception()

    run(main)
    return log


@pytest.mark.slow
@settings(max_examples=400)
@given(program=programs, cancel_at=st.sampled_from([None, 0, 0.5, 1, 1.5, 2, 4]))
def test_plain_code_does_what_async_code_does(program: Program, cancel_at: float | None) -> None:
    """The same steps at the same times, the same values, the same end."""
    expected = outcome(lambda log: native(program, log), cancel_at)
    assert outcome(lambda log: greenlet_run(plain, program, log), cancel_at) == expected
