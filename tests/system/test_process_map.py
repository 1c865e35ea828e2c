"""`ProcessExecutor.map`: items travel in chunks, and each has its own outcome."""

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aioconc._internal import _hooks
from aioconc.errors import ExecutorClosed, SerializationError, WorkerCrashed, WorkerTimeout
from aioconc.executors import ProcessExecutor
from aioconc.flow import RateLimiter
from tests.system import map_work as work

# The same map in its two ways: chunks as they are read, and items gathered into chunks.
WAYS = pytest.mark.parametrize("way", [{}, {"buffer": 100}], ids=["chunks", "items"])


@pytest.fixture
async def pool() -> AsyncIterator[ProcessExecutor]:
    """Two workers at most."""
    async with ProcessExecutor(max_workers=2) as executor:
        yield executor


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.002)


def kinds(found: list[Any]) -> list[Any]:
    return [type(each) if isinstance(each, Exception) else each for each in found]


# -- order, and how far is read ---------------------------------------------------------------


@WAYS
async def test_results_come_in_order_or_as_they_come(
    pool: ProcessExecutor, way: dict[str, Any]
) -> None:
    """As a list and as a stream, ordered and not, none is lost or comes twice."""
    numbers = range(3000)
    assert await pool.map(work.same, numbers, **way) == [*numbers]
    assert sorted(await pool.map(work.same, numbers, ordered=False, **way)) == [*numbers]
    async with pool.map(work.same, numbers, **way) as results:
        assert [each async for each in results] == [*numbers]
    async with pool.map(work.same, numbers, ordered=False, **way) as results:
        assert sorted([each async for each in results]) == [*numbers]


@WAYS
async def test_a_source_is_read_only_as_far_as_its_results_are_wanted(
    pool: ProcessExecutor, way: dict[str, Any]
) -> None:
    """Without an end it is read a bounded number of items ahead of the reader, and then closed."""
    read: list[int] = []

    def source() -> Iterator[int]:
        try:
            for number in itertools.count():
                read.append(number)
                yield number
        finally:
            read.append(-1)

    async with pool.map(work.same, source(), chunk=5, **way) as results:
        async for each in results:
            # Two chunks for each worker, and as many results that wait; or the buffer.
            assert len(read) <= each + 1 + 5 * 4 + max(5 * 4, way.get("buffer", 0))
            if each == 200:
                break
    assert read[-1] == -1
    assert read.count(-1) == 1
    assert await pool.run(work.same, 1) == 1


async def test_a_limit_counts_items(pool: ProcessExecutor) -> None:
    """With `limit=3` no more than three items are read and not ended, chunks or not."""
    read: list[int] = []

    def source() -> Iterator[int]:
        for number in range(60):
            read.append(number)
            yield number

    run = pool.map(work.same, source(), limit=3, chunk=10, ordered=True)
    assert run.limit == 3
    async with run as results:
        async for each in results:
            assert len(read) <= each + 1 + 2 * 3  # as many results may wait
            if each == 30:
                run.limit = 1
    assert len(read) == 60
    with pytest.raises(ValueError, match="limit must be an int >= 1"):
        pool.map(work.same, [1], limit=0)


async def test_an_async_source_is_mapped(pool: ProcessExecutor) -> None:
    """Its items are gathered into chunks while they are in flight."""

    async def source() -> AsyncIterator[int]:
        for number in range(500):
            yield number

    before = pool.statistics().completed
    assert await pool.map(work.same, source()) == [*range(500)]
    assert pool.statistics().completed - before < 500


@WAYS
async def test_an_error_of_the_source_follows_the_items_before_it(
    pool: ProcessExecutor, way: dict[str, Any]
) -> None:
    """What was read is worked on, then the error is raised; so is one of its first step."""

    def source() -> Iterator[int]:
        yield from range(10)
        raise LookupError("no more")

    seen: list[object] = []
    with pytest.raises(LookupError, match="no more"):
        async with pool.map(work.same, source(), on_error="return", **way) as results:
            async for each in results:
                seen.append(each)  # noqa: PERF401  # those before the failure count
    assert seen == [*range(10)]


# -- sizes ------------------------------------------------------------------------------------


async def test_chunks_grow_for_quick_items(pool: ProcessExecutor) -> None:
    """Ten thousand quick items are a small fraction of as many calls."""
    await pool.map(work.same, range(10_000))
    assert pool.statistics().completed < 500


