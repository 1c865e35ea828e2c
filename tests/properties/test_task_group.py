"""TaskGroup against its promises, for any children: it ends, they have ended, no error is lost.

Time is counted in passes of the loop, never in seconds.
"""

import asyncio
import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from aioconc.tasks import TaskGroup
from tests.conftest import loop_variants

# Far more than the longest example takes: about 15 children of 6 passes, one after the other.
PASSES = 600

step = st.sampled_from(["pass", "pass", "spawn", "start_soon", "create_task", "cancel group"])
children = st.recursive(
    st.tuples(
        st.lists(step.filter(lambda each: each in ("pass", "cancel group")), max_size=3),
        st.sampled_from(["return", "fail", "fail in clean-up", "swallow", "forever"]),
        st.just(()),
    ),
    lambda inner: st.tuples(
        st.lists(step, max_size=4),
        st.sampled_from(["return", "fail", "fail in clean-up", "swallow"]),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=10,
)
bodies = st.lists(
    st.tuples(
        st.sampled_from(["start_soon", "spawn", "create_task", "start_background", "pass"]),
        children,
    ),
    max_size=6,
)


class Failure(Exception):
    """Raised by a child; each one is made once and should be seen once."""


@pytest.mark.parametrize("variant", [*loop_variants()])
@settings(max_examples=150)
@given(
    limit=st.sampled_from([None, 1, 2, 3]),
    body=bodies,
    end=st.sampled_from(["return", "return", "cancel group", "fail", "forever"]),
    cancel_after=st.none() | st.integers(0, 25),
)
def test_the_block_ends_after_its_children_and_raises_each_error_once(
    variant, limit, body, end, cancel_after
):
    """Whatever children do and whenever the host is cancelled."""
    raised: list[Failure] = []
    tasks: list[asyncio.Task[object]] = []
    running = most = 0
    closed = False

    def fail():
        raised.append(Failure(len(raised)))
        raise raised[-1]

    async def child(group, counted, plan):
        nonlocal running, most
        assert not closed
        tasks.append(asyncio.current_task())
        running += counted
        most = max(most, running)
        try:
            await behave(group, *plan)
        finally:
            running -= counted

    async def behave(group, steps, last, inner):
        rest = [*inner]
        try:
            for each in steps:
                if each == "pass":
                    await asyncio.sleep(0)
                elif each == "cancel group":
                    group.cancel()
                # A child that waits for a slot while it holds the only one would wait for ever.
                elif rest and not (each == "spawn" and limit is not None):
                    await begin(group, each, rest.pop())
            if last == "forever":
                await asyncio.Event().wait()
            if last == "swallow":
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if last == "fail in clean-up":
                await asyncio.sleep(0)
                fail()
            if last != "swallow":
                raise
            await asyncio.sleep(0)
        if last == "fail":
            fail()

    async def begin(group, way, plan):
        with contextlib.suppress(RuntimeError):  # full or shutting down
            if way == "spawn":
                await group.spawn(child, group, True, plan)
            elif way == "start_background":
                group.start_background(child, group, False, plan)
            elif way == "create_task":
                group.create_task(child(group, True, plan))
            else:
                group.start_soon(child, group, True, plan)

    async def host():
        nonlocal closed
        task = asyncio.current_task()
        before = task.cancelling()
        caught = []
        cancelled = False
        group = TaskGroup(limit=limit)
        try:
            async with group:
                for way, plan in body:
                    if way == "pass":
                        await asyncio.sleep(0)
                    else:
                        await begin(group, way, plan)
                if end == "cancel group":
                    group.cancel()
                elif end == "fail":
                    fail()
                elif end == "forever":
                    await asyncio.Event().wait()
        except* Failure as errors:
            caught.extend(errors.exceptions)
        except* asyncio.CancelledError:
            cancelled = True
        closed = True
        assert all(each.done() for each in tasks)
        assert Counter(map(id, caught)) == Counter(map(id, raised))
        if limit is not None:
            assert (group._slots.reserved, group._slots.taken) == (0, set())
        return task.cancelling() - before, cancelled

    async def main():
        task = asyncio.create_task(host())
        asked = 0
        for number in range(PASSES):
            if task.done():
                break
            if number == cancel_after or number == PASSES // 2:  # the latter ends "forever"
                asked += task.cancel()
            await asyncio.sleep(0)
        if not task.done():
            raise AssertionError("the block did not end")
        assert running == 0
        if limit is not None:
            assert most <= limit
        if task.cancelled():  # cancelled before it began, or again by the group, once it was done
            assert asked
        else:
            still, cancelled = task.result()
            assert still <= asked
            assert asked or not cancelled
            assert still == asked or not cancelled

    with asyncio.Runner(loop_factory=loop_variants()[variant]) as runner:
        runner.run(main())
