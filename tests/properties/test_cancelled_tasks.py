"""Every awaitable of `aioconc.tasks`, cancelled at each of its awaits: nothing is left or lost."""

import asyncio
import contextlib

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
from aioconc.tasks._join import cancel_and_join, join, wait_done
from tests.conftest import LoopFactory
from tests.properties.cancelling import FOREVER, TICK, Body, Books, on_every_loop, sweep


async def ready_soon(books: Books, *, task_status: TaskStatus[int]) -> None:
    with books.entry():
        await asyncio.sleep(TICK)
        task_status.started(1)
        await asyncio.sleep(TICK)


async def serve(books: Books, *, task_status: TaskStatus[int]) -> None:
    with books.entry():
        await asyncio.sleep(TICK)
        task_status.started(1)
        await asyncio.sleep(FOREVER)


# -- groups -----------------------------------------------------------------------------------


async def group(books: Books) -> None:
    async with TaskGroup() as group:
        for ticks in (1, 2, 1):
            group.start_soon(books.work, ticks)


async def group_with_body(books: Books) -> None:
    async with TaskGroup() as group:
        group.start_soon(books.work, 2)
        await books.work(1)


async def group_of_create_task(books: Books) -> None:
    async with TaskGroup() as group:
        task = group.create_task(books.work(1))
        await task


async def group_with_handles(books: Books) -> None:
    async with TaskGroup() as group:
        first = group.start_soon(books.work, 1)
        second = group.start_soon(books.work, 2)
        assert await first + await second == 3


async def group_with_limit(books: Books) -> None:
    async with TaskGroup(limit=1) as group:
        for ticks in (1, 1, 1):
            await group.spawn(books.work, ticks)


async def group_with_queue(books: Books) -> None:
    async with TaskGroup(limit=2) as group:
        handles = [group.start_soon(books.work, ticks) for ticks in (1, 2, 1)]
        await handles[-1]


async def group_with_time_limit(books: Books) -> None:
    async with TaskGroup(timeout=TICK) as group:
        group.start_soon(books.forever)
        group.start_soon(books.forever)


async def group_in_time(books: Books) -> None:
    async with TaskGroup(timeout=3600) as group:
        group.start_soon(books.work)


async def group_cancelled_by_body(books: Books) -> None:
    async with TaskGroup() as group:
        group.start_soon(books.forever)
        await books.work(1)
        group.cancel()
        await asyncio.sleep(TICK)


async def group_cancelled_by_child(books: Books) -> None:
    async def stop() -> None:
        await books.work(1)
        group.cancel()

    async with TaskGroup() as group:
        group.start_soon(books.forever)
        group.start_soon(stop)


async def group_with_failure(books: Books) -> None:
    async with TaskGroup() as group:
        group.start_soon(books.fail, 1)
        group.start_soon(books.forever)
        await books.work(2)


async def group_with_failing_body(books: Books) -> None:
    async with TaskGroup() as group:
        group.start_soon(books.forever)
        await books.fail(1)


async def group_in_group(books: Books) -> None:
    async with TaskGroup() as outer:
        outer.start_soon(books.work, 3)
        async with TaskGroup() as inner:
            inner.start_soon(books.work, 1)
            inner.start_soon(books.work, 2)


async def group_in_cancelled_group(books: Books) -> None:
    async with TaskGroup() as outer:
        outer.start_soon(books.fail, 1)
        async with TaskGroup() as inner:
            inner.start_soon(books.forever)


async def group_in_child(books: Books) -> None:
    async def child() -> None:
        async with TaskGroup() as inner:
            inner.start_soon(books.work, 1)
            await books.work(1)

    async with TaskGroup() as outer:
        outer.start_soon(child)
        outer.start_soon(child)


async def group_with_handshake(books: Books) -> None:
    async with TaskGroup() as group:
        with contextlib.suppress(RuntimeError):  # the child was cancelled before it was ready
            assert await group.start(ready_soon, books) == 1
        await books.work(1)


async def group_with_failed_handshake(books: Books) -> None:
    async def refuse(*, task_status: TaskStatus[int]) -> None:
        await books.fail(1)

    async with TaskGroup() as group:
        group.start_soon(books.work, 2)
        with contextlib.suppress(RuntimeError):  # as above
            await group.start(refuse)


async def group_with_service(books: Books) -> None:
    async with TaskGroup() as group:
        group.start_background(books.forever)
        with contextlib.suppress(RuntimeError):  # as above
            await group.start(serve, books)
        await books.work(1)
        group.cancel()


async def group_with_background(books: Books) -> None:
    async with TaskGroup() as group:
        group.start_background(books.forever)
        group.start_soon(books.work, 1)


async def group_with_failing_background(books: Books) -> None:
    async with TaskGroup() as group:
        group.start_background(books.fail, 1)
        group.start_soon(books.forever)


# -- scopes -----------------------------------------------------------------------------------


async def scope_that_moves_on(books: Books) -> None:
    with move_on_after(TICK) as scope:
        await books.forever()
    assert scope.cancelled_caught
    await books.work(1)


async def scope_in_time(books: Books) -> None:
    with fail_after(3600):
        await books.work(1)
    await books.work(1)


