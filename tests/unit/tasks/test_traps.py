"""What went wrong elsewhere, held here: one test for each known trap of cancel counting and joins."""

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref

import anyio
import pytest

from aioconc.errors import TaskCancelled
from aioconc.flow import gather_limited
from aioconc.tasks import (
    CancelScope,
    TaskGroup,
    effective_deadline,
    fail_after,
    move_on_after,
    shielded,
)


async def forever():
    await asyncio.Event().wait()


async def fails(error=None):
    await asyncio.sleep(0)
    raise error or ValueError("child")


def cancelling():
    return asyncio.current_task().cancelling()


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
            await _passes(100)
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


# ---------------------------------------------------------------------- limits and handshakes


async def test_a_queued_child_has_the_context_of_its_call():
    """A child that waits for a slot sees the variables of start_soon's caller."""
    var = contextvars.ContextVar("var")
    seen = []

    async def child():
        seen.append(var.get())
        var.set("changed by a child")

    async with TaskGroup(limit=1) as group:
        for n in range(3):
            var.set(n)
            group.start_soon(child)
    assert seen == [0, 1, 2]


async def test_slots_are_conserved_when_waiting_spawns_are_cancelled():
    """However waiters go away, the limit's number of children can run afterwards."""
    async with TaskGroup(limit=2) as group:
        gates = [asyncio.Event() for _ in range(2)]
        for gate in gates:
            await group.spawn(gate.wait)
        waiters = [asyncio.create_task(group.spawn(asyncio.sleep, 0)) for _ in range(4)]
        await asyncio.sleep(0)
        waiters[1].cancel()
        gates[0].set()
        await asyncio.sleep(0)
        waiters[0].cancel()
        gates[1].set()
        await asyncio.gather(*waiters, return_exceptions=True)
        for _ in range(2):
            await group.spawn(asyncio.sleep, 0)
    assert group.statistics().running == 0
    assert group._slots.reserved == 0


async def test_start_gives_a_late_error_to_the_group():
    """A child that fails while its starter is cancelled fails the group: no error is lost."""

    async def child(task_status):
        try:
            await forever()
        finally:
            raise OSError("clean-up")

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            starter = asyncio.create_task(group.start(child))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            starter.cancel()
            await asyncio.wait([starter])
            await forever()
    assert [str(each) for each in caught.value.exceptions] == ["clean-up"]


async def test_background_children_are_cancelled_once():
    """A service child gets one cancel, also when another one fails as it stops."""
    cancels = []

    async def service(error=None):
        try:
            await forever()
        except asyncio.CancelledError:
            cancels.append(1)
            if error:
                raise error from None
            for _ in range(5):
                await asyncio.sleep(0)
            raise

    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            group.start_background(service)
            group.start_background(service, OSError("stop"))
            await asyncio.sleep(0)
    assert len(cancels) == 2


async def test_cancelling_the_scope_of_a_group_cancels_its_children_at_once():
    """Children do not wait for a body that shields itself."""
    cancelled = asyncio.Event()

    async def child():
        try:
            await forever()
        finally:
            cancelled.set()

    async with TaskGroup() as group:
        group.start_soon(child)
        await asyncio.sleep(0)
        group.scope.cancel()
        await shielded(cancelled.wait())


async def test_a_child_of_a_further_scope_sees_the_group_and_not_that_scope():
    """A scope that the body opens around create_task is not the child's."""
    seen = []

    async def child():
        seen.append(effective_deadline())

    with move_on_after(60) as outer:
        async with TaskGroup() as group:
            with move_on_after(5):
                group.start_soon(child)
    assert seen == [outer.deadline]


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


# ---------------------------------------------------------------------- eager children


def _eager_from_now_on():
    # Without effect on Python 3.11, whose tests are then those of lazy tasks.
    def factory(loop, coro, *, eager_start=None, **options):
        eager = True if eager_start is None else eager_start
        return asyncio.Task(coro, loop=loop, eager_start=eager, **options)

    if hasattr(asyncio, "eager_task_factory"):
        asyncio.get_running_loop().set_task_factory(factory)


