"""Whose cancel it was: counts, order and identity, where others went wrong."""

import asyncio
import contextlib

import anyio
import pytest

from aioconc.errors import TaskCancelled
from aioconc.tasks import CancelScope, TaskGroup, fail_after, move_on_after, shielded
from tests.unit.tasks.children import cancelling, fails, forever, passes

# ---------------------------------------------------------------------- counting cancels


async def test_a_swallowed_cancel_of_a_scope_is_taken_back():
    """The scope uncancels what it cancelled even if the body did not raise (gh-95289)."""
    with move_on_after(0) as scope, contextlib.suppress(asyncio.CancelledError):
        await forever()
    assert cancelling() == 0
    assert (scope.cancel_called, scope.cancelled_caught) == (True, False)


async def test_an_old_swallowed_cancel_does_not_disturb_a_scope_or_a_group():
    """The count at entry is the baseline, not zero."""

    async def work():
        asyncio.current_task().cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError), fail_after(0):
            await forever()
        with pytest.raises(TimeoutError):
            async with TaskGroup(timeout=0):
                await forever()
        with pytest.raises(ExceptionGroup):
            async with TaskGroup() as group:
                group.start_soon(fails)
                await forever()
        await asyncio.sleep(0)
        return cancelling()

    assert await asyncio.create_task(work()) == 1


@pytest.mark.parametrize("outer_first", [True, False])
async def test_outer_cancel_beats_a_timeout_in_the_same_tick(outer_first):
    """With both in one tick the cancellation passes through, and both counts settle."""

    async def work():
        task = asyncio.current_task()
        scope = fail_after(60)
        try:
            with scope:
                calls = [task.cancel, scope._expire]
                for call in calls if outer_first else calls[::-1]:
                    asyncio.get_running_loop().call_soon(call)
                await forever()
        except asyncio.CancelledError:
            return task.uncancel()

    assert await asyncio.create_task(work()) == 0


async def test_nested_groups_that_fail_in_the_same_tick():
    """The inner group does not swallow the cancel of the outer one (gh-116720)."""
    reached = []
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as outer:
            outer.start_soon(fails, ValueError("outer"))
            try:
                async with TaskGroup() as inner:
                    inner.start_soon(fails, KeyError("inner"))
                    await forever()
            except* KeyError:
                pass
            await asyncio.sleep(0)
            reached.append(1)
    assert not reached
    assert [str(each) for each in caught.value.exceptions] == ["outer"]
    assert cancelling() == 0


async def test_an_outer_timeout_during_the_join_of_a_cancelled_group_surfaces():
    """A cancel from outside that arrives during a quiet join is not lost (gh-155433)."""

    async def slow():
        try:
            await forever()
        finally:
            await shielded(asyncio.sleep(0.01))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            async with TaskGroup() as group:
                group.start_soon(slow)
                await asyncio.sleep(0)
                group.cancel()
    assert cancelling() == 0


async def test_a_handled_error_leaves_the_outer_cancel_armed():
    """Errors go first; the pending cancel strikes at the next await."""

    async def work():
        try:
            async with TaskGroup() as group:
                group.start_soon(fails)
                asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
                try:
                    await forever()
                finally:
                    await shielded(asyncio.sleep(0))
        except* ValueError:
            pass
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        return "both"

    assert await asyncio.create_task(work()) == "both"


async def test_generator_exit_leaves_bare():
    """A break out of an async generator that holds a group ends quietly."""

    async def numbers():
        async with TaskGroup() as group:
            group.start_soon(forever)
            yield 1

    source = numbers()
    assert await anext(source) == 1
    await source.aclose()


async def test_awaiting_a_child_that_somebody_cancelled():
    """A third-party cancel is TaskCancelled to the waiter, who goes on."""
    async with TaskGroup() as group:
        handle = group.start_soon(forever)
        await asyncio.sleep(0)
        handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle
        await asyncio.sleep(0)
    assert cancelling() == 0


async def test_a_child_that_swallows_its_cancel_is_joined():
    """The block ends after the child, whatever the child does with its cancel."""
    ended = []

    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        await asyncio.sleep(0)
        ended.append(1)

    async with TaskGroup() as group:
        group.start_soon(stubborn)
        await asyncio.sleep(0)
        group.cancel()
    assert ended