async def scope_that_fails(books: Books) -> None:
    with contextlib.suppress(TimeoutError), fail_after(TICK):
        await books.forever()
    await books.work(1)


async def scope_in_scope(books: Books) -> None:
    with move_on_after(3600):
        with move_on_after(TICK):
            await books.forever()
        await books.work(1)


async def scope_around_scope(books: Books) -> None:
    with move_on_after(TICK), fail_after(3600):
        await books.forever()


async def scope_in_asyncio_timeout(books: Books) -> None:
    async with asyncio.timeout(3600):
        with move_on_after(TICK):
            await books.forever()
        await books.work(1)


async def scope_around_asyncio_timeout(books: Books) -> None:
    with move_on_after(3600):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK):
                await books.forever()
        await books.work(1)


async def scope_cancelled_from_beside(books: Books) -> None:
    async def stop(scope: CancelScope) -> None:
        await books.work(1)
        scope.cancel()

    async with TaskGroup() as group:
        with CancelScope() as scope:
            group.start_soon(stop, scope)
            await books.forever()


async def scope_around_group(books: Books) -> None:
    with move_on_after(TICK):
        async with TaskGroup() as group:
            group.start_soon(books.forever)
    await books.work(1)


# -- waiting ----------------------------------------------------------------------------------


async def shield(books: Books) -> None:
    await shielded(books.work(2))


async def shield_with_grace(books: Books) -> None:
    await shielded(books.work(2), grace=TICK)


async def shield_in_clean_up(books: Books) -> None:
    try:
        await books.work(1)
    finally:
        await shielded(books.work(1), grace=3600)


async def shield_in_cancelled_scope(books: Books) -> None:
    with move_on_after(TICK):
        try:
            await books.forever()
        finally:
            await shielded(books.work(1))


async def joined(books: Books) -> None:
    task = asyncio.ensure_future(books.work(2))
    if (cancelled := await join(task)) is not None:
        raise cancelled


async def cancelled_and_joined(books: Books) -> None:
    tasks = [asyncio.ensure_future(books.forever()) for _ in range(2)]
    try:
        await asyncio.sleep(TICK)
    finally:
        if (cancelled := await cancel_and_join(tasks)) is not None:
            raise cancelled


async def waited_for(books: Books) -> None:
    async with TaskGroup() as group:
        task = group.create_task(books.work(1))
        await wait_done(task)


# -- supervision ------------------------------------------------------------------------------


async def supervisor(books: Books) -> None:
    async with Supervisor() as supervisor:
        supervisor.start_child(books.work, 1, restart="temporary")
        supervisor.start_child(books.work, 2, restart="transient")


async def supervisor_that_restarts(books: Books) -> None:
    tries: list[int] = []

    async def flaky() -> None:
        await books.work(1)
        tries.append(1)
        if len(tries) < 3:
            raise OSError("as planned")

    async with Supervisor(backoff=lambda attempt, error: TICK) as supervisor:
        supervisor.start_child(flaky, restart="transient")


async def supervisor_of_many(books: Books) -> None:
    tries: list[int] = []

    async def flaky() -> None:
        await books.work(1)
        tries.append(1)
        if len(tries) == 1:
            raise OSError("as planned")
        supervisor.cancel()

    async with Supervisor(strategy="one_for_all") as supervisor:
        supervisor.start_child(books.forever)
        supervisor.start_child(flaky, restart="transient")
        supervisor.start_child(books.forever)


async def supervisor_that_gives_up(books: Books) -> None:
    async with Supervisor(max_restarts=1) as supervisor:
        supervisor.start_child(books.fail, 1)
        supervisor.start_child(books.forever)


async def supervisor_with_body(books: Books) -> None:
    async with Supervisor() as supervisor:
        supervisor.start_child(books.forever)
        await books.work(2)
        supervisor.cancel()


PROGRAMS: list[Body] = [
    group,
    group_with_body,
    group_of_create_task,
    group_with_handles,
    group_with_limit,
    group_with_queue,
    group_with_time_limit,
    group_in_time,
    group_cancelled_by_body,
    group_cancelled_by_child,
    group_with_failure,
    group_with_failing_body,
    group_in_group,
    group_in_cancelled_group,
    group_in_child,
    group_with_handshake,
    group_with_failed_handshake,
    group_with_service,
    group_with_background,
    group_with_failing_background,
    scope_that_moves_on,
    scope_in_time,
    scope_that_fails,
    scope_in_scope,
    scope_around_scope,
    scope_in_asyncio_timeout,
    scope_around_asyncio_timeout,
    scope_cancelled_from_beside,
    scope_around_group,
    shield,
    shield_with_grace,
    shield_in_clean_up,
    shield_in_cancelled_scope,
    joined,
    cancelled_and_joined,
    waited_for,
    supervisor,
    supervisor_that_restarts,
    supervisor_of_many,
    supervisor_that_gives_up,
    supervisor_with_body,
]


@on_every_loop
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_cancelled_host(program: Body, new_loop: LoopFactory) -> None:
    """A cancelled host ends when everything has ended that it had started."""
    assert sweep(program, new_loop).points


@on_every_loop
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_cancelled_child(program: Body, new_loop: LoopFactory) -> None:
    """Where somebody cancels a child, its owner still ends, and leaves nothing."""
    sweep(program, new_loop, "children")