async def _passes(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def _ends_within(task, passes=200):
    """Wait for the task in passes of the loop; a group that hangs fails instead of waiting."""
    for _ in range(passes):
        if task.done():
            return await task
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    raise AssertionError("did not end")


@pytest.mark.parametrize("limit", [None, 1, 2])
@pytest.mark.parametrize("way", ["start_soon", "spawn", "create_task", "start_background", "queue"])
async def test_a_child_of_a_factory_made_eager_later_cancels_its_group(limit, way):
    """The group ends, whichever way the child came and whatever the limit."""

    async def child(group):
        group.cancel()
        await forever()

    async def host():
        async with TaskGroup(limit=limit) as group:
            _eager_from_now_on()
            if way == "create_task":
                group.create_task(child(group))
            elif way == "spawn":
                await group.spawn(child, group)
            elif way == "queue":
                for _ in range(3):
                    group.start_soon(asyncio.sleep, 0)
                group.start_soon(child, group)
            else:
                getattr(group, way)(child, group)
            await forever()

    await _ends_within(asyncio.create_task(host()))


@pytest.mark.parametrize("way", ["start_soon", "spawn", "create_task", "queue"])
async def test_an_eager_child_takes_one_slot_during_its_first_step(way):
    """A sibling that it starts before it suspends gets the other slot at once."""
    release = asyncio.Event()

    async def parent(group):
        group.start_soon(sibling)
        await release.wait()

    async def sibling():
        release.set()

    async def host():
        async with TaskGroup(limit=2) as group:
            if way == "spawn":
                await group.spawn(parent, group)
            elif way == "create_task":
                group.create_task(parent(group))
            elif way == "queue":
                for _ in range(2):
                    group.start_soon(asyncio.sleep, 0)
                group.start_soon(parent, group)
            else:
                group.start_soon(parent, group)

    await _ends_within(asyncio.create_task(host()))


@pytest.mark.parametrize("way", ["start", "start_background"])
async def test_an_eager_child_outside_the_limit_takes_no_slot(way):
    """What it starts in its first step runs at once, in a group of one slot."""
    release = asyncio.Event()

    async def sibling():
        release.set()

    async def parent(group, task_status=None):
        group.start_soon(sibling)
        await release.wait()
        if task_status is not None:
            task_status.started()

    async def host():
        async with TaskGroup(limit=1) as group:
            if way == "start":
                await group.start(parent, group)
            else:
                group.start_background(parent, group)
                await release.wait()

    await _ends_within(asyncio.create_task(host()))


async def test_create_task_keeps_to_the_limit_while_the_group_joins():
    """A full group refuses a child's create_task also after the body has ended."""
    refused = []

    async def child(group):
        await _passes(3)
        with pytest.raises(RuntimeError, match="is full"):
            group.create_task(forever())
        refused.append(1)

    async with TaskGroup(limit=1) as group:
        group.start_soon(child, group)
    assert refused


# ---------------------------------------------------------------------- errors beside others


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_a_base_error_of_a_child_leaves_and_the_error_beside_it_is_reported(leaving):
    """The program ends with the base exception; the sibling's error goes to the loop's handler."""
    reports, host = [], []

    async def child(error):
        try:
            await forever()
        finally:
            raise error

    async def main():
        host.append(asyncio.current_task())
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: reports.append(context["exception"])
        )
        async with TaskGroup() as group:
            group.start_soon(child, beside)
            await asyncio.sleep(0)
            group.start_soon(fails, leaving("child"))
            await forever()

    beside = ValueError("beside")
    with pytest.raises(leaving), asyncio.Runner() as runner:
        try:
            runner.run(main())
        except leaving:
            # It has left the loop from inside the child's step; the host goes on when asked to.
            with pytest.raises(leaving):
                runner.get_loop().run_until_complete(host[0])
            raise
    assert reports == [beside]


async def test_a_cancelled_error_keeps_its_identity_through_nested_blocks():
    """A host's scope recognises its cancel behind gather, group and shield."""

    async def inner():
        seen = []
        try:
            async with TaskGroup() as group:
                group.start_soon(forever)
                try:
                    await shielded(_passes(20))
                    await forever()
                except asyncio.CancelledError as error:
                    seen.append(error)
                    raise
        except asyncio.CancelledError as error:
            assert error is seen[0]
            raise

    with anyio.move_on_after(60) as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await inner()
    assert scope.cancelled_caught
    assert cancelling() == 0
    with anyio.move_on_after(60) as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await gather_limited(inner(), inner(), limit=2)
    assert scope.cancelled_caught
    assert cancelling() == 0


