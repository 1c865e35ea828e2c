"""The traps that bounded maps fall into, each by name; numbers are those of public bug trackers."""

import asyncio
import contextvars
import gc
import math
import threading
import weakref

import anyio
import pytest

from aioconc import TaskGroup, gather_limited, map_limited, move_on_after
from aioconc._internal import _hooks
from aioconc.errors import TaskCancelled
from aioconc.tasks import effective_deadline

FORMS = ("list", "stream")


async def collect(form, run):
    if form == "list":
        return await run
    async with run as results:
        return [result async for result in results]


async def hop(item):
    await asyncio.sleep(0)
    return item


class Source:
    """An async source that counts what is read of it and how often it is closed."""

    def __init__(self, size, hops=1):
        self.size, self.hops = size, hops
        self.read = self.closed = 0
        self.task_of = set()

    async def __call__(self):
        try:
            for item in range(self.size):
                for _ in range(self.hops):
                    await asyncio.sleep(0)
                self.read += 1
                self.task_of.add(asyncio.current_task())
                yield item
        finally:
            self.closed += 1
            self.task_of.add(asyncio.current_task())


# ---------------------------------------------------------------------- 9-14: cancellation


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("on_error", ["raise", "return", "skip"])
async def test_item_cancelled_by_somebody_else_is_an_error_of_that_item(form, on_error):
    """A foreign CancelledError follows the policy; it neither truncates the map nor hangs it."""

    async def fn(item):
        if item == 2:
            other = asyncio.ensure_future(asyncio.sleep(60))
            await asyncio.sleep(0)
            other.cancel()
            await other
        return await hop(item)

    run = map_limited(fn, range(5), limit=2, on_error=on_error)
    if on_error == "raise":
        with pytest.raises(TaskCancelled) as caught:
            await collect(form, run)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        return
    results = await collect(form, run)
    if on_error == "skip":
        assert results == [0, 1, 3, 4]
    else:
        assert [each for each in results if not isinstance(each, Exception)] == [0, 1, 3, 4]
        assert isinstance(results[2], TaskCancelled)


async def test_item_that_swallows_our_cancel_and_returns_is_dropped():
    """On fail-fast the value of an item that refuses the cancel is discarded, and nothing hangs."""
    ended = []

    async def fn(item):
        try:
            await asyncio.sleep(0 if item else 60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append(item)
            return "too late"
        raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        await map_limited(fn, range(2), limit=2)
    assert ended == [0]


async def test_slow_cleanup_under_a_cancelled_anyio_scope_does_not_spin():
    """anyio cancels its host in every pass of the loop; the join must not answer each time."""
    passes = 0
    released = asyncio.get_running_loop().create_future()

    async def fn(item):
        try:
            await asyncio.sleep(60)
        finally:
            await released

    async def watch():
        # Passes that the loop makes on its own while everything waits.
        nonlocal passes
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.05)
        started = loop.time()
        select = 0
        while loop.time() < started + 0.05:
            await asyncio.sleep(0.01)
            select += 1
        passes = select
        released.set_result(None)

    watching = asyncio.ensure_future(watch())
    cancels = 0
    task = asyncio.current_task()
    with anyio.move_on_after(0.01) as scope:
        try:
            await gather_limited(fn(0), limit=1)
        except asyncio.CancelledError:
            cancels = task.cancelling()
            raise
    await watching
    assert scope.cancelled_caught
    # One request for each pass before the wait is shielded; spinning makes thousands.
    assert cancels < 10
    assert task.cancelling() == 0


async def test_cancellation_inside_an_anyio_scope_keeps_its_identity():
    """The very CancelledError of the host leaves the map, so the host recognises it."""
    with anyio.move_on_after(0.01) as scope:
        async with map_limited(hop, Source(10**9)(), limit=3) as results:
            async for _ in results:
                pass
    assert scope.cancelled_caught


@pytest.mark.parametrize("form", FORMS)
async def test_outer_timeout_strikes_a_map_as_a_timeout(form):
    """asyncio.timeout around a map works, and nothing of the map is left."""
    source = Source(10**9)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await collect(form, map_limited(hop, source(), limit=3))
    assert source.closed == 1


