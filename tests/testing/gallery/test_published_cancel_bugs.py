"""Published cancellation bugs, rebuilt in small: hidden from a plain run, found by cancelling.

Each is the code as it was, cut down to what was wrong with it. The repaired form passes every
point, so what is found is the bug and not the tool.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import pytest

from aioconc import TaskGroup
from aioconc.errors import CancelFailure
from aioconc.testing import cancel_everywhere, run

T = TypeVar("T")


def found_in(
    program: Callable[[], Coroutine[Any, Any, object]], **options: Any
) -> list[tuple[int, str, str]]:
    """Where a program that passes plainly fails when its tasks are cancelled, and why."""
    run(program)
    asyncio.run(program())
    with pytest.raises(CancelFailure) as failure:
        cancel_everywhere(program, target="children", **options)
    report = failure.value.report
    assert str(report.failures[0]) in str(failure.value)
    return [(each.k, each.phase, problem) for each in report.failures for problem in each.problems]


# -- asyncio.wait_for until Python 3.11: python/cpython#86296 ----------------------------------


async def old_wait_for(aw: Coroutine[Any, Any, T], timeout: float) -> T:
    """`asyncio.wait_for` as it was: it waits for a future of its own beside the task."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def release(*_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_later(timeout, release)
    task = asyncio.ensure_future(aw)
    task.add_done_callback(release)
    try:
        try:
            await waiter
        except asyncio.CancelledError:
            if task.done():
                return task.result()  # the caller has been cancelled, and never hears of it
            task.cancel()
            await asyncio.wait([task])
            raise
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait([task])
        raise TimeoutError
    finally:
        timer.cancel()


async def new_wait_for(aw: Coroutine[Any, Any, T], timeout: float) -> T:
    """As it is since 3.12."""
    async with asyncio.timeout(timeout):
        return await aw


def test_wait_for_that_swallowed_a_cancel() -> None:
    """A cancel in the tick in which the inner task ends is lost, at exactly that point."""

    async def old() -> None:
        await old_wait_for(asyncio.sleep(1), 5)
        await asyncio.sleep(1)

    async def new() -> None:
        await new_wait_for(asyncio.sleep(1), 5)
        await asyncio.sleep(1)

    run(old)
    (point,) = cancel_everywhere(old).swallowed
    assert (point.k, point.phase) == (1, "ready")
    assert point.source == "await waiter"
    # Told to stop, the task has gone on with its next piece of work.
    assert point.delays[0].endswith("await asyncio.sleep(1)")
    assert not cancel_everywhere(new).swallowed


def test_wait_for_of_this_python() -> None:
    """The standard library's own loses the cancel on Python 3.11, and on no later one."""

    async def program() -> None:
        await asyncio.wait_for(asyncio.sleep(1), 5)
        await asyncio.sleep(1)

    lost = [(each.k, each.phase) for each in cancel_everywhere(program).swallowed]
    assert lost == ([(1, "ready")] if sys.version_info < (3, 12) else [])


# -- asyncio.TaskGroup until Python 3.12, inside of another: python/cpython#116720 --------------


def nested(new_group: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, None]]:
    """A group whose child fails, and what goes on after that."""

    async def fail() -> None:
        await asyncio.sleep(1)
        raise OSError("as planned")

    async def program() -> None:
        async with new_group() as outer:
            outer.create_task(asyncio.sleep(2))
            try:
                async with new_group() as inner:
                    inner.create_task(fail())
            except* OSError:
                pass
            await asyncio.sleep(1)
        await asyncio.sleep(1)

    return program


def test_group_that_swallowed_a_cancel() -> None:
    """A cancel in the tick in which a child has failed is lost on Python 3.11 and 3.12."""
    lost = [(each.k, each.phase) for each in cancel_everywhere(nested(asyncio.TaskGroup)).swallowed]
    assert lost == ([(1, "ready")] if sys.version_info < (3, 13) else [])
    assert not cancel_everywhere(nested(TaskGroup)).swallowed


# -- asyncio.Semaphore: python/asyncio#270 and python/cpython#90155 ----------------------------


class Gate(Protocol):
    """What the semaphores and locks below have in common."""

    async def acquire(self) -> object: ...

    def release(self) -> None: ...