async def test_a_body_that_raises_the_error_of_a_child_counts_it_once():
    """An error that a handle brings into the body is in the group once."""
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            handle = group.start_soon(fails)
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            handle.result()
    assert len(caught.value.exceptions) == 1


async def test_a_scope_cancelled_by_a_callback_strikes_at_once():
    """No task is running then, so its host is cancelled before anything else can happen to it."""
    with CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel, "timer")
        await asyncio.sleep(0)
        await forever()
    assert (scope.cancelled_caught, scope.reason) == (True, "timer")
    assert cancelling() == 0


# ---------------------------------------------------------------------- anyio hosts


async def test_a_slow_join_in_a_cancelled_anyio_scope_does_not_spin():
    """anyio cancels a host anew in every pass of the loop; the join leaves its sight (anyio#1111).

    A join that swallowed each cancel and waited again would run once per pass.
    """
    host = asyncio.current_task()
    cancels = []

    async def slow():
        try:
            await forever()
        finally:
            await passes(100)
            cancels.append(host.cancelling())

    with anyio.CancelScope() as scope:
        async with TaskGroup() as group:
            group.start_soon(slow)
            await asyncio.sleep(0)
            scope.cancel()
            await forever()
    assert scope.cancelled_caught
    # One reaches the body and one the join, which then shields itself; asyncio.TaskGroup has 102.
    assert 1 <= cancels[0] <= 5
    assert cancelling() == 0


async def test_an_anyio_scope_recognises_its_cancel_through_a_group_and_a_shield():
    """The original CancelledError reaches the host's scope."""
    with anyio.move_on_after(0.005) as scope:
        async with TaskGroup() as group:
            group.start_soon(forever)
            await shielded(asyncio.sleep(0.01))
    assert scope.cancelled_caught


async def test_a_grace_counts_at_once_in_a_cancelled_anyio_scope():
    """Clean-up that hangs is cut short where no further cancel will arrive."""
    with anyio.CancelScope() as scope:
        try:
            scope.cancel()
            await forever()
        finally:
            with pytest.raises(TimeoutError, match="of grace"):
                await shielded(forever(), grace=0)
    assert scope.cancelled_caught


# ---------------------------------------------------------------------- cancels in the last tick


@pytest.mark.parametrize("cancel_first", [True, False])
@pytest.mark.parametrize("wait", ["handle", "shielded"])
async def test_a_waiter_cancelled_in_the_tick_of_the_result_is_cancelled(wait, cancel_first):
    """The cancel is not swallowed by the result, and the work keeps its outcome."""
    result = asyncio.get_running_loop().create_future()

    async def work():
        return await result

    async with TaskGroup() as group:
        handle = group.start_soon(work)

        async def waiter():
            return await (handle if wait == "handle" else shielded(result))

        task = asyncio.create_task(waiter())
        await passes(3)
        if cancel_first:
            task.cancel()
        result.set_result(1)
        if not cancel_first:
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await handle == 1


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_spawn_cancelled_in_the_tick_of_its_slot_passes_the_slot_on(cancel_first):
    """`fn` does not start, and the next in the queue gets the place."""
    gate = asyncio.Event()
    begun = []

    async def child(name):
        begun.append(name)

    async with TaskGroup(limit=1) as group:
        holder = group.start_soon(gate.wait)
        await asyncio.sleep(0)
        task = asyncio.create_task(group.spawn(child, "cancelled"))
        await asyncio.sleep(0)
        following = group.start_soon(child, "next")

        def strike():
            if group._slots.reserved:  # the slot has been given, and its taker has not run
                task.cancel()
            else:
                asyncio.get_running_loop().call_soon(strike)

        if cancel_first:
            holder._task.add_done_callback(lambda _: task.cancel())
        else:
            holder._task.add_done_callback(lambda _: strike())
        gate.set()
        await asyncio.wait([task])
        assert task.cancelled()
        await following
    assert begun == ["next"]
    assert (group._slots.reserved, group._slots.taken) == (0, set())