@pytest.mark.parametrize("passes", range(8))
async def test_caller_cancelled_at_any_pass_leaves_nothing(passes):
    """Whenever the cancel comes, the calls have ended, coroutines are closed, and it is raised."""
    live = 0

    async def fn(item):
        nonlocal live
        live += 1
        try:
            return await hop(item)
        finally:
            live -= 1

    task = asyncio.ensure_future(gather_limited(*[fn(n) for n in range(20)], limit=3))
    for _ in range(passes):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert live == 0


async def test_cancel_before_the_first_step_closes_the_coroutines():
    """A gather whose task never ran leaves no coroutine "never awaited"."""
    coroutines = [hop(n) for n in range(3)]
    task = asyncio.ensure_future(gather_limited(*coroutines, limit=2))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)  # the loop lets go of what it ran last
    gc.collect()
    assert all(each.cr_frame is None for each in coroutines)


# ---------------------------------------------------------------------- 21: starvation


async def test_calls_that_never_suspend_leave_the_loop_its_turn():
    """A heartbeat goes on beside 100,000 calls that return at once."""
    beats = 0

    async def heart():
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    async def instant(item):
        return item

    heart_task = asyncio.ensure_future(heart())
    await map_limited(instant, range(100_000), limit=100)
    heart_task.cancel()
    await asyncio.wait([heart_task])
    assert beats >= 5


# ---------------------------------------------------------------------- 22-28: sources


async def test_bare_iteration_is_refused_with_the_right_line():
    """`async for` over a map could not close on break; the error shows what to write (PEP 789)."""
    run = map_limited(hop, range(3), limit=1)
    with pytest.raises(TypeError, match="async with map_limited"):
        async for _ in run:
            pass
    await run


async def test_async_source_is_read_and_closed_by_one_task():
    """A scope or context token inside the source is entered and left by the same task."""
    variable = contextvars.ContextVar("inside")
    closed = []

    async def source():
        token = variable.set("set")
        try:
            with anyio.CancelScope():
                async with asyncio.timeout(60):
                    for item in range(100):
                        await asyncio.sleep(0)
                        yield item
        finally:
            variable.reset(token)
            closed.append(asyncio.current_task())

    async with map_limited(hop, source(), limit=4) as results:
        async for result in results:
            if result == 10:
                break
    assert len(closed) == 1


@pytest.mark.parametrize("form", ["break", "body", "cancel", "fail", "end"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_source_is_closed_once_however_the_map_ends(form, kind):
    """Break, error, cancellation and the end all close a generator exactly once."""
    closed = 0

    def plain():
        nonlocal closed
        try:
            yield from range(20)
        finally:
            closed += 1

    counted = Source(20)
    source = plain() if kind == "sync" else counted()

    async def fn(item):
        if form == "fail" and item == 5:
            raise ValueError(item)
        return await hop(item)

    async def use():
        async with map_limited(fn, source, limit=3) as results:
            async for result in results:
                if result == 4 and form == "break":
                    break
                if result == 4 and form == "body":
                    raise KeyError(result)
                if result == 4 and form == "cancel":
                    asyncio.current_task().cancel()

    expected = {"body": KeyError, "cancel": asyncio.CancelledError, "fail": ValueError}
    task = asyncio.ensure_future(use())
    if form in expected:
        with pytest.raises(expected[form]):
            await task
    else:
        await task
    assert (closed if kind == "sync" else counted.closed) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
async def test_error_of_the_source_comes_after_what_was_delivered(kind, on_error):
    """The source's failure is raised and never skipped; with "skip" the calls in flight finish."""

    def plain():
        yield from range(5)
        raise OSError("source")

    async def coro():
        for item in plain():
            yield item

    seen = []
    with pytest.raises(OSError, match="source"):
        run = map_limited(hop, plain() if kind == "sync" else coro(), limit=3, on_error=on_error)
        async with run as results:
            async for result in results:
                seen.append(result)  # noqa: PERF401 - kept when the source fails
    assert seen == list(range(len(seen)))
    if on_error == "skip":
        assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit])
