"""The handle of a child: queued, running, ended or dropped, and what each question then gives."""

import asyncio

import pytest

from aioconc.errors import TaskCancelled
from aioconc.tasks import TaskGroup
from tests.unit.tasks.children import fails, forever, passes


async def test_a_handle_goes_from_queued_to_done():
    """State, questions and repr of a child that waits for its slot, runs, and ends."""
    gate = asyncio.Event()
    async with TaskGroup(limit=1) as group:
        group.start_soon(gate.wait)
        handle = group.start_soon(asyncio.sleep, 0, 7, name="seven")
        assert (handle.name, handle.state) == ("seven", "queued")
        assert (handle.done(), handle.cancelled()) == (False, False)
        for ask in (handle.result, handle.exception):
            with pytest.raises(asyncio.InvalidStateError, match="seven has not started yet"):
                ask()
        assert repr(handle) == "<TaskHandle 'seven' queued>"
        gate.set()
        assert await handle == 7
        assert (handle.state, handle.done(), handle.cancelled()) == ("done", True, False)
        assert (handle.result(), handle.exception()) == (7, None)
        assert handle.cancel() is False


async def test_several_wait_for_a_queued_child():
    """Each of those who await it before it starts gets its result."""
    gate = asyncio.Event()
    async with TaskGroup(limit=1) as group:
        group.start_soon(gate.wait)
        handle = group.start_soon(asyncio.sleep, 0, 7)

        async def wait():
            return await handle

        waiters = [asyncio.create_task(wait()) for _ in range(2)]
        await passes(2)
        gate.set()
        assert await asyncio.gather(*waiters) == [7, 7]


async def test_a_queued_child_that_is_cancelled_never_starts():
    """It is dropped: who waits for it is told, and the child behind it gets the slot."""
    gate = asyncio.Event()
    started = []

    async def child(name):
        started.append(name)

    async with TaskGroup(limit=1) as group:
        group.start_soon(gate.wait)
        dropped = group.start_soon(child, "dropped")
        group.start_soon(child, "behind")
        waiter = asyncio.create_task(dropped._wait())
        await passes(2)
        assert dropped.cancel() is True
        assert dropped.cancel() is False
        assert (dropped.state, dropped.done(), dropped.cancelled()) == ("dropped", True, True)
        gate.set()
        with pytest.raises(TaskCancelled, match="was cancelled before it started"):
            await waiter
        for ask in (dropped.result, dropped.exception):
            with pytest.raises(TaskCancelled, match="was cancelled before it started"):
                ask()
    assert started == ["behind"]


async def test_a_running_child_that_is_cancelled():
    """The reason is the message of its CancelledError; the handle gives TaskCancelled."""
    seen = []

    async def child():
        try:
            await forever()
        except asyncio.CancelledError as error:
            seen.append(error.args)
            raise

    async with TaskGroup() as group:
        handle = group.start_soon(child)
        await passes(1)
        assert handle.state == "running"
        assert handle.cancel("enough") is True
        with pytest.raises(TaskCancelled, match="child was cancelled") as caught:
            await handle
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        with pytest.raises(TaskCancelled):
            handle.exception()
    assert seen == [("enough",)]


async def test_a_failed_child():
    """`exception` gives what the child raised, and `result` raises it."""
    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            handle = group.start_soon(fails)
    assert isinstance(handle.exception(), ValueError)
    with pytest.raises(ValueError, match="child"):
        handle.result()


async def test_a_cancelled_waiter_leaves_a_queued_child_alone():
    """Cancelling who waits for a queued child ends the wait; the child runs when it is its turn."""
    gate = asyncio.Event()
    async with TaskGroup(limit=1) as group:
        group.start_soon(gate.wait)
        handle = group.start_soon(asyncio.sleep, 0, 7)
        waiter = asyncio.create_task(handle._wait())
        await passes(2)
        waiter.cancel()
        await asyncio.wait([waiter])
        gate.set()
    assert waiter.cancelled()
    assert handle.result() == 7
