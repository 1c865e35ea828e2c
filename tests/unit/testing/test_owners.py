"""Recording who holds asyncio's locks: what is recorded, and that the program does not notice."""

import asyncio
import gc
import inspect
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from aioconc.testing._owners import place_of, record_owners, recorded

pytestmark = pytest.mark.loops("all")

PATCHED = [
    (asyncio.Lock, "acquire"),
    (asyncio.Lock, "release"),
    (asyncio.Semaphore, "__init__"),
    (asyncio.Semaphore, "acquire"),
    (asyncio.Semaphore, "release"),
]
KINDS = [asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore]


def state() -> list[tuple[object, ...]]:
    """Everything of the two classes."""
    return [tuple(vars(owner).items()) for owner in (asyncio.Lock, asyncio.Semaphore)]


def holders(primitive: Any) -> "list[asyncio.Task[Any] | None]":
    record = recorded(primitive)
    assert record is not None
    return [None if task is None else task() for task, *_ in record.holds]


@pytest.mark.parametrize("kind", KINDS)
async def test_holder_is_recorded_with_its_line(kind: Callable[[], Any]) -> None:
    """The task that acquired is the holder until it releases, and the line is that of the await."""
    lines, first = inspect.getsourcelines(test_holder_is_recorded_with_its_line)

    def line_of(text: str) -> int:
        return first + next(i for i, line in enumerate(lines) if line.strip().startswith(text))

    with record_owners():
        primitive = kind()
        await primitive.acquire()
        assert holders(primitive) == [asyncio.current_task()]
        record = recorded(primitive)
        assert record is not None
        place = place_of(record.holds[0])
        assert place.startswith(f"{__file__}:{line_of('await primitive.acquire')} in test_holder")
        primitive.release()
        assert holders(primitive) == []
        assert not record.shared
        async with primitive:
            assert holders(primitive) == [asyncio.current_task()]
            assert f":{line_of('async with primitive')} in" in place_of(record.holds[0])


async def test_lock_of_a_condition_is_recorded() -> None:
    """A condition holds its lock outside of `wait`, and not inside."""
    with record_owners():
        condition = asyncio.Condition()
        lock = condition._lock  # type: ignore[attr-defined]
        waiting = asyncio.Event()

        async def consume() -> None:
            async with condition:
                assert holders(lock) == [asyncio.current_task()]
                waiting.set()
                await condition.wait()
                assert holders(lock) == [asyncio.current_task()]

        task = asyncio.create_task(consume())
        await waiting.wait()
        await asyncio.sleep(0)
        async with condition:
            assert holders(lock) == [asyncio.current_task()]
            condition.notify()
        await task


@pytest.mark.parametrize("kind", [asyncio.Semaphore, asyncio.BoundedSemaphore])
async def test_holders_of_a_semaphore_in_order(kind: Callable[[int], Any]) -> None:
    """Every permit has its holder, the oldest first; a release gives back the releaser's own."""
    with record_owners():
        slots = kind(3)
        end = asyncio.Event()

        async def hold() -> None:
            async with slots:
                await end.wait()

        tasks = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        await slots.acquire()
        assert holders(slots) == [*tasks, asyncio.current_task()]
        slots.release()
        assert holders(slots) == tasks
        end.set()
        await asyncio.gather(*tasks)
        assert holders(slots) == []
        record = recorded(slots)
        assert record is not None
        assert not record.shared
        assert record.free_at_start == 3


async def test_release_by_another_task_takes_the_oldest_hold() -> None:
    """A task without a hold gives back the oldest one, and the primitive is marked as shared."""
    with record_owners():
        slots = asyncio.Semaphore(2)
        end = asyncio.Event()

        async def hold() -> None:
            await slots.acquire()
            await end.wait()

        tasks = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        slots.release()
        assert holders(slots) == tasks[1:]
        record = recorded(slots)
        assert record is not None
        assert record.shared
        end.set()
        await asyncio.gather(*tasks)


async def test_release_without_any_hold_is_a_signal() -> None:
    """A semaphore that is released by somebody who never acquired it is marked as shared."""
    with record_owners():
        signal = asyncio.Semaphore(0)
        signal.release()
        record = recorded(signal)
        assert record is not None
        assert record.shared
        assert record.holds == []


def test_release_outside_of_a_loop() -> None:
    """A release where no loop runs counts as one by nobody."""
    with record_owners():
        lock = asyncio.Lock()
        asyncio.run(take(lock))
        lock.release()
        assert not lock.locked()
        assert holders(lock) == []


async def take(lock: asyncio.Lock) -> None:
    await lock.acquire()


async def test_failed_release_changes_nothing() -> None:
    """A release that asyncio refuses leaves the record as it was."""
    with record_owners():
        lock, slots = asyncio.Lock(), asyncio.BoundedSemaphore(1)
        async with lock:
            pass
        with pytest.raises(RuntimeError):
            lock.release()
        with pytest.raises(ValueError, match="too many times"):
            slots.release()
        for primitive in (lock, slots):
            record = recorded(primitive)
            assert record is not None
            assert not record.shared


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_acquire_records_nothing(kind: Callable[[], Any]) -> None:
    """A task that is cancelled while it waits holds nothing, also in the tick of its turn."""
    with record_owners():
        primitive = kind()
        await primitive.acquire()
        early, late = asyncio.create_task(take(primitive)), asyncio.create_task(take(primitive))
        await asyncio.sleep(0)
        early.cancel()
        primitive.release()
        late.cancel()  # it has been woken, and has not run yet
        await asyncio.gather(early, late, return_exceptions=True)
        assert early.cancelled()
        assert late.cancelled()
        assert holders(primitive) == []
        assert not primitive.locked()


