"""Traps of bounded maps beside those of the window: doubles, retries, a stream closed under a reader."""

import asyncio

import pytest

from aioconc.errors import TaskCancelled
from aioconc.flow import gather_limited, map_limited
from aioconc.tasks import move_on_after


async def test_same_coroutine_twice_is_an_error_and_never_a_hang():
    """A coroutine can be awaited once; the second place says so."""

    async def one():
        await asyncio.sleep(0)
        return 1

    coro = one()
    first, second = await gather_limited(coro, coro, limit=2, return_exceptions=True)
    assert first == 1
    assert isinstance(second, RuntimeError)


async def test_the_delay_before_a_retry_is_cut_by_the_scope_around_it():
    """No retry happens after the deadline, and none is waited for."""
    attempts = []

    async def fails(item):
        attempts.append(item)
        raise OSError

    with move_on_after(0.01) as scope:
        await map_limited(fails, [1], limit=1, retry=lambda attempt, error: 60)
    assert scope.cancelled_caught
    assert attempts == [1]


async def test_a_cancelled_item_is_not_retried():
    """A retry hook is never asked about a cancellation, whoever caused it."""
    asked, attempts = [], []

    async def cancelled(item):
        attempts.append(item)
        raise asyncio.CancelledError

    def retry(attempt, error):
        asked.append(error)
        return 0

    with pytest.raises(TaskCancelled):
        await map_limited(cancelled, [1], limit=1, retry=retry)
    assert (asked, attempts) == ([], [1])


async def test_a_stream_left_while_another_task_reads_ends_for_the_reader():
    """Leaving the block ends the calls in flight and the reader's iteration."""
    ended = []

    async def fn(item):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    async with map_limited(fn, range(9), limit=2) as results:
        reader = asyncio.create_task(anext(results, "the end"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert await reader == "the end"
    assert sorted(ended) == [0, 1]
