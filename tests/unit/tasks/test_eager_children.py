"""Children that run their first step inside the call that starts them."""

import asyncio

import pytest

from aioconc.tasks import TaskGroup
from tests.unit.tasks.children import cancelling, ends_within, forever, passes


def _eager_from_now_on():
    # Without effect on Python 3.11, whose tests are then those of lazy tasks.
    def factory(loop, coro, *, eager_start=None, **options):
        eager = True if eager_start is None else eager_start
        return asyncio.Task(coro, loop=loop, eager_start=eager, **options)

    if hasattr(asyncio, "eager_task_factory"):
        asyncio.get_running_loop().set_task_factory(factory)


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

    await ends_within(asyncio.create_task(host()))


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

    await ends_within(asyncio.create_task(host()))


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

    await ends_within(asyncio.create_task(host()))


async def test_create_task_keeps_to_the_limit_while_the_group_joins():
    """A full group refuses a child's create_task also after the body has ended."""
    refused = []

    async def child(group):
        await passes(3)
        with pytest.raises(RuntimeError, match="is full"):
            group.create_task(forever())
        refused.append(1)

    async with TaskGroup(limit=1) as group:
        group.start_soon(child, group)
    assert refused


async def test_a_child_that_fails_in_its_first_step_cancels_nobody_inside_the_call():
    """Its group learns of it through the loop: the call returns to a body that runs on (gh-128588)."""
    steps = []

    async def child():
        raise ValueError("at once")

    async def sibling():
        steps.append("sibling")
        await forever()

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            _eager_from_now_on()
            failed = group.create_task(child())
            # Eager, it has failed by now; the group still takes children, and nothing is cancelled.
            assert cancelling() == 0
            group.create_task(sibling())
            steps.append("body")
            await forever()
    assert [str(error) for error in caught.value.exceptions] == ["at once"]
    assert failed.done()
    assert "body" in steps
