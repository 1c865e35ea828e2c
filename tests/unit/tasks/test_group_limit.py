"""The limit of a group, its background children and the handshake of `start`."""

import asyncio
import contextvars

import pytest

from aioconc.tasks import TaskGroup, effective_deadline, move_on_after, shielded
from tests.unit.tasks.children import fails, forever, passes

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
            await shielded(passes(5))
            ended.append(1)

    async with TaskGroup() as group:
        starter = asyncio.create_task(group.start(child))
        await passes(3)
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
        await passes(5)
        raise OSError("later")

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            starter = asyncio.create_task(group.start(child))
            await passes(3)
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
        await passes(2)
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


async def test_a_starter_cancelled_twice_raises_the_newer_cancel():
    """The second cancel arrives while the child still ends; its sender gets it back."""
    gate = asyncio.Event()

    async def child(task_status):
        try:
            await forever()
        finally:
            await gate.wait()

    async with TaskGroup() as group:
        starter = asyncio.create_task(group.start(child))
        await passes(3)
        starter.cancel("first")
        await passes(2)
        starter.cancel("second")
        await passes(2)
        assert not starter.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await starter
    error, said = caught.value, []
    while error is not None:
        said += error.args
        error = error.__context__
    assert said == ["second", "first"]


async def test_several_children_are_started_one_after_the_other():
    """Each `start` has a handshake of its own."""

    async def child(n, task_status):
        await asyncio.sleep(0)
        task_status.started(n)

    async with TaskGroup() as group:
        assert [await group.start(child, n) for n in range(3)] == [0, 1, 2]


async def test_a_spawn_cancelled_in_the_tick_of_the_groups_cancel():
    """A caller that has left the line is not spoken to again."""
    async with TaskGroup(limit=1) as group:
        group.start_soon(forever)
        waiter = asyncio.create_task(group.spawn(forever))
        await passes(2)
        waiter.cancel()
        group.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()


async def test_queued_children_of_a_cancelled_group_never_start():
    """They are dropped at once, and who awaits them is told."""
    started = []

    async def child():
        started.append(1)

    async with TaskGroup(limit=1) as group:
        group.start_soon(forever)
        queued = [group.start_soon(child) for _ in range(3)]
        await passes(1)
        group.cancel()
        group.cancel("again")  # the first reason counts
        assert [handle.state for handle in queued] == ["dropped"] * 3
    assert started == []
    assert group.scope.reason is None


@pytest.mark.parametrize("cancelled_too", [False, True])
async def test_a_spawn_that_waits_is_refused_when_its_group_shuts_down(cancelled_too):
    """Its caller is told, or is cancelled where that came in the same tick; nothing starts."""
    async with TaskGroup(limit=1) as group:
        group.start_soon(forever)
        waiter = asyncio.create_task(group.spawn(forever))
        await passes(2)
        group.cancel()
        if cancelled_too:
            waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled() == cancelled_too
    if not cancelled_too:
        assert "is shutting down" in str(waiter.exception())


async def test_a_child_that_ends_in_the_tick_of_the_report_is_not_reported():
    """A child that is done is not called unfinished, though its group has not heard of it yet."""
    seen = []

    async def child(group):
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(lambda: seen.append([*group._unfinished()]))

    async with TaskGroup() as group:
        host = asyncio.current_task()
        group.start_soon(child, group)
        await passes(4)
    assert seen == [[host]]


def test_a_failure_after_the_end_of_its_host_is_reported(loop_errors):
    """Somebody tore the host down without its clean-up: the error goes to the loop's handler."""
    reports = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        group = TaskGroup()

        async def host():
            await group.__aenter__()
            group.start_soon(fails)

        await asyncio.create_task(host())
        await passes(4)

    asyncio.run(main())
    (report,) = reports
    assert isinstance(report["exception"], ValueError)
    assert "failed after the end of <TaskGroup" in report["message"]
    assert loop_errors == []
