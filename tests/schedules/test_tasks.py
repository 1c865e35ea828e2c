"""Explored orders of groups, scopes, shields and supervisors: their promises hold in each."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from aioconc import (
    CancelScope,
    Supervisor,
    TaskGroup,
    fail_after,
    move_on_after,
    shielded,
)
from aioconc.tasks import TaskStatus
from aioconc.testing import explore

Program = Callable[[], Awaitable[None]]


async def no_tasks_are_left() -> None:
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def steps(count: int) -> int:
    for _ in range(count):
        await asyncio.sleep(0)
    return count


async def group_waits_for_all() -> None:
    """Children, and children of children, have ended at the end of the block."""
    ended = 0

    async def child(depth: int) -> None:
        nonlocal ended
        await steps(2)
        if depth:
            group.create_task(child(depth - 1))
            group.create_task(child(depth - 1))
        ended += 1

    async with TaskGroup() as group:
        group.create_task(child(1))
        group.create_task(child(1))
    assert ended == 6
    await no_tasks_are_left()


async def limited_group_keeps_its_limit() -> None:
    """Queued children start as slots come free, never more than the limit."""
    now = 0

    async def child() -> int:
        nonlocal now
        now += 1
        assert now <= 2
        await steps(2)
        now -= 1
        return 7

    async with TaskGroup(limit=2) as group:
        handles = [group.start_soon(child) for _ in range(5)]
        await group.spawn(child)
    assert [handle.result() for handle in handles] == [7] * 5
    await no_tasks_are_left()


async def failure_cancels_the_others() -> None:
    """One failure ends all; every error is in the group, and none is lost."""
    running = 0

    async def fail() -> None:
        await steps(2)
        raise ValueError

    async def other() -> None:
        nonlocal running
        running += 1
        try:
            await asyncio.Event().wait()
        finally:
            await steps(1)
            running -= 1

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            group.create_task(other())
            group.create_task(fail())
            group.create_task(other())
    assert [type(each) for each in caught.value.exceptions] == [ValueError]
    assert running == 0
    await no_tasks_are_left()


async def cancelled_from_outside() -> None:
    """A cancellation of the owner, whenever it comes, ends the children and is raised."""
    ended = 0

    async def child() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    begun = 0

    async def owner() -> None:
        nonlocal begun
        async with TaskGroup() as group:
            for _ in range(2):
                await group.spawn(child)
                begun += 1

    task = asyncio.create_task(owner())
    await steps(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended <= begun
    await no_tasks_are_left()


async def quiet_cancel_ends_the_group() -> None:
    """`cancel` from a child ends the block without an error."""

    async def child() -> None:
        await steps(1)
        group.cancel("enough")

    async with TaskGroup() as group:
        group.create_task(child())
        group.create_task(asyncio.sleep(3600))
    await no_tasks_are_left()


async def start_waits_for_the_handshake() -> None:
    """`start` returns what the child reported, and the child goes on."""

    async def server(*, task_status: TaskStatus[int]) -> None:
        await steps(2)
        task_status.started(8080)
        await steps(2)

    async with TaskGroup() as group:
        assert await group.start(server) == 8080
    await no_tasks_are_left()


async def scopes_that_time_out_together() -> None:
    """Nested scopes whose deadlines are the same: the outer one's error leaves."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            with move_on_after(1):
                await asyncio.sleep(3)
            with fail_after(1):
                await asyncio.sleep(3)
    await no_tasks_are_left()


async def scope_cancelled_by_a_sibling() -> None:
    """A scope that another task cancels ends there and nowhere else."""
    after = False

    async def worker(scope: CancelScope) -> None:
        nonlocal after
        with scope:
            await asyncio.sleep(3600)
        await steps(1)
        after = True

    async with TaskGroup() as group:
        scope = CancelScope()
        group.create_task(worker(scope))
        await steps(1)
        scope.cancel()
    assert after
    await no_tasks_are_left()


async def shielded_work_ends() -> None:
    """Whenever the caller is cancelled, the shielded work has ended when it leaves."""
    begun = done = False

    async def save() -> None:
        nonlocal done
        await steps(3)
        done = True

    async def caller() -> None:
        nonlocal begun
        begun = True
        await shielded(save())

    task = asyncio.create_task(caller())
    await steps(2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert done == begun
    await no_tasks_are_left()


async def supervisor_restarts() -> None:
    """A child that fails twice runs a third time; the supervisor ends when its block does."""
    runs = 0

    async def child() -> None:
        nonlocal runs
        runs += 1
        await steps(1)
        if runs < 3:
            raise OSError
        ready.set()
        await asyncio.Event().wait()

    ready = asyncio.Event()
    async with Supervisor(max_restarts=5, within=60.0) as supervisor:
        supervisor.start_child(child)
        await ready.wait()
        supervisor.cancel()
    assert runs == 3
    await no_tasks_are_left()


PROGRAMS = [
    group_waits_for_all,
    limited_group_keeps_its_limit,
    failure_cancels_the_others,
    cancelled_from_outside,
    quiet_cancel_ends_the_group,
    start_waits_for_the_handshake,
    scopes_that_time_out_together,
    scope_cancelled_by_a_sibling,
    shielded_work_ends,
    supervisor_restarts,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.__name__)
def test_the_promise_holds_in_every_explored_order(program: Program) -> None:
    """No schedule of the sample breaks it."""
    explore(program, budget=120)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.__name__)
def test_the_promise_holds_in_thousands_of_orders(program: Program) -> None:
    """The same with a budget that exhausts two demotions where that is feasible."""
    explore(program, budget=3_000)  # type: ignore[arg-type]
