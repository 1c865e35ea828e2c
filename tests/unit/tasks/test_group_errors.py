"""What a group raises when several things fail at once."""

import asyncio

import anyio
import pytest

from aioconc.flow import gather_limited
from aioconc.tasks import TaskGroup, shielded
from tests.unit.tasks.children import cancelling, fails, forever, passes


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
                    await shielded(passes(20))
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