@pytest.mark.parametrize("at_call", [True, False])
@pytest.mark.parametrize("form", FORMS)
async def test_stop_exceptions_of_an_item_never_truncate_or_hang(kind, at_call, form):
    """gh-112182: they arrive as RuntimeError with the original as cause."""

    async def body(item):
        await asyncio.sleep(0)
        if item == 2:
            raise kind
        return item

    def fn(item):
        if at_call and item == 2:
            raise kind
        return body(item)

    run = map_limited(fn, range(5), limit=2, on_error="return")
    results = await collect(form, run)
    assert isinstance(results[2], RuntimeError)
    assert results[:2] + results[3:] == [0, 1, 3, 4]


@pytest.mark.parametrize("size", [0, 1, 50])
async def test_source_is_read_no_further_than_calls_start(size):
    """At no time are more items read than delivered plus the window."""
    read = 0

    def source():
        nonlocal read
        for item in range(size):
            read += 1
            yield item

    async with map_limited(hop, source(), limit=3, buffer=2) as results:
        taken = 0
        async for _ in results:
            taken += 1
            assert read <= taken + 3 + 2
            await asyncio.sleep(0)
    assert taken == size


@pytest.mark.parametrize("kind", ["generator", "iterator"])
@pytest.mark.parametrize("form", FORMS)
async def test_source_from_which_the_calls_take_items_too_gives_each_once(form, kind):
    """A call may pull the source itself: what it takes, the map does not see."""
    source = (item for item in range(10)) if kind == "generator" else iter(range(10))

    async def fn(item):
        other = next(source, None)
        await asyncio.sleep(0)
        return item, other

    pairs = await collect(form, map_limited(fn, source, limit=3))
    seen = [item for pair in pairs for item in pair if item is not None]
    assert sorted(seen) == [*range(10)]


async def test_source_that_a_thread_is_running_fails_the_map():
    """`next` on a generator that runs already raises, as in Python; nothing is left running."""
    entered, leave = threading.Event(), threading.Event()

    def source():
        yield 0
        entered.set()
        leave.wait()
        yield 1

    generator = source()
    elsewhere = []

    async def fn(item):
        elsewhere.append(asyncio.ensure_future(asyncio.to_thread(next, generator)))
        await asyncio.to_thread(entered.wait)
        return item

    try:
        with pytest.raises(ValueError, match="already executing"):
            await map_limited(fn, generator, limit=1)
    finally:
        leave.set()
    assert await elsewhere[0] == 1


# ---------------------------------------------------------------------- 29-37: delivery


@pytest.mark.parametrize("ordered", [True, False])
async def test_reader_cancelled_in_the_tick_of_delivery_loses_and_repeats_nothing(ordered):
    """asyncio throws away the value of an await that is cancelled late; the stream does not."""
    seen = []
    async with map_limited(hop, range(60), limit=2, ordered=ordered) as results:
        for delay in range(200):
            task = asyncio.ensure_future(anext(results))
            for _ in range(delay % 4):
                await asyncio.sleep(0)
            task.cancel()
            try:
                seen.append(await task)
            except asyncio.CancelledError:
                continue
            except StopAsyncIteration:
                break
        seen += [result async for result in results]
    assert sorted(seen) == list(range(60))
    if ordered:
        assert seen == list(range(60))


async def test_second_reader_at_the_same_time_is_refused():
    """Two tasks that wait on one stream get an error, not half of the items each."""

    async def never(item):
        await asyncio.get_running_loop().create_future()

    async with map_limited(never, range(2), limit=1) as results:
        first = asyncio.ensure_future(anext(results))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(results)
        first.cancel()
        await asyncio.wait([first])


async def test_slow_head_does_not_idle_the_others():
    """In order, others run ahead of a slow item by limit + buffer, and no further."""
    gate = asyncio.get_running_loop().create_future()
    started = []

    async def fn(item):
        started.append(item)
        if item == 0:
            await gate
        return await hop(item)

    async with map_limited(fn, range(100), limit=4, buffer=6) as results:
        for _ in range(50):
            await asyncio.sleep(0)
        assert started == list(range(10))
        gate.set_result(None)
        assert [result async for result in results] == list(range(100))


@pytest.mark.parametrize("limit", [1, 2, 7, 100, math.inf])
async def test_calls_in_flight_never_exceed_the_limit(limit):
    """Counted inside the calls, while items also fail and are skipped."""
    live = most = 0
    full = asyncio.Event()

    async def fn(item):
        nonlocal live, most
        live += 1
        most = max(most, live)
        if live == min(limit, 50):
            full.set()
        try:
            await full.wait()
            if item % 5 == 0:
                raise ValueError(item)
            await asyncio.sleep(0)
        finally:
            live -= 1

    await map_limited(fn, range(50), limit=limit, on_error="skip")
    assert most == min(limit, 50)