async def test_slow_items_travel_alone(pool: ProcessExecutor) -> None:
    """An item of 20 ms and more is a call of its own."""
    await pool.map(work.sleep, [0.025] * 8)
    assert pool.statistics().completed == 8


async def test_a_chunk_has_the_size_that_was_asked_for(pool: ProcessExecutor) -> None:
    """21 items in chunks of 7 are three calls; gathered, no chunk is larger."""
    await pool.map(work.same, range(21), chunk=7)
    assert pool.statistics().completed == 3
    await pool.map(work.same, range(21), chunk=7, buffer=50)
    assert pool.statistics().completed >= 6
    with pytest.raises(ValueError, match="chunk must be an int >= 1"):
        pool.map(work.same, [1], chunk=0)


async def test_a_worker_is_replaced_after_so_many_items() -> None:
    """With `max_tasks_per_worker` each item counts, and no chunk has more."""
    ended: list[int] = []
    stop = _hooks.subscribe(
        lambda event, fields: ended.append(fields["pid"]) if event == "worker.ended" else None
    )
    try:
        async with ProcessExecutor(max_workers=1, max_tasks_per_worker=5) as pool:
            assert await pool.map(work.same, range(20), chunk=10) == [*range(20)]
            assert pool.statistics().completed == 4
    finally:
        stop()
    assert len(set(ended)) >= 4


# -- failures ---------------------------------------------------------------------------------


