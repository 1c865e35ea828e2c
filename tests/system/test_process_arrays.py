"""Large buffers to and from real worker processes."""

import asyncio
import gc
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from aioconc.errors import WorkerCrashed
from aioconc.executors.process import ProcessExecutor
from tests.system.process_tools import until

np = pytest.importorskip("numpy")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="counts memfds"),
]

MIB = 1 << 20


def same(*args: Any, **kwargs: Any) -> Any:
    return (args, kwargs) if kwargs or len(args) != 1 else args[0]


def total(array: Any) -> tuple[float, bool]:
    return float(array.sum()), bool(array.flags.writeable)


def fill_first(array: Any) -> Any:
    array[0] = 7
    return array


def kinds(*args: Any) -> list[str]:
    return [type(each).__name__ for each in args]


def make(count: int) -> Any:
    return np.ones(count)


def make_many(count: int) -> Any:
    for each in range(count):
        yield np.full(100_000, each)


def squares(array: Any) -> Any:
    return array * array


def keep_and_die(array: Any) -> None:
    array.sum()
    os.kill(os.getpid(), signal.SIGKILL)


def without_memfd() -> None:
    from aioconc._wire import _memory

    _memory.kind = "segment"


def without_any() -> None:
    from aioconc._wire import _memory

    _memory.kind = "none"


def memfds() -> int:
    """Arenas that this process holds, or has mapped."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            count += "/memfd:aioconc arena" in str(each.readlink())
        except OSError:
            pass  # the descriptor of the listing itself
    return count


ARRAYS = [
    np.arange(100_000.0),
    np.arange(100_000.0).reshape(250, 400),
    np.asfortranarray(np.arange(100_000.0).reshape(250, 400)),
    np.arange(400_000.0)[::2],
    np.zeros((0, 7)),
    np.array([{"a": 1}, None, "x"], dtype=object),
    np.zeros(20_000, dtype=[("a", "i4"), ("b", "f8")]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda each: f"{each.dtype}-{each.shape}")
async def test_arrays_of_every_layout_go_there_and_back(array: Any) -> None:
    """Equal, alone and inside other values."""
    async with ProcessExecutor(max_workers=1) as pool:
        got = await pool.run(same, array)
        assert np.array_equal(got, array)
        assert got.flags.f_contiguous == array.flags.f_contiguous or not array.flags.contiguous
        inside = await pool.run(same, {"a": [array, (array,)]})
        assert np.array_equal(inside["a"][1][0], array)


async def test_arrays_are_read_only_unless_asked_for() -> None:
    """On both sides; what is written is private."""
    array = np.zeros(100_000)
    async with ProcessExecutor(max_workers=1) as pool:
        assert await pool.run(total, array) == (0.0, False)
        with pytest.raises(ValueError, match="read-only"):
            await pool.run(fill_first, array)
        got = await pool.options(writable=True).run(fill_first, array)
        got[1] = 8
        assert (got[0], got[1], array[0]) == (7, 8, 0)


async def test_bytes_keep_their_kind_and_large_ones_are_not_pickled() -> None:
    """Also as keywords and as elements of a tuple that is returned."""
    large = bytes(range(256)) * 8192
    async with ProcessExecutor(max_workers=1) as pool:
        for value in (large, bytearray(large), b"small", bytearray(b"small"), b""):
            got = await pool.run(same, value)
            assert type(got) is type(value)
            assert got == value
        assert await pool.run(same, large, more=large) == ((large,), {"more": large})
        view = await pool.run(same, memoryview(large))
        assert view == large
        assert await pool.run(kinds, memoryview(b"x"), memoryview(large)) == ["memoryview"] * 2


async def test_memory_follows_what_is_alive_not_what_was_sent() -> None:
    """200 arrays there and back in turn use the same few arenas."""
    array = np.ones(MIB)
    most = 0
    got: Any = None
    async with ProcessExecutor(max_workers=1) as pool:
        for _ in range(200):
            got = await pool.run(squares, array)
            most = max(most, memfds())
        assert got[5] == 1
        assert most <= 8
        assert pool._processes.arenas.bytes_free <= 1 << 27


async def test_arenas_come_back_when_the_results_die() -> None:
    """Results that are kept have an arena each; later ones use those again."""
    async with ProcessExecutor(max_workers=1) as pool:
        before = memfds()
        kept = [await pool.run(make, MIB // 8) for _ in range(20)]
        assert memfds() == before + 20
        kept.clear()
        gc.collect()
        assert memfds() <= before + 16  # mappings that are kept, for when these arenas come again
        again = [await pool.run(make, MIB // 8) for _ in range(16)]
        assert memfds() <= before + 16
        assert all(each.sum() == MIB // 8 for each in again)


async def test_a_pool_that_is_idle_keeps_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither it nor its workers; and what is read is not touched."""
    monkeypatch.setattr("aioconc.executors.process._patrol._KEPT_FOR", 0.05)
    async with ProcessExecutor(max_workers=1, idle_timeout=None) as pool:
        (here, there) = memfds(), await pool.run(memfds)
        kept = await pool.run(squares, np.full(MIB, 3.0))
        (worker,) = pool._processes.workers
        await until(
            lambda: not pool._processes.arenas.bytes_free and not worker.freight.keeps_memory
        )
        assert memfds() == here + 1
        assert await pool.run(memfds) == there + 1
        assert kept[7] == 9
        del kept
        await until(lambda: worker.freight.keeps_memory)
        await until(lambda: not worker.freight.keeps_memory)
        assert (memfds(), await pool.run(memfds)) == (here, there)


