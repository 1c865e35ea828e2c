"""Wrong use of groups and scopes: refused before anything starts, with the line that is right."""

import asyncio
import threading

import pytest

from aioconc.errors import TaskCancelled
from aioconc.tasks import CancelScope, TaskGroup, move_on_after, shielded
from tests.unit.tasks.children import cancelling, fails, forever, passes


async def test_a_coroutine_in_place_of_a_function():
    """The coroutine is closed, and the message has the right line."""
    async with TaskGroup() as group:
        coro = forever()
        with pytest.raises(TypeError, match=r"did you mean start_soon\(forever, \.\.\.\)"):
            group.start_soon(coro)
        with pytest.raises(TypeError, match="expected an async function, got 3"):
            await group.spawn(3)
        assert group.statistics().running == 0


async def test_a_function_that_is_not_async_fails_as_its_child():
    """What it returned is named in the child's error."""
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            group.start_soon(len, "abc")
    (error,) = caught.value.exceptions
    assert isinstance(error, TypeError)
    assert "len returned 3, which cannot be awaited" in str(error)


async def test_wrong_arguments_fail_the_child_and_not_its_starter():
    """A coroutine function that does not take the arguments fails inside the group."""
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            group.start_soon(fails, 1, 2, 3)
    (error,) = caught.value.exceptions
    assert isinstance(error, TypeError)
    assert "positional argument" in str(error)


async def test_a_group_that_is_not_open_takes_no_child():
    """Before its block, after it, and while it shuts down: the message says which."""
    group = TaskGroup(name="g")
    assert repr(group) == "<TaskGroup 'g' new>"
    with pytest.raises(RuntimeError, match="has not been entered; use `async with`"):
        group.start_soon(forever)
    with pytest.raises(RuntimeError, match="is not open"):
        await group.__aexit__(None, None, None)
    async with group:
        pass
    assert repr(group) == "<TaskGroup 'g' closed>"
    with pytest.raises(RuntimeError, match="is finished"):
        group.start_soon(forever)
    group.cancel()  # has no effect any more
    assert not group.scope.cancel_called
    async with TaskGroup() as group:
        group.cancel()
        with pytest.raises(RuntimeError, match="is shutting down"):
            group.start_soon(forever)


async def test_a_group_and_a_scope_need_a_task():
    """In a callback of the loop, which is no task, both are refused."""
    errors = []

    def callback():
        for enter in (TaskGroup().__aenter__().send, lambda _: CancelScope().__enter__()):
            try:
                enter(None)
            except RuntimeError as error:
                errors.append(str(error))

    asyncio.get_running_loop().call_soon(callback)
    await passes(2)
    assert len(errors) == 2
    assert all("task" in error for error in errors)


async def test_a_group_left_in_another_loop_stays_as_it_was():
    """The wrong loop gets a RuntimeError; the right one goes on and ends the group."""
    errors = []

    async def leave(group):
        with pytest.raises(RuntimeError, match="must be left in the task") as caught:
            await group.__aexit__(None, None, None)
        errors.append(caught.value)

    async with TaskGroup() as group:
        thread = threading.Thread(target=asyncio.run, args=(leave(group),))
        thread.start()
        thread.join()
        handle = group.start_soon(asyncio.sleep, 0, "still open")
    assert handle.result() == "still open"
    assert len(errors) == 1


async def test_leaving_in_another_task_tells_of_the_children_that_failed():
    """Their errors have no group to be in, and are notes of the refusal."""

    async def fails_in_clean_up():
        try:
            await forever()
        finally:
            raise OSError("disk full")

    group = TaskGroup()
    await group.__aenter__()
    group.start_soon(fails_in_clean_up)
    await passes(1)
    with pytest.raises(RuntimeError) as caught:
        await asyncio.create_task(group.__aexit__(None, None, None))
    assert "disk full" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"timeout": 1, "deadline": 1.0}, ValueError, "give timeout or deadline, not both"),
        ({"deadline": "soon"}, TypeError, "deadline must be a loop-clock time .* got 'soon'"),
        ({"deadline": True}, TypeError, "got True; pass math.inf for no deadline"),
        ({"timeout": -1}, ValueError, "timeout must be a number of seconds >= 0, got -1"),
    ],
)
def test_bad_arguments_of_a_scope(arguments, error, message):
    """Each slip is told by name, with what to pass instead."""
    with pytest.raises(error, match=message):
        CancelScope(**arguments)


async def test_a_scope_that_is_not_open():
    """Leaving it twice is refused; cancelling it afterwards has no effect."""
    with CancelScope(name="s") as scope:
        pass
    assert repr(scope) == "<CancelScope 's' closed>"
    with pytest.raises(RuntimeError, match="is not open"):
        scope.__exit__(None, None, None)
    scope.cancel()
    assert not scope.cancel_called


async def test_a_scope_closed_in_another_context_leaves_the_other_scopes_alone():
    """An async generator that is finalised elsewhere takes only its own scope along."""

    async def numbers():
        with move_on_after(60):
            yield 1

    source = numbers()
    await asyncio.create_task(anext(source))  # opened in the context of that task
    with move_on_after(60) as scope:
        with pytest.raises(RuntimeError, match="left in the task that entered it"):
            await source.aclose()
        scope.cancel()
        await forever()
    assert scope.cancelled_caught
    assert cancelling() == 0


async def test_an_error_of_shielded_work_is_the_context_of_the_cancel():
    """The caller is cancelled; what the work raised meanwhile is not lost."""
    gate = asyncio.Event()

    async def work():
        await gate.wait()
        raise OSError("disk full")

    task = asyncio.create_task(shielded(work()))
    await passes(2)
    task.cancel()
    await passes(2)
    gate.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    chain, error = [], caught.value
    while error is not None:
        chain.append(type(error))
        error = error.__context__
    assert OSError in chain


async def test_shielded_work_that_somebody_else_cancels():
    """The caller is not mistaken for a cancelled one."""
    work = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(work.cancel)
    with pytest.raises(TaskCancelled, match="cancelled by somebody else"):
        await shielded(work)
    assert cancelling() == 0
