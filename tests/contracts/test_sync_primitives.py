"""What locks, events, semaphores, barriers and limiters promise, to tasks, to threads, and mixed.

Queues are in `test_sync_queues`.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aioconc import sync
from tests.contracts.sync_actors import (
    GAVE_UP,
    Cast,
    cast,
    check_repr,
    until,
    wait_for_waiters,
    waiting,
)

pytestmark = pytest.mark.loops("all")


@pytest.fixture(params=["task", "thread", "mixed"])
async def actor(request: pytest.FixtureRequest) -> AsyncIterator[Cast]:
    async with cast(request.param) as make:
        yield make


# What is acquired and released: one at a time.
EXCLUSIVE: dict[str, Any] = {
    "Lock": sync.Lock,
    "RLock": sync.RLock,
    "Semaphore": sync.Semaphore,
    "BoundedSemaphore": sync.BoundedSemaphore,
    "CapacityLimiter": lambda: sync.CapacityLimiter(1),
}


@pytest.fixture
def kit() -> Any:
    """Where primitives come from; `test_manager` has another one."""
    return sync


@pytest.fixture(params=EXCLUSIVE)
def exclusive(request: pytest.FixtureRequest) -> Any:
    return EXCLUSIVE[request.param]()


# ------------------------------------------------------------------ what can be held


async def test_one_holder_at_a_time(actor: Cast, exclusive: Any) -> None:
    """The second waits until the first has released."""
    first, second = actor(), actor()
    await first.do(exclusive, "acquire")
    taken = second.do(exclusive, "acquire")
    await wait_for_waiters(exclusive, 1)
    assert not taken.done()
    await first.do(exclusive, "release")
    await taken
    assert waiting(exclusive) == 0
    await second.do(exclusive, "release")


async def test_it_is_handed_over_in_the_order_of_arrival(actor: Cast, exclusive: Any) -> None:
    """Whoever came first is served first, whatever kind he is."""
    order: list[int] = []
    holder = actor()
    await holder.do(exclusive, "acquire")
    others = [actor() for _ in range(4)]
    taken = []
    for number, each in enumerate(others):
        taken.append(each.do(exclusive, "acquire"))
        await wait_for_waiters(exclusive, number + 1)
    await holder.do(exclusive, "release")
    for number, each in enumerate(others):
        await taken[number]
        order.append(number)
        assert not any(later.done() for later in taken[number + 1 :])
        await each.do(exclusive, "release")
    assert order == [0, 1, 2, 3]


async def test_who_gives_up_leaves_the_others_their_order(actor: Cast, exclusive: Any) -> None:
    """A waiter who gives up takes nothing, and those behind him keep their places."""
    holder, second, third, fourth = (actor() for _ in range(4))
    await holder.do(exclusive, "acquire")
    before = second.do(exclusive, "acquire")
    await wait_for_waiters(exclusive, 1)
    assert await third.give_up(exclusive, "acquire") == GAVE_UP
    after = fourth.do(exclusive, "acquire")
    await wait_for_waiters(exclusive, 2)
    await holder.do(exclusive, "release")
    await before
    assert not after.done()
    await second.do(exclusive, "release")
    await after
    await fourth.do(exclusive, "release")


async def test_released_it_can_be_taken_again(actor: Cast, exclusive: Any) -> None:
    """After everybody has given up or released, it is as new."""
    holder, other = actor(), actor()
    await holder.do(exclusive, "acquire")
    assert await other.give_up(exclusive, "acquire") == GAVE_UP
    await holder.do(exclusive, "release")
    await other.do(exclusive, "acquire")
    await other.do(exclusive, "release")


async def test_blocks_hold_it(exclusive: Any) -> None:
    """`async with` in tasks and `with` in threads hold it for the block, also if that raises."""

    def in_thread() -> None:
        with exclusive.sync:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with exclusive:
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(in_thread)
    async with exclusive:
        pass


# ------------------------------------------------------------------ locks


async def test_a_lock_knows_its_owner(actor: Cast) -> None:
    """The owner is a task or a thread, and is told by name."""
    lock, holder = sync.Lock(), actor()
    await holder.do(lock, "acquire")
    owner = lock.statistics().owner or ""
    assert owner.startswith(f"{holder.kind} '")
    assert repr(lock) == f"<Lock locked by {owner}, 0 waiting>"
    await holder.do(lock, "release")
    assert lock.statistics() == sync.LockStatistics(0, 0, False, None)
    assert repr(lock) == "<Lock unlocked, 0 waiting>"


async def test_a_lock_may_be_released_by_anybody(actor: Cast) -> None:
    """As in asyncio; and once only."""
    lock, holder, other = sync.Lock(), actor(), actor()
    await holder.do(lock, "acquire")
    await other.do(lock, "release")
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="not acquired"):
        await other.do(lock, "release")


async def test_a_reentrant_lock_belongs_to_its_owner(actor: Cast, kit: Any) -> None:
    """The owner takes it again without waiting; nobody else releases it."""
    lock, holder, other = kit.RLock(), actor(), actor()
    await holder.do(lock, "acquire")
    await holder.do(lock, "acquire")
    taken = other.do(lock, "acquire")
    await wait_for_waiters(lock, 1)
    with pytest.raises(RuntimeError, match="released by its owner"):
        lock.release()
    await holder.do(lock, "release")
    assert not taken.done()
    await holder.do(lock, "release")
    await taken
    with pytest.raises(RuntimeError, match="released by its owner"):
        await holder.do(lock, "release")
    await other.do(lock, "release")
    assert not lock.locked()


# ------------------------------------------------------------------ events


async def test_an_event_lets_all_go(actor: Cast, kit: Any) -> None:
    """All who wait go on, also if it is cleared at once; who comes later waits."""
    event = kit.Event()
    waits = [actor().do(event, "wait") for _ in range(3)]
    await wait_for_waiters(event, 3)
    check_repr(event, "<Event not set, 3 waiting>")
    event.set()
    event.clear()
    assert await asyncio.gather(*waits) == [True] * 3
    assert await actor().give_up(event, "wait") == GAVE_UP
    event.set()
    assert await actor().do(event, "wait") is True
    assert event.is_set() and event.statistics().is_set


async def test_what_events_and_semaphores_show() -> None:
    """The same on both faces."""
    event, semaphore = sync.Event(), sync.Semaphore(2)
    event.set()
    assert event.is_set() and event.sync.is_set()
    assert event.statistics() == sync.EventStatistics(0, 0, True)
    assert semaphore.statistics() == sync.SemaphoreStatistics(0, 0, 2)


# ------------------------------------------------------------------ conditions


@pytest.mark.parametrize("inner", ["Lock", "RLock"])
async def test_notified_waiters_hold_the_lock(actor: Cast, kit: Any, inner: str) -> None:
    """`notify` wakes the oldest, each of whom goes on with the lock."""
    condition = kit.Condition(getattr(kit, inner)())
    waiters = [actor() for _ in range(3)]
    waits = []
    for number, each in enumerate(waiters):
        await each.do(condition, "acquire")
        waits.append(each.do(condition, "wait"))
        await wait_for_waiters(condition, number + 1)
    notifier = actor()
    await notifier.do(condition, "acquire")
    await notifier.do(condition, "notify", 2)
    assert waiting(condition) == 1
    await notifier.do(condition, "release")
    left = {0, 1}  # threads take the lock as the system lets them run
    while left:
        await until(lambda: any(waits[number].done() for number in left))
        (number,) = (number for number in left if waits[number].done())
        left.remove(number)
        assert await waits[number] is True
        assert condition.locked()
        await waiters[number].do(condition, "release")
    assert not waits[2].done()
    await notifier.do(condition, "acquire")
    await notifier.do(condition, "notify_all")
    await notifier.do(condition, "release")
    await waits[2]
    await waiters[2].do(condition, "release")
    assert not condition.locked()


async def test_who_gives_up_a_condition_holds_the_lock(actor: Cast, kit: Any) -> None:
    """The lock is held again, and the notification is for another."""
    condition = kit.Condition()
    first, second = actor(), actor()
    await first.do(condition, "acquire")
    assert await first.give_up(condition, "wait") == GAVE_UP
    assert condition.locked()
    await first.do(condition, "release")
    await second.do(condition, "acquire")
    waits = second.do(condition, "wait")
    await wait_for_waiters(condition, 1)
    async with condition:
        condition.notify()
    await waits
    await second.do(condition, "release")


async def test_wait_for_asks_again(actor: Cast) -> None:
    """It returns what the predicate gave, once that is true."""
    condition, found = sync.Condition(), list[str]()
    waiter = actor()
    await waiter.do(condition, "acquire")
    waits = waiter.do(condition, "wait_for", lambda: found)
    for item in (None, "it"):
        await wait_for_waiters(condition, 1)
        async with condition:
            found.extend([item] if item else [])
            condition.notify()
    assert await waits == ["it"]
    await waiter.do(condition, "release")


async def test_a_condition_wants_its_lock_held() -> None:
    """Waiting and notifying without the lock is an error, as is a lock of another kind."""
    condition = sync.Condition()
    with pytest.raises(RuntimeError, match="whose lock nobody holds"):
        await condition.wait()
    with pytest.raises(RuntimeError, match="whose lock nobody holds"):
        condition.notify()
    with pytest.raises(RuntimeError, match="whose lock nobody holds"):
        condition.notify_all()
    with pytest.raises(TypeError, match="Lock or RLock of aioconc"):
        sync.Condition(asyncio.Lock())  # type: ignore[arg-type]
    assert repr(condition) == "<Condition unlocked, 0 waiting>"


async def test_a_condition_of_an_rlock_is_released_whole_and_by_its_owner_only() -> None:
    """However often the owner holds it; a stranger who waits is refused and leaves no waiter."""
    lock = sync.RLock()
    condition = sync.Condition(lock)

    async def stranger() -> None:
        await condition.wait()

    async def notify() -> None:
        async with condition:
            condition.notify()

    async with lock, lock:
        with pytest.raises(RuntimeError, match="released by its owner"):
            await asyncio.create_task(stranger())
        assert waiting(condition) == 0
        task = asyncio.create_task(notify())
        await condition.wait()
        await task
        assert lock._extra == 1
    assert not lock.locked()


# ------------------------------------------------------------------ semaphores, limiters


async def test_permits_are_counted(actor: Cast, kit: Any) -> None:
    """So many as there are permits go in; several may be given back at once."""
    semaphore = kit.Semaphore(2)
    actors = [actor() for _ in range(4)]
    for each in actors[:2]:
        await each.do(semaphore, "acquire")
    assert semaphore.locked()
    waits = [each.do(semaphore, "acquire") for each in actors[2:]]
    await wait_for_waiters(semaphore, 2)
    check_repr(semaphore, "<Semaphore 0 free, 2 waiting>")
    await actors[0].do(semaphore, "release", 2)
    await asyncio.gather(*waits)
    await actors[0].do(semaphore, "release", 2)
    assert semaphore.statistics().permits_free == 2


def test_permits_out_of_range_are_refused() -> None:
    """Numbers of permits, and releases that are one too many."""
    with pytest.raises(ValueError, match="value must be an int >= 0, got -1"):
        sync.Semaphore(-1)
    with pytest.raises(ValueError, match="n must be an int >= 1, got 0"):
        sync.Semaphore(1).release(0)
    bounded = sync.BoundedSemaphore(2)
    bounded.sync.acquire()
    with pytest.raises(ValueError, match="it has 2 permits, and 1 are free"):
        bounded.release(2)
    bounded.release()
    assert bounded.statistics().permits_free == 2


async def test_a_limiter_knows_its_borrowers(actor: Cast) -> None:
    """Nobody borrows twice or gives back what he has not; more places wake those who wait."""
    limiter = sync.CapacityLimiter(1)
    holder, other = actor(), actor()
    await holder.do(limiter, "acquire")
    with pytest.raises(RuntimeError, match=r"borrowed a place of .* already"):
        await holder.do(limiter, "acquire")
    with pytest.raises(RuntimeError, match="has borrowed nothing"):
        await other.do(limiter, "release")
    waits = other.do(limiter, "acquire")
    await wait_for_waiters(limiter, 1)
    with pytest.raises(BlockingIOError):
        limiter.acquire_nowait()
    limiter.total_tokens = 2
    await waits
    counts = limiter.statistics()
    assert (counts.total_tokens, counts.borrowed_tokens) == (2, 2)
    assert [each.split()[0] for each in counts.borrowers] == [holder.kind, other.kind]
    limiter.total_tokens = 1
    assert (limiter.borrowed_tokens, limiter.available_tokens) == (2, -1)
    await holder.do(limiter, "release")
    await other.do(limiter, "release")
    limiter.acquire_nowait()
    limiter.release()
    assert repr(limiter) == "<CapacityLimiter 0/1 borrowed, 0 waiting>"


async def test_a_limiter_lends_on_behalf_of_anything() -> None:
    """A borrower may be any object that can be hashed; one that waits cannot ask again."""
    limiter = sync.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("a")
    waits = asyncio.ensure_future(limiter.acquire_on_behalf_of("b"))
    await wait_for_waiters(limiter, 1)
    with pytest.raises(RuntimeError, match="or waits for one"):
        await limiter.acquire_on_behalf_of("b")
    limiter.release_on_behalf_of("a")
    await waits
    assert limiter.statistics().borrowers == ("'b'",)
    limiter.release_on_behalf_of("b")


# ------------------------------------------------------------------ barriers


async def test_a_barrier_lets_a_party_through(actor: Cast, kit: Any) -> None:
    """All go on when the last arrives, each with a number of his own; and then the next party."""
    barrier = kit.Barrier(3)
    actors = [actor() for _ in range(3)]
    for _ in range(2):
        waits = []
        for number, each in enumerate(actors):
            await until(lambda number=number: barrier.n_waiting == number)
            waits.append(each.do(barrier, "wait"))
        assert await asyncio.gather(*waits) == [0, 1, 2]
    check_repr(barrier, "<Barrier 0/3 waiting>")
    assert (barrier.parties, barrier.n_waiting) == (3, 0)


async def test_a_broken_barrier_is_an_error_until_it_is_reset(actor: Cast, kit: Any) -> None:
    """Who waits when it is aborted hears of it, and who comes after; both standard errors fit."""
    barrier = kit.Barrier(2)
    waits = actor().do(barrier, "wait")
    await wait_for_waiters(barrier, 1)
    other = actor()
    await other.do(barrier, "abort")
    with pytest.raises(asyncio.BrokenBarrierError):
        await waits
    with pytest.raises(threading.BrokenBarrierError, match="reset it first"):
        await other.do(barrier, "wait")
    assert barrier.broken and barrier.statistics().broken
    check_repr(barrier, "<Barrier broken>")
    await other.do(barrier, "reset")
    waits = other.do(barrier, "wait")
    await wait_for_waiters(barrier, 1)
    await barrier.reset()
    with pytest.raises(sync.BarrierBroken, match="reset while"):
        await waits
    assert await asyncio.gather(actor().do(barrier, "wait"), actor().do(barrier, "wait"))


async def test_a_task_that_leaves_a_barrier_is_replaced() -> None:
    """A cancelled task does not break it; a thread whose time is up does, as with threading."""
    barrier = sync.Barrier(2)
    async with cast("task") as make:
        assert await make().give_up(barrier, "wait") == GAVE_UP
        assert not barrier.broken
    async with barrier.__class__(1) as number:
        assert number == 0
    assert (barrier.sync.parties, barrier.sync.n_waiting, barrier.sync.broken) == (2, 0, False)
    with pytest.raises(sync.BarrierBroken):
        await asyncio.to_thread(barrier.sync.wait, 0)
    assert barrier.broken