async def test_coroutines_that_never_start_are_closed():
    """No "never awaited" for what a failure leaves unstarted, given one by one or in a list."""

    async def fail():
        raise ValueError

    for pack in (lambda jobs: jobs, lambda jobs: [jobs]):
        jobs = [fail(), *[hop(n) for n in range(20)]]
        with pytest.raises(ValueError):
            await gather_limited(*pack(jobs), limit=1)
        assert all(job.cr_frame is None for job in jobs)


async def test_same_task_twice_gives_its_result_twice():
    """A future may stand in the input more than once; a coroutine may not."""
    task = asyncio.ensure_future(hop(1))
    assert await gather_limited(task, task, limit=2) == [1, 1]
    coro = hop(2)
    results = await gather_limited(coro, coro, limit=1, return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], RuntimeError)


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, None, "3"])
async def test_bad_limit_is_refused_before_anything_starts(limit):
    """The message gives the value, the rule and the remedy, and coroutines are closed."""
    coro = hop(1)
    with pytest.raises((TypeError, ValueError), match=r"limit must be an int >= 1.*math\.inf"):
        await gather_limited(coro, limit=limit)
    gc.collect()
    assert coro.cr_frame is None


async def test_item_sees_the_callers_context_and_leaves_none_behind():
    """Also where an item sets a variable to an equal value: the next sees the caller's object."""
    variable = contextvars.ContextVar("variable")
    mine = []
    variable.set(mine)
    seen = []

    async def fn(item):
        seen.append(variable.get())
        variable.set([])
        await asyncio.sleep(0)

    await map_limited(fn, range(10), limit=2)
    assert len(seen) == 10
    assert all(each is mine for each in seen)


async def test_cancel_left_behind_by_an_item_does_not_strike_the_next():
    """An item that cancels its own task and swallows it costs only itself."""

    async def fn(item):
        if item % 3 == 0:
            asyncio.current_task().cancel()
            if item % 2:
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    pass
        if item % 3 == 1:
            await asyncio.sleep(0)
        return item

    results = await map_limited(fn, range(20), limit=2, on_error="return")
    assert [each for each in results if not isinstance(each, TaskCancelled)] == [*range(20)]


@pytest.mark.parametrize("kind", [ValueError, TypeError])
@pytest.mark.parametrize("options", [{}, {"timeout": 60}, {"isolate": "task"}], ids=str)
async def test_failure_is_freed_without_the_garbage_collector(options, kind):
    """gh-128552: no reference circle keeps the failing item's locals alive."""

    class Local:
        pass

    refs = []

    async def fn(item):
        local = Local()
        refs.append(weakref.ref(local))
        await asyncio.sleep(0)
        raise kind

    gc.collect()
    gc.disable()
    try:
        try:
            await map_limited(fn, range(1), limit=1, **options)
        except kind:
            pass
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [ref() for ref in refs] == [None]
    finally:
        gc.enable()


async def test_parked_workers_keep_neither_items_nor_results():
    """Between items a worker holds nothing: memory follows the calls in flight."""

    class Thing:
        pass

    refs = []
    gate = asyncio.get_running_loop().create_future()

    def made():
        thing = Thing()
        refs.append(weakref.ref(thing))
        return thing

    async def source():
        for _ in range(4):
            yield made()
        await gate

    async def fn(item):
        await asyncio.sleep(0)
        return made()

    async with map_limited(fn, source(), limit=2) as results:
        for _ in range(4):
            await anext(results)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [ref() for ref in refs] == [None] * 8
        gate.set_result(None)


async def test_few_items_cost_few_tasks():
    """Workers are made on demand: three items under a limit of 1,000 make about three tasks."""
    most = 0

    async def fn(item):
        nonlocal most
        await asyncio.sleep(0)
        most = max(most, len(asyncio.all_tasks()))

    before = len(asyncio.all_tasks())
    await map_limited(fn, range(3), limit=1000)
    assert most - before <= 3