class SemaphoreOf2015:
    """One that wakes one waiter, and does not care whether that one takes its turn (#270)."""

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        while self._free == 0:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        self._free -= 1

    def release(self) -> None:
        self._free += 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class SemaphoreOf2022:
    """One with a flag, "somebody has been woken", that a cancelled waiter leaves set (#90155)."""

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._wake_up_scheduled = False
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        while self._wake_up_scheduled or self._free == 0:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
                self._wake_up_scheduled = False
            except asyncio.CancelledError:
                self._wake_up_next()
                raise
        self._free -= 1

    def release(self) -> None:
        self._free += 1
        self._wake_up_next()

    def _wake_up_next(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._wake_up_scheduled = True
                return


def users(
    new_gate: Callable[[], Gate], *arrivals: float
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Tasks that come at these times, and hold the gate for 10 ms each."""

    async def program() -> None:
        gate = new_gate()

        async def user(arrival: float) -> None:
            await asyncio.sleep(arrival)
            await gate.acquire()
            try:
                await asyncio.sleep(0.01)
            finally:
                gate.release()

        async with asyncio.TaskGroup() as group:
            for arrival in arrivals:
                group.create_task(user(arrival))

    return program


def test_semaphore_that_lost_a_wake_up() -> None:
    """A waiter that is cancelled after it was woken takes the wake-up of the next one with it."""
    found = found_in(users(lambda: SemaphoreOf2015(1), 0, 0.001, 0.002))
    assert {phase for _, phase, _ in found} == {"ready"}
    assert all("does not end: deadlock" in problem for _, _, problem in found)
    cancel_everywhere(users(lambda: asyncio.Semaphore(1), 0, 0.001, 0.002), target="children")


def test_semaphore_that_stayed_shut() -> None:
    """With nobody else waiting then, whoever comes later finds it shut, though a permit is free."""
    found = found_in(users(lambda: SemaphoreOf2022(1), 0, 0.001, 0.05))
    assert {phase for _, phase, _ in found} == {"ready"}
    assert all("does not end: deadlock" in problem for _, _, problem in found)
    cancel_everywhere(users(lambda: asyncio.Semaphore(1), 0, 0.001, 0.05), target="children")


# -- asyncio.Queue of Python 3.4: python/asyncio#256 -------------------------------------------


class QueueOf2014:
    """One that hands an item to the future of a getter, which is perhaps not there any more."""

    def __init__(self) -> None:
        self._items: deque[int] = deque()
        self._getters: deque[asyncio.Future[int]] = deque()

    async def get(self) -> int:
        if self._items:
            return self._items.popleft()
        getter = asyncio.get_running_loop().create_future()
        self._getters.append(getter)
        return await getter

    def put_nowait(self, item: int) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(item)
                return
        self._items.append(item)

    def qsize(self) -> int:
        return len(self._items)


def handover(new_queue: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """A consumer who comes before the item does; and a check that the item is somewhere."""
    places: list[Any] = []

    async def program() -> None:
        queue, got = new_queue(), []
        places[:] = queue, got

        async def consume() -> None:
            got.append(await queue.get())

        async with asyncio.TaskGroup() as group:
            group.create_task(consume())
            await asyncio.sleep(0.01)
            queue.put_nowait(1)

    def check() -> None:
        queue, got = places
        assert len(got) + queue.qsize() == 1, "the item is nowhere"

    return program, check


def test_queue_that_lost_an_item() -> None:
    """An item given to a getter that is cancelled before it resumes is nobody's any more."""
    program, check = handover(QueueOf2014)
    ((_, phase, problem),) = found_in(program, check=check)
    assert phase == "ready"
    assert "check() raised AssertionError: the item is nowhere" in problem
    program, check = handover(asyncio.Queue)
    cancel_everywhere(program, target="children", check=check)


# -- anyio.Lock: agronholm/anyio#1145 ----------------------------------------------------------


class LockOf2026:
    """One that hands over to the first waiter who was not cancelled.

    A cancelled waiter stays in the queue until it resumes. Whoever comes in between waits behind
    it, and nobody is left to wake him.
    """

    repaired = False

    def __init__(self) -> None:
        self._owner: asyncio.Task[Any] | None = None
        self._waiters: deque[tuple[Any, asyncio.Future[None]]] = deque()

    async def acquire(self) -> None:
        task = asyncio.current_task()
        if self._owner is None and not self._waiters:
            self._owner = task
            return
        item = task, asyncio.get_running_loop().create_future()
        self._waiters.append(item)
        try:
            await item[1]
        except asyncio.CancelledError:
            self._waiters.remove(item)
            if self._owner is task or (self.repaired and self._owner is None):
                self._hand_over()
            raise
        self._waiters.remove(item)

    def release(self) -> None:
        self._hand_over()

    def _hand_over(self) -> None:
        for task, waiter in self._waiters:
            if not waiter.done():
                self._owner = task
                waiter.set_result(None)
                return
        self._owner = None


class RepairedLock(LockOf2026):
    """One whose cancelled waiter looks whether the lock is free, and wakes the next."""

    repaired = True


def in_step(new_lock: Callable[[], Gate]) -> Callable[[], Coroutine[Any, Any, None]]:
    """The first comes as the second leaves, and the third just after that: all in one tick."""

    async def program() -> None:
        lock = new_lock()

        async def user(ticks_before: int) -> None:
            for _ in range(ticks_before):
                await asyncio.sleep(0)
            await lock.acquire()
            try:
                await asyncio.sleep(0)
            finally:
                lock.release()

        async with asyncio.TaskGroup() as group:
            for ticks_before in (1, 0, 1):
                group.create_task(user(ticks_before))

    return program


def test_lock_that_nobody_held_and_nobody_got() -> None:
    """A waiter behind one that is being cancelled is never woken, though the lock is free."""
    found = found_in(in_step(LockOf2026))
    assert {phase for _, phase, _ in found} == {"suspended"}
    assert all("does not end: deadlock" in problem for _, _, problem in found)
    for new_lock in (RepairedLock, asyncio.Lock):
        cancel_everywhere(in_step(new_lock), target="children")