@WAYS
async def test_the_failure_of_an_item_is_its_own(
    pool: ProcessExecutor, way: dict[str, Any]
) -> None:
    """It is raised, or takes the item's place, or leaves it out; and is told with its number."""
    items = [3, 2, 1, 0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        await pool.map(work.invert, items, chunk=4, **way)
    found: Any = await pool.map(work.invert, items, chunk=4, on_error="skip", **way)
    assert found == [1 / each for each in items if each]
    told: list[tuple[str, int]] = []
    stop = _hooks.subscribe(
        lambda event, fields: (
            told.append((event, fields["index"])) if event.startswith("map.") else None
        )
    )
    try:
        found = await pool.map(work.invert, items, chunk=4, on_error="return", **way)
        with pytest.raises(ZeroDivisionError):
            await pool.map(work.invert, items, chunk=4, **way)
    finally:
        stop()
    assert kinds(found) == [1 / each if each else ZeroDivisionError for each in items]
    assert told[:2] == [("map.item_failed", 3)] * 2
    assert "in invert" in str(found[3].__cause__)


async def test_results_before_a_failure_are_not_lost_to_the_reader(pool: ProcessExecutor) -> None:
    """Those of the same chunk that came before it are read, then it is raised."""
    seen: list[float] = []
    with pytest.raises(ZeroDivisionError):
        async with pool.map(work.invert, [4, 2, 0, 1], chunk=4) as results:
            async for each in results:
                seen.append(each)  # noqa: PERF401  # those before the failure count
    assert seen == [0.25, 0.5]


async def test_a_failure_ends_the_chunks_in_flight(pool: ProcessExecutor, tmp_path: Path) -> None:
    """With `on_error="raise"` nobody waits for an item that would take a minute."""
    path = str(tmp_path / "log")
    # The failure is sent at once: unpickling 0 as a call of `note` fails.
    items: list[Any] = [(path, -1), (path, 1), None]
    with pytest.raises(TypeError):
        async with asyncio.timeout(20):
            await pool.map(work.note_and_hang, items, chunk=1)
    assert await pool.run(work.same, 1) == 1


@WAYS
async def test_what_cannot_travel_fails_alone(pool: ProcessExecutor, way: dict[str, Any]) -> None:
    """Items that cannot be pickled or unpickled, and results that cannot be pickled."""
    items = [1, work.Unsendable(), 2, work.Unloadable(), 3]
    found: Any = await pool.map(work.same, items, chunk=5, on_error="return", **way)
    assert kinds(found) == [1, SerializationError, 2, SerializationError, 3]
    assert [(found[each].where, found[each].side) for each in (1, 3)] == [
        ("args", "parent"),
        ("args", "worker"),
    ]
    found = await pool.map(
        work.behave, ["a", "lock", "large", "exit", "b"], chunk=5, on_error="return", **way
    )
    assert (found[0], found[2], found[4]) == ("a", bytes(100_000), "b")
    assert found[1].where == "result"
    assert type(found[3]).__name__ == "WorkerExit"


async def test_a_function_that_cannot_travel_fails_the_items(pool: ProcessExecutor) -> None:
    """Each of them, with the reason."""
    unsendable = work.Unsendable()
    found: Any = await pool.map(lambda _: unsendable, range(3), on_error="return")
    assert kinds(found) == [SerializationError] * 3


@WAYS
async def test_large_results_keep_their_place(pool: ProcessExecutor, way: dict[str, Any]) -> None:
    """Unpickled elsewhere, so that the loop goes on, they still come in order; also before a crash."""
    calls = [("a", 3), ("b", 120_000), ("c", 5), ("e", -1), ("f", 4)]
    found: Any = await pool.map(work.repeat, calls, chunk=5, on_error="return", **way)
    assert [len(each) if isinstance(each, list) else type(each) for each in found] == [
        *(3, 120_000, 5),
        WorkerCrashed,
        4,
    ]
    assert [each[-1] for each in found if isinstance(each, list)] == [
        *("a2", "b119999", "c4", "f3")
    ]


# -- crashes ----------------------------------------------------------------------------------


@WAYS
async def test_a_crash_costs_the_item_that_was_worked_on(
    pool: ProcessExecutor, way: dict[str, Any]
) -> None:
    """Those before it in its chunk keep their results, those after it are run by another worker."""
    items = [5, 4, 3, 0, 1, 2]
    found: Any = await pool.map(work.die_at_zero, items, chunk=6, on_error="return", **way)
    assert kinds(found) == [5, 4, 3, WorkerCrashed, 1, 2]
    assert found[3].attempt == 1


async def test_an_item_that_kills_when_it_is_unpickled_is_found(pool: ProcessExecutor) -> None:
    """It fails alone, though its worker dies before it begins with any."""
    items = [1, 2, work.Deadly(), 3]
    found: Any = await pool.map(work.same, items, chunk=4, on_error="return")
    assert kinds(found) == [1, 2, WorkerCrashed, 3]


async def test_a_crashed_item_is_tried_again_if_wished(
    pool: ProcessExecutor, tmp_path: Path
) -> None:
    """`retries` is for the item that was worked on, and counts for each item anew."""
    items = ["", str(tmp_path / "a"), str(tmp_path / "b"), ""]
    assert await pool.options(retries=1).map(work.die_once, items, chunk=4) == items
    found: Any = await pool.options(retries=1).map(
        work.die_at_zero, [1, 0, 2], chunk=3, on_error="return"
    )
    assert kinds(found) == [1, WorkerCrashed, 2]
    assert found[1].attempt == 2


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.loops("asyncio")
@pytest.mark.timeout(300)
async def test_kills_at_random_moments_lose_no_finished_item(
    pool: ProcessExecutor, tmp_path: Path
) -> None:
    """Each item has run once and has its result, or one that was killed has run once at most."""
    chance = random.Random(7)
    crashed = 0
    for turn in range(100):
        path = tmp_path / str(turn)
        calls = [(str(path), number) for number in range(2000)]
        way: dict[str, Any] = chance.choice([{}, {"buffer": 200}, {"chunk": 50}])
        pause = chance.random() * 0.03

        async def kill(pause: float = pause) -> None:
            await asyncio.sleep(pause)
            for worker in [*pool._processes.workers][: chance.randint(1, 2)]:
                os.kill(worker.pid, signal.SIGKILL)

        killer = asyncio.create_task(kill())
        found: Any = await pool.map(work.note, calls, on_error="return", **way)
        await killer
        times = Counter(work.noted(path))
        assert len(found) == len(calls)
        for number, result in enumerate(found):
            if isinstance(result, WorkerCrashed):
                crashed += 1
                assert times[number] <= 1
            else:
                assert result == number
                assert times[number] == 1
    # A kill costs one item at most.
    assert 0 < crashed <= 200


# -- time -------------------------------------------------------------------------------------


@WAYS
async def test_a_time_limit_is_for_each_item(
    pool: ProcessExecutor, way: dict[str, Any], tmp_path: Path
) -> None:
    """The item that overruns is killed; the others of its chunk have run once."""
    path = tmp_path / "log"
    calls = [(str(path), number) for number in (1, 2, -3, 4, 5)]
    found: Any = await pool.map(
        work.note_and_hang, calls, chunk=5, timeout=0.3, on_error="return", **way
    )
    assert kinds(found) == [1, 2, WorkerTimeout, 4, 5]
    assert sorted(work.noted(path)) == [-3, 1, 2, 4, 5]


async def test_a_chunk_may_take_longer_than_one_item(pool: ProcessExecutor) -> None:
    """Ten items of 50 ms are no time-out of 200 ms."""
    assert await pool.map(work.sleep, [0.05] * 10, chunk=10, timeout=0.2) == [0.05] * 10


# -- cancelling -------------------------------------------------------------------------------


@WAYS
async def test_cancelling_a_map_ends_its_chunks_and_nothing_else(
    pool: ProcessExecutor, way: dict[str, Any], tmp_path: Path
) -> None:
    """The items in flight are killed, the others never begin, and the pool lives on."""
    path = tmp_path / "log"
    calls = [(str(path), -number) for number in range(1, 100)]
    task = asyncio.create_task(_awaited(pool.map(work.note_and_hang, calls, chunk=4, **way)))
    await until(lambda: len(work.noted(path)) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.statistics().busy == 0
    assert await pool.map(work.same, range(10), **way) == [*range(10)]
    assert len(work.noted(path)) == 2


async def _awaited(run: Any) -> Any:
    return await run


async def test_a_map_that_is_to_wait_ends_after_the_items_that_run(
    pool: ProcessExecutor, tmp_path: Path
) -> None:
    """With `on_cancel="wait"` the rest of a chunk never begins."""
    path = tmp_path / "log"
    calls = [(str(path), number) for number in range(5)]
    run = pool.options(on_cancel="wait").map(work.note_and_wait, calls, chunk=5)
    task = asyncio.create_task(_awaited(run))
    await until(lambda: work.noted(path))
    task.cancel()
    await asyncio.sleep(0)  # so that it is asked before it may go on
    await asyncio.sleep(0)
    Path(f"{path}.go").touch()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.noted(path) == [0]


@WAYS
async def test_leaving_a_stream_early_ends_its_chunks(
    pool: ProcessExecutor, way: dict[str, Any], tmp_path: Path
) -> None:
    """No item begins after the block."""
    path = tmp_path / "log"
    calls = ((str(path), -number) for number in range(1, 100))
    async with asyncio.timeout(20):
        async with pool.map(work.note_and_hang, calls, **way):
            await until(lambda: work.noted(path))
    begun = work.noted(path)
    assert await pool.map(work.same, range(10)) == [*range(10)]
    assert work.noted(path) == begun


async def test_closing_the_executor_fails_what_is_left() -> None:
    """The items have `ExecutorClosed` where their results would be."""
    pool = ProcessExecutor(max_workers=1)
    async with pool.map(work.sleep_at_zero, [1, 0, 2], chunk=1, on_error="return") as results:
        assert await anext(results) == 1
        await pool.aclose(cancel=True)
        assert kinds([each async for each in results]) == [ExecutorClosed] * 2


# -- item by item -----------------------------------------------------------------------------


async def test_retry_rate_key_and_progress_see_items(pool: ProcessExecutor) -> None:
    """Chunks are formed behind them."""
    failed: list[int] = []
    seen: list[int] = []

    def retry(attempt: int, error: Exception) -> float | None:
        failed.append(attempt)
        return 0.0 if attempt < 3 else None

    found: Any = await pool.map(
        work.invert,
        [1, 0, 2],
        retry=retry,
        on_error="return",
        rate=RateLimiter(1000, per=1, burst=1000),
        key=lambda item: item % 2,
        limit_per_key=2,
        progress=lambda event: seen.append(event.done),
    )
    assert kinds(found) == [1, ZeroDivisionError, 0.5]
    assert failed == [1, 2, 3]
    assert seen[-1] == 3


# -- much -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.loops("asyncio")
@pytest.mark.timeout(300)
async def test_a_million_items_take_no_more_memory_than_a_few(pool: ProcessExecutor) -> None:
    """What was read and not delivered stays bounded."""
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        for number in range(1_000_000):
            read = number
            yield number

    ahead = count = 0
    async with pool.map(work.same, source()) as results:
        async for each in results:
            count += 1
            ahead = max(ahead, read - int(str(each)))
    assert count == 1_000_000
    assert ahead <= 2 * 4 * 4096 + 1