async def test_later_failures_are_noted_and_emitted():
    """Of several failures the first is raised; the others are notes on it and events."""
    events = []
    end = _hooks.subscribe(lambda event, fields: events.append((event, fields["error"])))

    async def fn(item):
        try:
            await asyncio.sleep(0 if item == 0 else 60)
        finally:
            raise ValueError(item)

    try:
        with pytest.raises(ValueError, match="0") as caught:
            await map_limited(fn, range(3), limit=3)
    finally:
        end()
    assert len(caught.value.__notes__) == 2
    assert sum(event == "map.late_failure" for event, _ in events) == 2


# ---------------------------------------------------------------------- keys, limits, time


async def test_full_key_does_not_hold_up_other_keys():
    """While one host is busy, items of others start; the one never exceeds its limit."""
    gate = asyncio.get_running_loop().create_future()
    live = {"a": 0, "b": 0}
    most = dict(live)
    done = []

    async def fn(item):
        key = item[0]
        live[key] += 1
        most[key] = max(most[key], live[key])
        if key == "a":
            await gate
        await asyncio.sleep(0)
        live[key] -= 1
        done.append(item)

    items = [*(f"a{n}" for n in range(30)), *(f"b{n}" for n in range(10))]
    run = asyncio.ensure_future(
        collect("list", map_limited(fn, items, limit=8, key=lambda item: item[0], limit_per_key=2))
    )
    for _ in range(60):
        await asyncio.sleep(0)
    assert done == [f"b{n}" for n in range(10)]
    gate.set_result(None)
    await run
    assert most == {"a": 2, "b": 2}
    assert len(done) == 40


async def test_item_that_waits_for_a_retry_gives_its_slot_back():
    """With one slot, the second item runs while the first waits for its next attempt."""
    order = []

    async def fn(item):
        order.append(item)
        await asyncio.sleep(0)
        if item == 0 and order.count(0) == 1:
            raise OSError
        return item

    results = await map_limited(fn, range(3), limit=1, retry=lambda attempt, error: 0.001)
    assert results == [0, 1, 2]
    assert order[0] == 0
    assert order[1] == 1
    assert order.count(0) == 2


async def test_late_item_fails_with_timeout_and_its_worker_is_clean():
    """Each attempt has its own time; the others on the same workers are not struck."""

    async def fn(item):
        if item % 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if item == 3:
                    return "swallowed"
                raise
        return await hop(item)

    results = await map_limited(fn, range(6), limit=2, timeout=0.01, on_error="return")
    assert [type(each) for each in results] == [int, TimeoutError] * 3