async def test_results_outlive_their_worker_and_their_executor() -> None:
    """Memory without a name lives as long as an array that reads it."""
    async with ProcessExecutor(max_workers=1) as pool:
        mine = await pool.run(make, MIB)
    assert mine.sum() == MIB
    before = memfds()
    del mine
    assert memfds() == before - 1


def test_results_outlive_their_loop() -> None:
    """An array that dies when its loop is closed harms nobody, and its arena is used again."""
    with ProcessExecutor(max_workers=1) as pool:
        mine = asyncio.run(pool.run(make, MIB))
        assert mine.sum() == MIB
        del mine
        again = asyncio.run(pool.run(make, MIB))
        assert again.sum() == MIB


async def test_a_crash_gives_back_the_arenas_that_the_worker_had() -> None:
    """Nothing stays lent to the dead."""
    async with ProcessExecutor(max_workers=1) as pool:
        for _ in range(3):
            with pytest.raises(WorkerCrashed):
                await pool.run(keep_and_die, np.ones(MIB))
        assert await pool.run(total, np.ones(MIB)) == (MIB, False)
        assert pool._processes.arenas.lent <= 1
    assert pool._processes.arenas.lent == 0


async def test_a_call_cancelled_while_its_arguments_are_copied_ends_and_frees_them() -> None:
    """At whatever moment of the transfer."""
    array = np.ones(8 * MIB)
    async with ProcessExecutor(max_workers=1, spares=1) as pool:
        for turns in (0, 1, 2, 3, 5, 8):
            task = asyncio.ensure_future(pool.run(total, array))
            for _ in range(turns + 1):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await pool.run(total, array[:1000]) == (1000, False)
    assert pool._processes.arenas.lent == 0


async def test_a_worker_killed_while_arguments_are_copied_costs_that_call() -> None:
    """The copy in progress is broken off."""
    array = np.ones(32 * MIB)
    async with ProcessExecutor(max_workers=1) as pool:
        await pool.run(abs, 1)
        (worker,) = pool._processes.workers
        task = asyncio.ensure_future(pool.run(total, array))
        await asyncio.sleep(0)
        os.kill(worker.pid, signal.SIGKILL)
        try:
            assert await task == (32 * MIB, False)  # it had not begun, so another ran it
        except WorkerCrashed:
            pass
        assert await pool.run(total, array) == (32 * MIB, False)


async def test_maps_and_streams_carry_arrays() -> None:
    """Items go the same way as single results."""
    async with ProcessExecutor(max_workers=2) as pool:
        got = await pool.map(squares, [np.full(100_000, each) for each in range(10)])
        assert [each[0] for each in got] == [each * each for each in range(10)]
        async with pool.stream(make_many, 10, buffer=2) as items:
            assert [int(each[0]) async for each in items] == [*range(10)]


@pytest.mark.parametrize("forced", [without_memfd, without_any])
async def test_there_is_a_way_without_memfds(forced: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through shared memory, or through the socket."""
    from aioconc._wire import _memory

    monkeypatch.setattr(_memory, "kind", _memory.kind)
    forced()
    array = np.arange(float(MIB))
    async with ProcessExecutor(max_workers=1, initializer=forced) as pool:
        got = await pool.run(squares, array)
        assert np.array_equal(got, array * array)
        assert await pool.run(same, bytes(3 * MIB)) == bytes(3 * MIB)
        assert await pool.run(same, bytearray(3 * MIB)) == bytearray(3 * MIB)
    if Path("/dev/shm").exists():
        assert not [each for each in Path("/dev/shm").iterdir() if "aioconc" in each.name]


async def test_many_arrays_are_kept_with_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a share of the descriptors, arrays are copied instead of mapped."""
    monkeypatch.setattr("aioconc._wire._loans.most_descriptors", lambda: 5)
    async with ProcessExecutor(max_workers=1) as pool:
        before = memfds()
        kept = [await pool.run(make, MIB // 8) for _ in range(30)]
        assert memfds() <= before + 6
        assert all(each.sum() == MIB // 8 for each in kept)
