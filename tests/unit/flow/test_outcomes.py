"""What becomes of failures: which one is raised, what is noted, and what a retry hook may say."""

import asyncio

import pytest

from aioconc import gather_limited, map_limited
from aioconc._internal import _hooks
from aioconc.errors import TaskCancelled
from aioconc.flow._failures import MOST_NOTES


async def hop(item):
    await asyncio.sleep(0)
    return item


async def all_started(live, size):
    """Wait until so many calls are in flight."""
    live.append(None)
    while len(live) < size:
        await asyncio.sleep(0)


@pytest.fixture
def events():
    """Every event of maps, as (name, fields)."""
    seen = []
    unsubscribe = _hooks.subscribe(lambda name, fields: seen.append((name, fields)))
    yield seen
    unsubscribe()


# ---------------------------------------------------------------------- after the first failure


async def test_more_failures_than_fit_are_counted_in_one_note_and_all_emitted(events):
    """The first failure carries `MOST_NOTES` notes and one that says that there are more."""
    size, live = MOST_NOTES + 5, []

    async def fn(item):
        try:
            await all_started(live, size)
            if item:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError(item) from None
        raise KeyError(item)

    with pytest.raises(KeyError) as caught:
        await map_limited(fn, range(size), limit=size)
    assert len(caught.value.__notes__) == MOST_NOTES + 1
    assert "every failure is emitted" in caught.value.__notes__[-1]
    assert [name for name, _ in events].count("map.late_failure") == size - 1


async def test_exit_raised_while_a_map_is_failing_takes_over():
    """KeyboardInterrupt in the clean-up of an item is raised, and what came first is its note."""
    live = []

    async def fn(item):
        try:
            await all_started(live, 2)
            if item:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        raise OSError

    with pytest.raises(KeyboardInterrupt) as caught:
        await map_limited(fn, range(2), limit=2)
    assert caught.value.__notes__ == ["also failed, before it: OSError()"]


async def test_late_failure_of_an_item_that_was_to_be_skipped_is_only_emitted(events):
    """A stream that is left early raises nothing for an item whose failure is no failure."""

    async def fn(item):
        if item == 0:
            return item
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError(item) from None

    async with map_limited(fn, range(2), limit=2, on_error="skip") as results:
        assert await anext(results) == 0
    assert [name for name, _ in events] == ["map.late_failure"]


async def test_failure_in_the_clean_up_of_a_stream_left_early_is_raised():
    """What an item raises while it is cancelled has no other way out than the block's end."""

    async def fn(item):
        if item == 0:
            return item
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError(item) from None

    with pytest.raises(ValueError, match="1"):
        async with map_limited(fn, range(2), limit=2) as results:
            assert await anext(results) == 0


async def test_errors_of_a_source_that_is_closed_are_noted():
    """A generator that fails while it is closed does not replace the failure that ended the map."""

    def source():
        try:
            yield from range(10)
        finally:
            raise OSError("while closing")

    async def fn(item):
        await asyncio.sleep(0)
        raise ValueError(item)

    with pytest.raises(ValueError, match="0") as caught:
        await map_limited(fn, source(), limit=1)
    assert any("while closing" in note for note in caught.value.__notes__)


async def test_repr_that_fails_does_not_replace_the_failure():
    """An item that cannot be shown is left out of the message."""

    class Shy:
        def __repr__(self):
            raise RuntimeError("no")

    async def fn(item):
        raise asyncio.CancelledError

    with pytest.raises(TaskCancelled, match=r"fn\(\.\.\.\) was cancelled"):
        await map_limited(fn, [Shy()], limit=1)


async def test_tasks_that_were_never_awaited_are_cancelled_and_joined():
    """`gather_limited` ends the tasks it was given, also those it did not come to."""

    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("in clean-up")

    async def fails():
        await asyncio.sleep(0)
        raise ValueError

    waiting = asyncio.ensure_future(slow())
    await asyncio.sleep(0)
    with pytest.raises(ValueError) as caught:
        await gather_limited(fails(), waiting, limit=1)
    assert waiting.done()
    assert any("in clean-up" in note for note in caught.value.__notes__)


# ---------------------------------------------------------------------- what cannot be awaited


@pytest.mark.parametrize("options", [{}, {"timeout": 60}, {"isolate": "task"}], ids=str)
async def test_what_cannot_be_awaited_is_told_from_a_type_error_inside_the_call(options):
    """A function that returns no awaitable ends the map; a TypeError of its own is an outcome."""

    def returns_nothing(item):
        return item

    async def fails(item):
        await asyncio.sleep(0)
        raise TypeError("mine")

    def takes_two(item, other):
        raise AssertionError

    with pytest.raises(TypeError, match="cannot be awaited"):
        await map_limited(returns_nothing, range(3), limit=2, on_error="skip", **options)
    for fn, text in ((fails, "mine"), (takes_two, "missing 1 required")):
        (error,) = await map_limited(fn, [0], limit=1, on_error="return", **options)
        assert isinstance(error, TypeError)
        assert text in str(error)


# ---------------------------------------------------------------------- retries and time limits


async def test_retries_are_emitted_and_shown(events):
    """Each retry is an event, and one more in the progress."""
    attempts, progress = [], []

    async def fn(item):
        attempts.append(item)
        await asyncio.sleep(0)
        if len(attempts) < 3:
            raise OSError
        return item

    results = await map_limited(
        fn, [7], limit=1, retry=lambda attempt, error: 0, progress=progress.append
    )
    assert results == [7]
    assert [fields["index"] for name, fields in events if name == "map.item_retried"] == [0, 0]
    assert progress[-1].retried == 2
    assert (progress[-1].done, progress[-1].failed, progress[-1].in_flight) == (1, 0, 0)


@pytest.mark.parametrize("answer", [-1, "soon", True, float("inf"), KeyError("hook")], ids=str)
async def test_retry_hook_that_fails_or_answers_nonsense_ends_the_map(answer):
    """No policy covers it: it is an error of the program."""

    def retry(attempt, error):
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def fn(item):
        raise OSError

    with pytest.raises((KeyError, TypeError, ValueError), match=r"hook|retry must return"):
        await map_limited(fn, [0], limit=1, on_error="skip", retry=retry)


async def test_retry_hook_that_is_async_is_refused():
    """The slip is named, and its coroutine closed."""

    async def retry(attempt, error):
        return 0

    async def fn(item):
        raise OSError

    with pytest.raises(TypeError, match="make it a plain function"):
        await map_limited(fn, [0], limit=1, retry=retry)


async def test_calls_cancelled_by_somebody_else_under_a_time_limit_are_not_late():
    """A cancellation that is not the time limit's own is no TimeoutError."""

    async def fn(item):
        raise asyncio.CancelledError

    with pytest.raises(TaskCancelled):
        await map_limited(fn, [0], limit=1, timeout=60)


async def test_each_call_has_its_own_time_although_one_timer_serves_all():
    """A call that started later is late later: the one before it does not strike it."""
    loop = asyncio.get_running_loop()
    first_is_late, source_goes_on = loop.create_future(), loop.create_future()
    loop.call_later(0.1, source_goes_on.set_result, None)

    async def source():
        yield 0
        await source_goes_on
        yield 1

    async def fn(item):
        if item == 1:
            await first_is_late
            return item
        try:
            await asyncio.sleep(60)
        finally:
            first_is_late.set_result(None)

    first, second = await map_limited(fn, source(), limit=2, timeout=0.2, on_error="return")
    assert isinstance(first, TimeoutError)
    assert second == 1
