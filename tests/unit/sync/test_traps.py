"""What other libraries got wrong in locks and queues, one test for each."""

import asyncio
import gc
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aioconc import sync
from aioconc.errors import DeadlockError
from aioconc.sync._wait_queue import WaitQueue
from aioconc.testing import run as simulate, wait_graph

pytestmark = pytest.mark.loops("all")

HELD: dict[str, Any] = {
    "Lock": sync.Lock,
    "RLock": sync.RLock,
    "Semaphore": sync.Semaphore,
    "BoundedSemaphore": sync.BoundedSemaphore,
    "CapacityLimiter": lambda: sync.CapacityLimiter(1),
    "Condition": sync.Condition,
}


async def queued(call: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """A task that has begun the call, and waits."""
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def take_and_release(primitive: Any, log: list[str], name: str) -> None:
    async with primitive:
        log.append(name)


# ------------------------------------------------------------------ lost wake-ups


@pytest.mark.parametrize("name", HELD)
async def test_cancelled_in_the_tick_of_the_grant_it_goes_to_the_next(name: str) -> None:
    """A waiter that was handed the lock and is cancelled before it goes on passes it on."""
    primitive, log = HELD[name](), list[str]()
    async with primitive:
        second = await queued(take_and_release(primitive, log, "second"))
        third = await queued(take_and_release(primitive, log, "third"))
        fourth = await queued(take_and_release(primitive, log, "fourth"))
    second.cancel()
    await asyncio.gather(second, third, fourth, return_exceptions=True)
    assert second.cancelled()
    assert log == ["third", "fourth"]
    async with primitive:
        pass


@pytest.mark.parametrize("name", HELD)
async def test_cancel_and_release_in_one_tick_wake_the_next(name: str) -> None:
    """A waiter cancelled just before the release is still in the queue, and does not swallow it."""
    primitive, log = HELD[name](), list[str]()
    async with primitive:
        second = await queued(take_and_release(primitive, log, "second"))
        third = await queued(take_and_release(primitive, log, "third"))
        second.cancel()
    await asyncio.gather(second, third, return_exceptions=True)
    assert log == ["third"]


@pytest.mark.parametrize("name", HELD)
async def test_all_granted_waiters_cancelled_it_is_free(name: str) -> None:
    """With nobody left who wants it, the lock is free again."""
    primitive = HELD[name]()
    async with primitive:
        waiters = [await queued(primitive.acquire()) for _ in range(3)]
    for each in waiters:
        each.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    async with asyncio.timeout(5), primitive:
        pass


async def test_a_notification_of_a_cancelled_waiter_wakes_another() -> None:
    """Cancelled in the tick of `notify`, or while it waits for the lock after it."""
    for late in (False, True):
        condition, woken = sync.Condition(), list[str]()

        async def wait(name: str, condition: sync.Condition = condition) -> None:
            async with condition:
                await condition.wait()
                woken.append(name)  # noqa: B023

        first = await queued(wait("first"))
        second = await queued(wait("second"))
        async with condition:
            condition.notify()
            if late:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(first, second, return_exceptions=True)
        assert first.cancelled()
        assert woken == ["second"]


async def test_a_condition_cancelled_many_times_holds_the_lock_all_the_same() -> None:
    """The lock is waited for through any number of cancellations, and then released once."""
    condition = sync.Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    task = await queued(wait())
    async with condition:
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not condition.locked()


# ------------------------------------------------------------------ lost items


@pytest.mark.parametrize("kind", [sync.Queue, sync.LifoQueue, sync.PriorityQueue])
async def test_a_getter_cancelled_in_the_tick_of_its_item_loses_none(kind: Any) -> None:
    """The item goes to the next getter, or stays in the queue."""
    items = kind()
    first, second = await queued(items.get()), await queued(items.get())
    items.put_nowait(1)
    assert items.empty()  # it is the first one's
    first.cancel()
    assert await second == 1
    third = await queued(items.get_many(2))
    items.put_nowait(2)
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    assert [items.get_nowait(), items.qsize()] == [2, 0]


@pytest.mark.parametrize("kind", [sync.Queue, sync.LifoQueue, sync.PriorityQueue])
async def test_a_putter_cancelled_in_the_tick_of_its_place_leaves_no_item(kind: Any) -> None:
    """Its item is not in the queue, and the place goes to the next putter."""
    items = kind(1)
    items.put_nowait(1)
    first, second = await queued(items.put(2)), await queued(items.put(3))
    assert items.get_nowait() == 1
    assert items.full()  # the place is the first one's
    first.cancel()
    await second
    assert first.cancelled()
    assert [items.get_nowait(), items.qsize()] == [3, 0]


async def test_the_bound_holds_while_a_granted_item_waits_to_be_taken() -> None:
    """An item on its way to a getter takes room until the getter has it."""
    items: sync.Queue[int] = sync.Queue(1)
    getter = await queued(items.get())
    items.put_nowait(1)
    with pytest.raises(sync.QueueFull):
        items.put_nowait(2)
    getter.cancel()
    await asyncio.gather(getter, return_exceptions=True)
    assert items.qsize() == 1


async def test_items_keep_their_order_where_a_getter_is_cancelled() -> None:
    """The next getter takes the item that was first; the last of them is free, before all others."""
    items: sync.Queue[int] = sync.Queue()
    getters = [await queued(items.get()) for _ in range(3)]
    for number in range(4):
        items.put_nowait(number)
    getters[0].cancel()
    getters[2].cancel()
    await asyncio.gather(*getters, return_exceptions=True)
    assert getters[1].result() == 0
    assert [items.get_nowait() for _ in range(3)] == [1, 2, 3]


async def test_who_comes_before_a_getter_goes_on_takes_the_first_item() -> None:
    """So items come out in their order, also where that getter is cancelled then."""
    items: sync.Queue[int] = sync.Queue()
    getters = [await queued(items.get()) for _ in range(2)]
    await items.put_many(range(7))
    assert items.qsize() == 5
    found = [items.get_nowait(), await items.get(), *await items.get_many(2)]
    getters[0].cancel()
    await asyncio.gather(*getters, return_exceptions=True)
    assert found == [0, 1, 2, 3]
    assert getters[1].result() == 4
    assert [items.get_nowait(), items.get_nowait()] == [5, 6]


@pytest.mark.parametrize(
    ("kind", "order"), [(sync.LifoQueue, [1, 3, 2]), (sync.PriorityQueue, [1, 2, 3])]
)
async def test_a_getter_takes_what_is_next_when_it_goes_on(kind: Any, order: list[int]) -> None:
    """What came after its item was granted may be before that one in the order of the queue."""
    items = kind()
    getters = [await queued(items.get()) for _ in range(2)]
    for number in (2, 3, 1):
        items.put_nowait(number)
    assert items.qsize() == 1
    assert [*await asyncio.gather(*getters), items.get_nowait()] == order


async def test_room_made_without_the_mutex_belongs_to_who_waits() -> None:
    """Between the taking of an item and the look for putters, nobody else gets the room."""
    items: sync.Queue[int] = sync.Queue(1)
    items.put_nowait(1)
    first = await queued(items.put(2))
    assert items._take() == 1  # another thread, in the middle of `get`
    with pytest.raises(sync.QueueFull):
        items.put_nowait(3)
    second = asyncio.ensure_future(items.put(3))
    await first  # whom the second has let in, before itself
    assert [await items.get(), await items.get()] == [2, 3]
    await second


async def test_room_made_while_a_putter_queues_up_is_seen_by_it() -> None:
    """A thread that takes an item just before the putter is in the queue sees nobody to wake."""
    items: sync.Queue[int] = sync.Queue(1)
    items.put_nowait(1)

    class Slow(WaitQueue):
        def add(self, waiter: Any) -> None:
            assert items._take() == 1
            super().add(waiter)

    items._putters = Slow()
    async with asyncio.timeout(10):
        await items.put(2)
    assert items.get_nowait() == 2


async def test_an_item_that_comes_back_after_shutdown_is_for_who_waits() -> None:
    """Getters hear of the end only once no item can come back any more."""
    items: sync.Queue[int] = sync.Queue()
    first, second = await queued(items.get()), await queued(items.get())
    items.put_nowait(1)
    items.shutdown()
    first.cancel()
    assert await second == 1
    third, fourth = asyncio.ensure_future(items.get()), asyncio.ensure_future(items.get())
    outcomes = await asyncio.gather(third, fourth, return_exceptions=True)
    assert all(isinstance(each, sync.QueueShutDown) for each in outcomes)


async def test_immediate_shutdown_voids_what_was_granted() -> None:
    """A getter with an item on its way, and a putter with a place, hear of the end."""
    empty: sync.Queue[int] = sync.Queue(1)
    getter = await queued(empty.get())
    empty.put_nowait(1)
    empty.shutdown(immediate=True)
    full: sync.Queue[int] = sync.Queue(1)
    full.put_nowait(1)
    putter = await queued(full.put(2))
    full.get_nowait()
    full.task_done()
    full.shutdown(immediate=True)
    outcomes = await asyncio.gather(getter, putter, return_exceptions=True)
    assert [type(each) for each in outcomes] == [sync.QueueShutDown] * 2
    await asyncio.gather(empty.join(), full.join())


async def test_a_source_that_fails_leaves_its_items_and_no_places_taken() -> None:
    """`put_many` puts what it has read, raises the source's error, and gives places back."""
    items: sync.Queue[int] = sync.Queue(4)

    def source() -> Any:
        yield 1
        yield 2
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await items.put_many(source())
    found = [items.get_nowait() for _ in range(items.qsize())]
    assert found == [1, 2][: len(found)]
    for number in range(4):
        items.put_nowait(number)
    assert items.full()


def test_items_that_cannot_be_compared_go_in_order() -> None:
    """Equal priorities do not compare payloads; an item without order fails its own put only."""
    items: sync.PriorityQueue[Any] = sync.PriorityQueue(10)
    items.put_nowait((1, {"a": 1}))
    items.put_nowait((1, {"b": 1}))
    items.put_nowait((0, {}))
    with pytest.raises(TypeError):
        items.put_nowait("no tuple")
    assert items.qsize() == 3
    assert [items.get_nowait() for _ in range(3)] == [(0, {}), (1, {"a": 1}), (1, {"b": 1})]
    keyed: sync.PriorityQueue[Any] = sync.PriorityQueue(key=lambda item: item["size"])
    for number, size in enumerate([2, 1, 2, 1]):
        keyed.put_nowait({"size": size, "number": number})
    assert [keyed.get_nowait()["number"] for _ in range(4)] == [1, 3, 0, 2]


def test_an_item_whose_put_fails_changes_no_number() -> None:
    """`join` does not wait for an item that never went in."""
    items: sync.PriorityQueue[Any] = sync.PriorityQueue(1)

    async def main() -> None:
        await items.put(1)
        items.get_nowait()
        items.task_done()
        full: sync.PriorityQueue[Any] = sync.PriorityQueue()
        await full.put(1)
        with pytest.raises(TypeError):
            await full.put("one")
        assert full.statistics().unfinished == full.qsize() == 1

    asyncio.run(main())


# ------------------------------------------------------------------ loops and threads

BLOCKING: dict[str, Callable[[], Any]] = {
    "Lock.acquire": lambda: sync.Lock().sync.acquire(),
    "with Lock": lambda: sync.Lock().sync.__enter__(),
    "RLock.acquire": lambda: sync.RLock().sync.acquire(timeout=0),
    "Event.wait": lambda: sync.Event().sync.wait(),
    "Condition.acquire": lambda: sync.Condition().sync.acquire(),
    "with Condition": lambda: sync.Condition().sync.__enter__(),
    "Condition.wait": lambda: sync.Condition().sync.wait(),
    "Semaphore.acquire": lambda: sync.Semaphore().sync.acquire(),
    "with Semaphore": lambda: sync.Semaphore().sync.__enter__(),
    "BoundedSemaphore.acquire": lambda: sync.BoundedSemaphore().sync.acquire(),
    "Barrier.wait": lambda: sync.Barrier(2).sync.wait(),
    "CapacityLimiter.acquire": lambda: sync.CapacityLimiter(1).sync.acquire(),
    "with CapacityLimiter": lambda: sync.CapacityLimiter(1).sync.__enter__(),
    "Queue.get": lambda: sync.Queue[int]().sync.get(),
    "Queue.get_many": lambda: sync.Queue[int]().sync.get_many(2),
    "Queue.put": lambda: sync.Queue[int]().sync.put(1),
    "Queue.put_many": lambda: sync.Queue[int]().sync.put_many([1]),
    "Queue.join": lambda: sync.Queue[int]().sync.join(),
    "LifoQueue.get": lambda: sync.LifoQueue[int]().sync.get(),
    "PriorityQueue.get": lambda: sync.PriorityQueue[int]().sync.get(),
}


@pytest.mark.parametrize("name", BLOCKING)
async def test_blocking_a_running_loop_is_refused_with_the_right_line(name: str) -> None:
    """A task that would block its own loop's thread is told what to write."""
    with pytest.raises(RuntimeError, match=r"would block the event loop.*write `.*(await|async)"):
        BLOCKING[name]()


@pytest.mark.parametrize("name", HELD)
def test_a_waiter_of_a_closed_loop_is_skipped(name: str) -> None:
    """Who releases hears nothing of it, and the next waiter, of another loop, goes on."""
    primitive = HELD[name]()
    first_loop = asyncio.new_event_loop()
    keep: list[Any] = []

    async def wait_first() -> None:
        task = asyncio.create_task(primitive.acquire())
        keep.append(task)
        await asyncio.sleep(0)

    primitive.sync.acquire()
    first_loop.run_until_complete(wait_first())
    first_loop.close()
    done = threading.Event()

    def other_loop() -> None:
        async def main() -> None:
            async with primitive:
                done.set()

        asyncio.run(main())

    thread = threading.Thread(target=other_loop)
    thread.start()
    statistics = getattr(primitive, "_internal_lock", primitive).statistics
    while sum((statistics().tasks_waiting, statistics().threads_waiting)) < 2:
        threading.Event().wait(0.001)
    primitive.release()
    assert done.wait(10)
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keep[0]._log_destroy_pending = False
        keep.clear()
        gc.collect()


@pytest.mark.parametrize("kind", [sync.Queue, sync.LifoQueue, sync.PriorityQueue])
def test_an_item_granted_to_a_closed_loop_goes_to_the_next(kind: Any) -> None:
    """Getters and putters of a loop that is gone take no item and no place with them."""
    items = kind(1)
    keep: list[Any] = []

    def leave_behind(make: Callable[[], Any]) -> None:
        async def main() -> None:
            task = asyncio.create_task(make())
            keep.append(task)
            await asyncio.sleep(0)
            task._log_destroy_pending = False  # type: ignore[attr-defined]

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()

    for _ in range(3):
        leave_behind(items.get)
    items.put_nowait(1)
    assert items.get_nowait() == 1
    items.put_nowait(2)
    leave_behind(lambda: items.put(3))
    assert items.get_nowait() == 2
    items.put_nowait(4)
    assert items.sync.qsize() == 1


async def test_a_chain_of_dead_waiters_is_no_recursion() -> None:
    """Thousands of waiters whose loops are closed are skipped one after the other."""
    lock = sync.Lock()
    await lock.acquire()
    tasks: list[Any] = []

    def leave_behind() -> None:
        async def main() -> None:
            for _ in range(3_000):
                task = asyncio.create_task(lock.acquire())
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                tasks.append(task)
            await asyncio.sleep(0)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()

    await asyncio.to_thread(leave_behind)
    lock.release()
    assert not lock.locked()


def test_an_event_set_from_a_thread_wakes_tasks_of_several_loops() -> None:
    """One call, any number of loops."""
    event = sync.Event()

    def loop() -> None:
        async def main() -> None:
            await asyncio.gather(event.wait(), event.wait())

        asyncio.run(main())

    threads = [threading.Thread(target=loop) for _ in range(3)]
    for each in threads:
        each.start()
    while event.statistics().tasks_waiting < 6:
        threading.Event().wait(0.001)
    event.set()
    for each in threads:
        each.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_use_in_a_forked_child_raises() -> None:
    """What was made before the fork is refused in the child, and what is made there works."""
    made = [
        sync.Lock(),
        sync.RLock(),
        sync.Event(),
        sync.Condition(),
        sync.Semaphore(),
        sync.BoundedSemaphore(),
        sync.Barrier(1),
        sync.CapacityLimiter(1),
        sync.Queue[int](),
        sync.LifoQueue[int](),
        sync.PriorityQueue[int](),
    ]
    names = ("acquire", "release", "wait", "set", "notify", "abort", "get", "put_many", "join")

    def refusals() -> int:
        count = 0
        for each in made:
            for name in names:
                method = getattr(each.sync, name, None)
                if method is None:
                    continue
                arguments = ([1],) if name == "put_many" else ()
                try:
                    method(*arguments)
                except RuntimeError as error:
                    if "was made in the parent of this forked process" in str(error):
                        count += 1
                        continue
                return -1
        with sync.Lock().sync:
            return count

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads may run
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if refusals() >= 20 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ------------------------------------------------------------------ fairness, the loop's turn


async def test_consumers_share_evenly() -> None:
    """Nobody takes twice what another takes, however fast it asks again."""
    items: sync.Queue[int] = sync.Queue(4)
    taken = [0, 0, 0]

    async def consume(number: int) -> None:
        async for _ in items:
            taken[number] += 1

    consumers = [asyncio.create_task(consume(number)) for number in range(3)]
    await asyncio.sleep(0)
    for number in range(600):
        await items.put(number)
        await asyncio.sleep(0)
    items.shutdown()
    await asyncio.gather(*consumers)
    assert sum(taken) == 600
    assert max(taken) < 2 * min(taken)


async def test_nobody_overtakes_those_who_wait_for_a_lock() -> None:
    """A holder that asks again at once goes to the end of the queue."""
    lock, log = sync.Lock(), list[str]()

    async def greedy() -> None:
        for _ in range(3):
            async with lock:
                log.append("greedy")
                await asyncio.sleep(0)

    async def modest() -> None:
        async with lock:
            log.append("modest")

    await asyncio.gather(greedy(), modest(), modest())
    assert log[:4] == ["greedy", "modest", "modest", "greedy"]


@pytest.mark.parametrize("name", ["get", "get_many", "put", "put_many", "iterate"])
async def test_a_queue_that_never_waits_leaves_the_loop_its_turn(name: str) -> None:
    """Calls that find what they want let others run once in a while."""
    items: sync.Queue[int] = sync.Queue()
    for number in range(1_000):
        items.put_nowait(number)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    if name == "iterate":
        items.shutdown()
        async for _ in items:
            pass
    else:
        for _ in range(1_000):
            argument = {"get": (), "get_many": (1,), "put": (1,), "put_many": ([1],)}[name]
            await getattr(items, name)(*argument)
    task.cancel()
    assert turns >= 10


@pytest.mark.slow
@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("way", ["from the same loop", "from a thread"])
async def test_a_million_items_leave_the_loop_a_turn_after_each_64(way: str) -> None:
    """Counted in items, so that a slow machine changes nothing: a microsecond each."""
    count = 1_000_000
    items: sync.Queue[int] = sync.Queue()
    thread = threading.Thread(target=items.sync.put_many, args=(range(count),))
    if way == "from a thread":
        thread.start()
    else:
        for number in range(count):
            items.put_nowait(number)
    taken = longest = 0

    async def heartbeat() -> None:
        nonlocal longest
        seen = taken
        while seen < count:
            await asyncio.sleep(0)
            longest = max(longest, taken - seen)
            seen = taken

    task = asyncio.create_task(heartbeat())
    while taken < count:
        assert await items.get() == taken
        taken += 1
    await task
    if way == "from a thread":
        thread.join()
    assert longest <= 64


# ------------------------------------------------------------------ what is seen from outside


async def both(first: Any, second: Any, ready: sync.Event) -> None:
    async with first:
        await ready.wait()
        async with second:
            pass


@pytest.mark.parametrize("name", ["Lock", "RLock", "CapacityLimiter", "Condition"])
async def test_the_wait_graph_names_the_circle(name: str) -> None:
    """Who holds which lock and waits for which is told by name."""
    a, b, ready = HELD[name](), HELD[name](), sync.Event()
    tasks = [
        asyncio.create_task(both(a, b, ready), name="ab"),
        asyncio.create_task(both(b, a, ready), name="ba"),
    ]
    for _ in range(3):
        await asyncio.sleep(0)
    assert "ab waits for Event#1" in str(wait_graph())
    ready.set()
    for _ in range(3):
        await asyncio.sleep(0)
    graph = wait_graph()
    title = "Lock" if name == "Condition" else name
    assert [node.name for node in graph.cycle] == ["ab", f"{title}#1", "ba", f"{title}#2"]
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("name", ["Lock", "RLock", "CapacityLimiter"])
def test_a_deadlock_names_the_circle(name: str) -> None:
    """A simulated program that hangs on our locks tells how."""

    async def main() -> None:
        a, b, ready = HELD[name](), HELD[name](), sync.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(both(a, b, ready), name="ab")
            group.create_task(both(b, a, ready), name="ba")
            await asyncio.sleep(1)
            ready.set()

    with pytest.raises(DeadlockError) as caught:
        simulate(main)
    circle = f"ab -> {name}#1 held by ba -> {name}#2 held by ab"
    assert circle in str(caught.value)


async def test_a_lock_held_by_a_thread_is_nobodys_certain_deadlock() -> None:
    """The graph claims nothing about threads."""
    lock = sync.Lock()
    await asyncio.to_thread(lock.sync.acquire)
    waits = await queued(lock.acquire())
    assert not wait_graph().cycle
    lock.release()
    await waits


@pytest.mark.parametrize("name", [*HELD, "Event", "Queue", "PriorityQueue", "Barrier"])
async def test_a_primitive_is_freed_without_the_garbage_collector(name: str) -> None:
    """No circle of references is left behind by use, waiters and faces included."""
    made = {"Event": sync.Event, "Barrier": lambda: sync.Barrier(2)}
    primitive = (HELD | made)[name]() if name in HELD | made else getattr(sync, name)(2)
    gone = weakref.ref(primitive)
    assert primitive.sync
    if name in HELD:
        async with primitive:
            task = await queued(take_and_release(primitive, [], "second"))
        await task
        del task
    gc.disable()
    try:
        del primitive
        assert gone() is None
    finally:
        gc.enable()


def test_threads_and_tasks_hand_a_lock_around_under_injected_switches() -> None:
    """With the interpreter switching threads all the time, a counter under the lock is exact."""
    lock, counter, rounds = sync.Lock(), [0], 300

    def step() -> None:
        seen = counter[0]
        for _ in range(3):
            pass
        counter[0] = seen + 1

    def in_thread() -> None:
        for _ in range(rounds):
            with lock.sync:
                step()

    def in_loop() -> None:
        async def worker() -> None:
            for _ in range(rounds):
                async with lock:
                    step()
                    await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.gather(worker(), worker())

        asyncio.run(main())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=each) for each in (in_thread, in_thread, in_loop)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(interval)
    assert counter == [4 * rounds]
    assert not lock.locked()