async def test_acquire_adds_no_suspension() -> None:
    """A free lock is acquired within one step, recorded or not."""

    async def both(lock: asyncio.Lock) -> None:
        async with lock:
            pass
        await lock.acquire()
        lock.release()

    with record_owners():
        coroutine = both(asyncio.Lock())
        with pytest.raises(StopIteration):
            coroutine.send(None)


async def test_order_of_waiters_is_kept() -> None:
    """Waiters get a recorded lock first come, first served."""
    order: list[int] = []

    async def work(lock: asyncio.Lock, index: int) -> None:
        async with lock:
            order.append(index)
            await asyncio.sleep(0)

    with record_owners():
        lock = asyncio.Lock()
        await asyncio.gather(*[work(lock, index) for index in range(5)])
    assert order == [0, 1, 2, 3, 4]


def test_methods_look_like_the_originals() -> None:
    """Names, documentation, signatures and kinds of the methods do not change."""
    before = [getattr(owner, name) for owner, name in PATCHED]
    with record_owners():
        for (owner, name), original in zip(PATCHED, before, strict=True):
            method = getattr(owner, name)
            assert method is not original
            assert inspect.iscoroutinefunction(method) is inspect.iscoroutinefunction(original)
            assert inspect.signature(method) == inspect.signature(original)
            assert method.__qualname__ == original.__qualname__
            assert method.__module__ == original.__module__
            assert method.__doc__ == original.__doc__


def test_everything_is_restored() -> None:
    """After the outermost block the classes are what they were, also if the block raised."""
    before = state()
    with record_owners():
        inside = state()
        with record_owners():
            assert state() == inside
        assert state() == inside
    assert state() == before
    with pytest.raises(ZeroDivisionError), record_owners():
        _ = 1 / 0
    assert state() == before


def test_threads_share_one_recording() -> None:
    """Blocks of several threads overlap in any order; the last one restores."""
    before = state()
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first() -> None:
        with record_owners():
            first_is_in.set()
            second_is_in.wait()

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait()
    with record_owners():
        second_is_in.set()
        thread.join()
        assert state() != before
        lock = asyncio.Lock()
        asyncio.run(take(lock))
        assert recorded(lock) is not None
    assert state() == before


async def test_records_end_with_the_recording() -> None:
    """What was recorded earlier is void: nobody has looked in between."""
    lock = asyncio.Lock()
    with record_owners():
        await lock.acquire()
        assert holders(lock) == [asyncio.current_task()]
    assert recorded(lock) is None
    lock.release()
    await lock.acquire()
    with record_owners():
        assert recorded(lock) is None
        lock.release()
        assert recorded(lock) is None


async def test_condition_that_outlives_the_recording_goes_on() -> None:
    """A condition keeps the methods that it was made with; they work, and record no more."""
    with record_owners():
        condition = asyncio.Condition()
    async with condition:
        lock = condition._lock  # type: ignore[attr-defined]
        assert recorded(lock) is None
    with record_owners():
        async with condition:
            assert recorded(lock) is None
        assert not lock.locked()


async def test_foreign_wrappers_are_left_in_place() -> None:
    """Another tool that wraps the methods meanwhile keeps its wrappers, and nothing recurses."""
    original = asyncio.Lock.acquire
    calls: list[asyncio.Lock] = []
    try:
        with record_owners():
            ours = asyncio.Lock.acquire

            async def traced(self: asyncio.Lock) -> Any:
                calls.append(self)
                return await ours(self)

            asyncio.Lock.acquire = traced  # type: ignore[method-assign]
        assert asyncio.Lock.acquire is traced
        lock = asyncio.Lock()
        with record_owners():
            await lock.acquire()
            assert holders(lock) == [asyncio.current_task()]
        assert calls == [lock]
    finally:
        asyncio.Lock.acquire = original  # type: ignore[method-assign]


async def test_subclass_is_recorded_through_its_base() -> None:
    """A user's lock that calls the base is recorded."""

    class Counted(asyncio.Lock):
        count = 0

        async def acquire(self) -> Any:
            self.count += 1
            return await super().acquire()

    with record_owners():
        lock = Counted()
        async with lock:
            assert holders(lock) == [asyncio.current_task()]
        assert lock.count == 1


async def test_nothing_is_kept_alive() -> None:
    """Neither a lock nor a task lives longer because it was recorded."""
    gc.collect()
    gc.disable()
    try:
        with record_owners():
            lock = asyncio.Lock()
            task = asyncio.create_task(take(lock))
            await task
            watched: list[weakref.ref[Any]] = [weakref.ref(lock), weakref.ref(task)]
            del task
            await asyncio.sleep(0)
            assert watched[1]() is None
            assert holders(lock) == [None]
            del lock
            assert watched[0]() is None
    finally:
        gc.enable()