async def test_limit_may_be_changed_while_it_runs():
    """Raised, more calls start at once; lowered, none starts until enough have ended."""
    live = 0
    gates = [asyncio.get_running_loop().create_future() for _ in range(40)]

    async def fn(item):
        nonlocal live
        live += 1
        await gates[item]
        live -= 1

    run = map_limited(fn, range(40), limit=2)
    task = asyncio.ensure_future(collect("list", run))
    for _ in range(5):
        await asyncio.sleep(0)
    assert live == 2
    run.limit = 5
    for _ in range(5):
        await asyncio.sleep(0)
    assert live == 5
    run.limit = 1
    for gate in gates[:4]:
        gate.set_result(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert live == 1
    for gate in gates[4:]:
        gate.set_result(None)
    await task


async def test_limit_lowered_by_one_call_holds_for_others_that_end_in_the_same_pass():
    """Calls that end together with the one that lowers the limit start no further ones."""
    loop = asyncio.get_running_loop()
    gate = loop.create_future()
    started = []

    async def fn(item):
        started.append(item)
        if item == 2:
            loop.call_soon(gate.set_result, None)
        if item < 3:
            await gate
        if item == 1:
            run.limit = 1
        if item == 3:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert started == [0, 1, 2, 3]
        return item

    run = map_limited(fn, range(6), limit=3)
    assert await run == [*range(6)]


async def test_items_see_the_deadline_around_the_map():
    """`effective_deadline` inside an item is that of the caller's scope."""

    async def fn(item):
        await asyncio.sleep(0)
        return effective_deadline()

    with move_on_after(60) as scope:
        assert await map_limited(fn, range(2), limit=2) == [scope.deadline] * 2


async def test_map_inside_a_cancelled_scope_starts_nothing():
    """Every await of ours inside a cancelled scope raises at once."""
    started = []

    async def fn(item):
        started.append(item)

    with move_on_after(60) as scope:
        scope.cancel()
        await map_limited(fn, range(3), limit=1)
    assert scope.cancelled_caught
    assert started == []


async def test_maps_nest_inside_groups_and_maps():
    """An inner failure cancels the outer map's other items and leaves bare."""

    async def inner(item):
        if item == 7:
            raise LookupError(item)
        return await hop(item)

    async def outer(item):
        return await gather_limited((inner(item * 4 + n) for n in range(4)), limit=2)

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            group.start_soon(collect, "stream", map_limited(outer, range(4), limit=3))
    assert [str(each) for each in caught.value.exceptions] == ["7"]


# ---------------------------------------------------------------------- the user's code, called back


async def test_limit_set_by_the_source_takes_effect_without_reentering_it():
    """A generator that sets the limit of its own map is not asked for an item meanwhile."""

    def source():
        for item in range(50):
            run.limit = 1 + item % 5
            yield item

    run = map_limited(hop, source(), limit=2)
    assert await run == [*range(50)]


async def test_sync_source_has_a_context_of_its_own():
    """A variable that a generator sets around its yields reaches no item, and its token works."""
    variable = contextvars.ContextVar("variable", default=0)

    def source():
        for item in range(30):
            token = variable.set(7)
            yield item
            variable.reset(token)

    async def fn(item):
        assert variable.get() == 0
        return await hop(item)

    assert await map_limited(fn, source(), limit=5) == [*range(30)]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("form", FORMS)
async def test_exit_raised_by_an_item_leaves_bare_after_all_have_ended(kind, form):
    """KeyboardInterrupt and SystemExit pass every policy, and still nothing is left running."""
    started = ended = 0

    async def fn(item):
        nonlocal started, ended
        started += 1
        try:
            await asyncio.sleep(0)
            if item == 2:
                raise kind
            await asyncio.sleep(60)
        finally:
            ended += 1

    with pytest.raises(kind):
        await collect(form, map_limited(fn, range(5), limit=5, on_error="skip"))
    assert ended == started >= 3


@pytest.mark.parametrize("passes", [1, 2, 6])
async def test_sweep_that_cancels_all_tasks_leaves_nothing(passes):
    """asyncio.run cancels every task at its end, workers included and whether begun or not."""
    source = Source(99, hops=0)

    async def forever(item):
        await asyncio.sleep(60)

    task = asyncio.ensure_future(
        collect("stream", map_limited(forever, source(), limit=3, on_error="return"))
    )
    for _ in range(passes):
        await asyncio.sleep(0)
    me = asyncio.current_task()
    for each in asyncio.all_tasks() - {me}:
        each.cancel()
    await asyncio.wait([task])
    assert asyncio.all_tasks() == {me}


@pytest.mark.parametrize("buffer", [0, 1, 5])
async def test_order_keys_and_retries_together_do_not_deadlock(buffer):
    """The item that the reader waits for can always start, whatever the others hold."""
    attempts = {}

    async def fn(item):
        await asyncio.sleep(0)
        attempts[item] = attempts.get(item, 0) + 1
        if attempts[item] < 3 and item % 4 == 0:
            raise ValueError(item)
        return item

    run = map_limited(
        fn,
        range(60),
        limit=3,
        buffer=buffer,
        key=lambda item: item // 20 % 3,
        limit_per_key=1,
        retry=lambda attempt, error: 0.0,
    )
    assert await collect("stream", run) == [*range(60)]


async def test_what_cannot_be_awaited_is_named_under_every_policy():
    """A function that is not async is an error of the program, not of an item."""
    for on_error in ("raise", "return", "skip"):
        with pytest.raises(TypeError, match="returned 1"):
            await map_limited(lambda item: 1, range(3), limit=1, on_error=on_error)
    with pytest.raises(TypeError, match="did you mean hop"):
        await gather_limited(hop, limit=2)


async def test_map_that_is_never_run_says_so():
    """Forgetting `await` is reported, as for a coroutine."""
    with pytest.warns(RuntimeWarning, match="never awaited"):
        map_limited(hop, range(3), limit=1)