async def test_a_time_limit_and_failing_children_are_in_one_group():
    """Children that fail as the time limit cancels them stand beside the TimeoutError."""

    async def child():
        try:
            await forever()
        finally:
            raise OSError("clean-up")

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup(timeout=60) as group:
            group.start_soon(child)
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(group.scope._expire)  # as its timer does
            await forever()
    kinds = sorted(type(each).__name__ for each in caught.value.exceptions)
    assert kinds == ["OSError", "TimeoutError"]
    assert cancelling() == 0


async def test_a_child_that_fails_before_the_time_limit_leaves_no_timeout():
    """The first failure decides: no TimeoutError beside it, and the timer is gone."""
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup(timeout=60) as group:
            group.start_soon(fails)
            await forever()
    assert [type(each) for each in caught.value.exceptions] == [ValueError]
    assert group.scope._timer is None


# ---------------------------------------------------------------------- the handshake of start


async def test_a_child_that_fails_before_it_is_ready_fails_its_starter_only():
    """The group goes on."""

    async def child(task_status):
        await fails(OSError("not ready"))

    async with TaskGroup() as group:
        with pytest.raises(OSError, match="not ready"):
            await group.start(child)
        handle = group.start_soon(asyncio.sleep, 0, 7)
    assert handle.result() == 7


async def test_a_child_that_ends_without_saying_that_it_is_ready():
    """The starter gets a RuntimeError that names the child."""

    async def quick(task_status):
        pass

    async with TaskGroup() as group:
        with pytest.raises(RuntimeError, match="quick ended without calling"):
            await group.start(quick)


async def test_a_child_that_says_twice_that_it_is_ready_fails_the_group():
    """The starter has its value; the second call is the child's error."""

    async def twice(task_status):
        task_status.started(1)
        await asyncio.sleep(0)
        task_status.started(2)

    values = []
    with pytest.raises(ExceptionGroup, match="unhandled") as caught:
        async with TaskGroup() as group:
            values.append(await group.start(twice))
            await forever()
    assert values == [1]
    assert "already called" in str(caught.value.exceptions[0])


async def test_a_starter_cancelled_before_ready_outlasts_the_child():
    """The child has ended when the cancelled start raises, and the group goes on."""
    ended = []

    async def child(task_status):
        try:
            await forever()
        finally:
            await shielded(_passes(5))
            ended.append(1)

    async with TaskGroup() as group:
        starter = asyncio.create_task(group.start(child))
        await _passes(3)
        starter.cancel()
        await asyncio.wait([starter])
        assert starter.cancelled()
        assert ended
        assert group.statistics().running == 0


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_starter_cancelled_in_the_tick_of_ready_leaves_the_child_running(cancel_first):
    """The child is ready, so it belongs to the group; its later error is not lost."""
    go = asyncio.Event()

    async def child(task_status):
        await go.wait()
        if cancel_first:
            starter.cancel()
        task_status.started(1)
        if not cancel_first:
            starter.cancel()
        await _passes(5)
        raise OSError("later")

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            starter = asyncio.create_task(group.start(child))
            await _passes(3)
            go.set()
            await asyncio.wait([starter])
            assert starter.cancelled()
            assert group.statistics().running == 1
            await forever()
    assert [str(each) for each in caught.value.exceptions] == ["later"]


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_starter_cancelled_in_the_tick_of_the_failure_leaves_it_to_the_group(cancel_first):
    """Nobody takes the error from `start` any more, so the group raises it, once."""

    async def child(task_status):
        await _passes(2)
        if cancel_first:
            starter.cancel()
        else:  # after the group's own callback, which has handed the error to `start`
            asyncio.current_task().add_done_callback(lambda _: starter.cancel())
        raise OSError("not ready")

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            starter = asyncio.create_task(group.start(child))
            await asyncio.wait([starter])
            assert starter.cancelled()
            await forever()
    assert [str(each) for each in caught.value.exceptions] == ["not ready"]


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
        await _passes(3)
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
