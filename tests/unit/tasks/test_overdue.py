"""Cancelled work that does not end holds its block, and is named: on a clock that jumps."""

import asyncio
import logging
import re

import pytest

from aioconc._internal import _hooks
from aioconc._internal._where import stack_of
from aioconc.tasks import Supervisor, TaskGroup
from aioconc.tasks._overdue import PATIENCE
from tests.virtual_time import run_virtual


async def forever():
    await asyncio.Event().wait()


async def hangs_in_clean_up(seconds=60):
    try:
        await forever()
    finally:
        await last_words(seconds)


async def last_words(seconds):
    await asyncio.sleep(seconds)


@pytest.fixture
def heard(caplog):
    """The events that ended in `.overdue`, and the warnings beside them."""
    events = []

    def listen(event, fields):
        if event.endswith("overdue"):
            events.append((event, fields))

    end = _hooks.subscribe(listen)
    with caplog.at_level(logging.WARNING, logger="aioconc"):
        yield events
    end()


def test_a_child_that_outlasts_its_cancellation_is_named_with_its_place(heard, caplog):
    """A warning and an event tell which child the block waits for, and where that child hangs."""
    reprs = []

    async def main():
        loop = asyncio.get_running_loop()
        async with TaskGroup(name="crawl") as group:
            group.start_soon(hangs_in_clean_up, name="stubborn")
            group.start_soon(forever)
            await asyncio.sleep(1)
            for seconds in (0.5, 9, 12):
                loop.call_later(seconds, lambda: reprs.append(repr(group)))
            group.cancel()
        return loop.time()

    assert run_virtual(main()) == pytest.approx(61)
    ((event, fields),) = heard
    assert event == "group.overdue"
    assert (fields["task"].get_name(), fields["seconds"]) == ("stubborn", PATIENCE)
    said = "<TaskGroup 'crawl' 1 running, cancelling for 10 s>: 'stubborn' has not ended 10 s after"
    assert said in caplog.text
    assert "in hangs_in_clean_up" in caplog.text
    assert "in last_words" in caplog.text
    assert reprs == [
        f"<TaskGroup 'crawl' 1 running, cancelling{each}>" for each in ("", " for 9 s", " for 12 s")
    ]


@pytest.mark.parametrize("how", ["a sibling fails", "the caller is cancelled", "time limit"])
def test_it_is_named_however_the_group_was_cancelled(heard, how):
    """Each way to cancel children starts the same watch, and the outcome is what it was."""

    async def fails():
        raise ValueError

    async def host():
        async with TaskGroup(timeout=1 if how == "time limit" else None) as group:
            group.start_soon(hangs_in_clean_up)
            await asyncio.sleep(0)
            if how == "a sibling fails":
                group.start_soon(fails)
            await forever()

    async def main():
        task = asyncio.create_task(host())
        await asyncio.sleep(0.5)
        if how == "the caller is cancelled":
            task.cancel()
        await asyncio.wait([task])
        return task

    task = run_virtual(main())
    assert [fields["task"].get_name() for _, fields in heard] == ["hangs_in_clean_up"]
    if how == "the caller is cancelled":
        assert task.cancelled()
    else:
        expected = ExceptionGroup if how == "a sibling fails" else TimeoutError
        assert isinstance(task.exception(), expected)


def test_a_background_child_that_does_not_stop_is_named(heard):
    """A service that hangs as its group ends is named, though nothing failed."""

    async def main():
        async with TaskGroup() as group:
            group.start_background(hangs_in_clean_up, name="heartbeat")
            await asyncio.sleep(0)

    run_virtual(main())
    assert [fields["task"].get_name() for _, fields in heard] == ["heartbeat"]


def test_a_body_that_does_not_end_is_named(heard):
    """The group's own block may be what hangs: it is named by its task."""

    async def main():
        async with TaskGroup() as group:
            asyncio.current_task().set_name("the body")
            group.cancel()
            await hangs_in_clean_up()

    run_virtual(main())
    assert [fields["task"].get_name() for _, fields in heard] == ["the body"]


def test_a_child_of_a_cancelled_start_is_named(heard):
    """The caller of `start` waits for its child after its own cancellation, not in silence."""

    async def child(task_status):
        await hangs_in_clean_up()

    async def main():
        async with TaskGroup() as group:
            starter = asyncio.create_task(group.start(child, name="slow start"))
            await asyncio.sleep(1)
            starter.cancel()
            await asyncio.wait([starter])

    run_virtual(main())
    assert [fields["task"].get_name() for _, fields in heard] == ["slow start"]


def test_children_that_end_in_time_are_not_named(heard):
    """Nothing is said of a clean-up that is over before, and the watch ends with the group."""

    async def main():
        async with TaskGroup() as group:
            group.start_soon(hangs_in_clean_up, PATIENCE - 1)
            group.start_background(hangs_in_clean_up, PATIENCE - 1)
            await asyncio.sleep(0)
            group.cancel()
        async with TaskGroup() as empty:
            empty.cancel()
        await asyncio.sleep(10 * PATIENCE)

    run_virtual(main())
    assert heard == []


def test_without_listeners_there_is_still_the_warning(caplog):
    """The warning does not depend on anybody who subscribes."""

    async def main():
        async with TaskGroup() as group:
            group.start_soon(hangs_in_clean_up)
            await asyncio.sleep(0)
            group.cancel()

    with caplog.at_level(logging.WARNING, logger="aioconc"):
        run_virtual(main())
    assert len(caplog.records) == 1


def test_a_supervisor_keeps_to_the_shutdown_time_of_each_child(heard):
    """`shutdown=None` waits in silence, also where the supervisor is cancelled from outside."""

    async def host():
        async with Supervisor() as supervisor:
            supervisor.start_child(hangs_in_clean_up, shutdown=None)
            await forever()

    async def main():
        task = asyncio.create_task(host())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run_virtual(main())
    assert heard == []


async def test_the_stack_of_a_coroutine_goes_through_all_that_it_awaits():
    """Coroutines and generators are followed inwards, up to what Python does not let us look into."""

    class Gate:
        def __await__(self):
            yield from asyncio.Event().wait().__await__()

    async def inner():
        await Gate()

    async def outer():
        await inner()

    async def numbers():
        yield await inner()

    async def reader():
        async for _ in numbers():
            pass

    def places(task):
        return re.findall(r"in (\w+)$", stack_of(task.get_coro()), re.MULTILINE)

    tasks = [asyncio.create_task(outer()), asyncio.create_task(reader())]
    await asyncio.sleep(0)
    found = [places(task) for task in tasks]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert found == [["outer", "inner", "__await__"], ["reader"]]
    assert stack_of(tasks[0].get_coro()) == ""
    fresh = outer()
    assert "in outer" in stack_of(fresh)
    fresh.close()
