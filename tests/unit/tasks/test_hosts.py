"""Groups and scopes in every host: kinds of hosts, other threads, other tasks."""

import asyncio
import contextlib
import contextvars
import gc
import math
import threading
import weakref

import anyio
import pytest

from aioconc.tasks import (
    CancelScope,
    TaskGroup,
    effective_deadline,
    fail_after,
    move_on_after,
    shielded,
)
from tests.unit.tasks.children import cancelling, fails, forever

# ---------------------------------------------------------------------- hosts and loops


@pytest.mark.parametrize("host", ["bare", "timeout", "standard group", "anyio", "our scope"])
async def test_a_group_works_in_every_host(host):
    """Errors, results and the count are the same in every kind of host."""
    async with contextlib.AsyncExitStack() as stack:
        if host == "timeout":
            await stack.enter_async_context(asyncio.timeout(60))
        elif host == "standard group":
            await stack.enter_async_context(asyncio.TaskGroup())
        elif host == "anyio":
            stack.enter_context(anyio.CancelScope())
        elif host == "our scope":
            stack.enter_context(CancelScope(timeout=60))
        with pytest.raises(ExceptionGroup) as caught:
            async with TaskGroup() as group:
                handle = group.start_soon(asyncio.sleep, 0, 7)
                group.start_soon(fails)
                await forever()
        assert handle.result() == 7
        assert len(caught.value.exceptions) == 1
        with pytest.raises(TimeoutError):
            async with TaskGroup(timeout=0):
                await forever()
        await asyncio.sleep(0)
        assert cancelling() == 0


async def test_a_child_that_cancels_its_group_before_its_first_suspension():
    """The group ends, whether tasks are eager or not (gh-155418)."""

    async def child(group):
        group.cancel()
        await forever()

    async with TaskGroup() as group:
        group.start_soon(child, group)
        await forever()


async def test_an_eager_child_that_spawns_a_failing_sibling():
    """No child is missed by the abort (gh-128550)."""

    async def parent(group):
        group.create_task(fails())
        await forever()

    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            group.create_task(parent(group))
            await forever()


async def test_zero_seconds_cancel_the_first_suspension():
    """An expired scope strikes at the very first await, not at the second."""
    steps = []
    with move_on_after(0):
        steps.append(0)
        await asyncio.sleep(0)
        steps.append(1)
    assert steps == [0]


async def test_a_block_that_never_suspends_completes_although_its_time_is_up():
    """Zero seconds, or a deadline long past, strike at a suspension and nowhere else."""
    long_past = asyncio.get_running_loop().time() - 60
    with fail_after(0), CancelScope(deadline=long_past) as scope:
        result = sum(range(3))
    assert result == 3
    assert not scope.cancelled_caught
    await asyncio.sleep(0)
    assert cancelling() == 0


# ---------------------------------------------------------------------- ownership


async def test_use_from_another_thread_is_refused():
    """A group belongs to its loop: nothing is corrupted, and the error names the remedy."""
    async with TaskGroup() as group:
        errors = []

        def elsewhere():
            for call in (lambda: group.start_soon(forever), group.cancel, group.scope.cancel):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(str(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(errors) == 3
        assert all("call_soon_threadsafe" in error for error in errors)


async def test_another_thread_steps_no_coroutine_of_the_group():
    """A child is never started in the thread of another loop: it is refused, closed and not run."""
    stepped = []

    async def child():
        stepped.append(threading.current_thread())

    async def elsewhere(group, coro):
        with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
            group.create_task(coro)
        with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
            await group.spawn(child)

    async with TaskGroup() as group:
        coro = child()
        await asyncio.to_thread(asyncio.run, elsewhere(group, coro))
        assert group.statistics().running == 0
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await coro
    assert stepped == []


async def test_a_thread_that_inherits_the_context_is_in_no_scope_of_its_starter():
    """What a new thread runs is not cancelled by the scopes around the call that started it.

    Builds of Python without the GIL let every new thread inherit its starter's context; here the
    thread gets a copy by hand, which is the same.
    """
    seen = []

    async def elsewhere():
        seen.append(effective_deadline())
        await shielded(asyncio.sleep(0))
        async with TaskGroup(timeout=60) as group:
            seen.append(await group.start_soon(asyncio.sleep, 0, "child"))

    with CancelScope(timeout=60) as scope:
        async with TaskGroup():
            scope.cancel()
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(asyncio.run, elsewhere()))
            thread.start()
            thread.join()
    assert seen == [math.inf, "child"]


async def test_leaving_in_another_task_is_refused_after_the_children_have_ended():
    """The wrong task gets a RuntimeError, and no child outlives the call."""
    group = TaskGroup()
    await group.__aenter__()
    handle = group.start_soon(forever)
    with pytest.raises(RuntimeError, match="left in the task that entered it"):
        await asyncio.create_task(group.__aexit__(None, None, None))
    assert handle.cancelled()


async def test_a_scope_left_in_another_task_never_strikes():
    """Its timer is gone, so the host is not cancelled by a scope it thinks is over."""

    async def leave():
        with pytest.raises(RuntimeError, match="left in the task that entered it"):
            scope.__exit__(None, None, None)

    scope = CancelScope(timeout=0.001)
    scope.__enter__()
    await asyncio.create_task(leave())
    await asyncio.sleep(0.005)
    assert cancelling() == 0


async def test_a_group_and_a_scope_serve_one_block():
    """Reuse is refused."""
    group, scope = TaskGroup(), CancelScope()
    async with group:
        with scope:
            pass
    with pytest.raises(RuntimeError, match="make another one"):
        await group.__aenter__()
    with pytest.raises(RuntimeError, match="make another one"):
        scope.__enter__()


# The error of an eager child leads by f_back to every frame that started it, asyncio's included.
@pytest.mark.loops("asyncio", "uvloop")
async def test_a_failing_group_leaves_no_reference_cycle():
    """What a failing child held is freed without the garbage collector (gh-128552)."""

    class Local:
        pass

    async def child():
        local = Local()
        refs.append(weakref.ref(local))
        raise OSError

    refs = []
    gc.disable()
    try:
        try:
            async with TaskGroup() as group:
                group.create_task(child())
        except* OSError:
            pass
        del group
        await asyncio.sleep(0)
        assert refs[0]() is None
    finally:
        gc.enable()
