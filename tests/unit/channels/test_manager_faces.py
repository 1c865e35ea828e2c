"""Shared objects in the process of their manager: what they show, take and refuse."""

import asyncio
import pickle
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from aioconc.channels import Manager, SharedDict, SharedList, SharedLock, open_manager
from aioconc.channels._manager import _values
from aioconc.channels._manager._shared import pages
from aioconc.errors import ManagerClosed, SerializationError
from aioconc.sync import BarrierBroken, QueueEmpty, QueueFull


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    async with open_manager() as found:
        yield found


async def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(fn, *args)


# ------------------------------------------------------------------ managers


async def test_a_manager_shows_what_it_has() -> None:
    """How many objects, how many processes beside its own; and that it has closed."""
    async with open_manager() as manager:
        manager.Lock()
        assert repr(manager).endswith(" 1 objects, 0 other processes>")
    assert repr(manager).endswith(" closed>")
    with pytest.raises(ManagerClosed, match="block has ended"):
        manager.Event()


async def test_threads_that_make_objects_at_once_have_each_its_own(manager: Manager) -> None:
    """No two objects are one thing to the broker."""
    both = threading.Barrier(2)

    class Things(dict[int, Any]):
        def __setitem__(self, number: int, thing: Any) -> None:
            both.wait(10)  # the other one has its number as well
            super().__setitem__(number, thing)

    manager._client.broker._things = Things()
    one, other = await asyncio.gather(in_thread(manager.Lock), in_thread(manager.Event))
    assert one != other and one._number != other._number


async def test_two_managers_know_nothing_of_each_other(manager: Manager) -> None:
    """Their objects are others, also where the numbers are the same."""
    async with open_manager() as other:
        mine, theirs = manager.Lock(), other.Lock()
        assert mine != theirs and mine != "lock"
        assert mine == SharedLock(mine._client, mine._number)
        assert len({mine, theirs, SharedLock(mine._client, mine._number)}) == 2
        async with mine:
            assert not await theirs.locked()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda m: m.Lock(on_owner_death="ignore"), ValueError, "on_owner_death must be one of"),
        (lambda m: m.Semaphore(-1), ValueError, "value must be an int >= 0, got -1"),
        (lambda m: m.BoundedSemaphore("1"), TypeError, "value must be an int"),
        (lambda m: m.Barrier(0), ValueError, "parties must be an int >= 1"),
        (lambda m: m.Condition(asyncio.Lock()), TypeError, "Lock or RLock of the same manager"),
        (lambda m: m.dict({object(): 1}), TypeError, "a key of a shared dict must be a str"),
        (lambda m: m.dict({(1, object()): 1}), TypeError, "a key of a shared dict must be a str"),
        (lambda m: m.dict(a=1), TypeError, "unexpected keyword"),
        (lambda m: m.list([(i for i in ())]), SerializationError, "list"),
    ],
)
async def test_bad_arguments_are_refused(
    manager: Manager, make: Any, error: type[Exception], text: str
) -> None:
    """With the value, the rule and the remedy."""
    with pytest.raises(error, match=text):
        make(manager)


async def test_a_condition_wants_a_lock_of_its_own_manager(manager: Manager) -> None:
    """The broker of one does not know the locks of the other."""
    async with open_manager() as other:
        with pytest.raises(TypeError, match="same manager"):
            manager.Condition(other.Lock())


async def test_after_the_end_all_is_refused_but_release() -> None:
    """Who waits is told, who comes is told; what was held needs no release."""
    async with open_manager() as manager:
        lock, permits, event = manager.Lock(), manager.Semaphore(), manager.Event()
        condition, items, table = manager.Condition(), manager.Queue(), manager.dict()
        await lock.acquire()
        await permits.acquire()
        await condition.acquire()
        waits = [
            asyncio.ensure_future(each)
            for each in (lock.acquire(), event.wait(), items.get(), condition.wait())
        ]
        thread = asyncio.ensure_future(in_thread(event.sync.wait))
        while (await event.statistics()).waiting < 2:
            await asyncio.sleep(0.001)
    for outcome in await asyncio.gather(*waits, thread, return_exceptions=True):
        assert isinstance(outcome, ManagerClosed)
    with pytest.raises(ManagerClosed):
        manager.Condition(lock)
    lock.release()
    permits.release()
    condition.release()
    condition.notify_all()
    event.set()
    for late in (lock.acquire(), lock.locked(), table.size(), items.put(1), event.wait()):
        with pytest.raises(ManagerClosed):
            await late
    with pytest.raises(ManagerClosed):
        await in_thread(lock.sync.acquire)
    assert repr(lock).endswith(", closed>")


async def test_objects_are_not_pickled_just_anywhere(manager: Manager) -> None:
    """They travel with a descriptor, in calls and to processes that are being started."""
    with pytest.raises(TypeError, match="SharedLock, which has a descriptor, cannot be pickled"):
        pickle.dumps(manager.Lock())
    while manager._client.server.lines:  # the end that nobody took is closed
        await asyncio.sleep(0.001)


async def test_where_descriptors_do_not_travel_objects_stay(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: in one process a manager works all the same."""
    monkeypatch.delattr("socket.AF_UNIX")
    with pytest.raises(TypeError, match="on this system"):
        pickle.dumps(manager.Lock())
    async with manager.Lock():
        pass


# ------------------------------------------------------------------ asking


async def test_what_has_to_be_awaited_has_no_truth_value(manager: Manager) -> None:
    """So the slip is found at once, with the line to write."""
    lock = manager.Lock()
    with pytest.raises(TypeError, match=r"write `await lock.locked\(\)`"):
        if lock.locked():
            raise AssertionError
    barrier = manager.Barrier(1)
    with pytest.raises(TypeError, match=r"write `await barrier\.n_waiting`"):
        bool(barrier.n_waiting)


async def test_the_blocking_face_refuses_a_running_loop(manager: Manager) -> None:
    """Each that would block says what to write instead."""
    calls: list[tuple[Any, str]] = [
        (lambda: manager.Lock().sync.acquire(), r"await lock.acquire\(\)"),
        (lambda: manager.Lock().sync.__enter__(), r"await lock.acquire\(\)"),
        (lambda: manager.Lock().sync.recover().__enter__(), r"await lock.recover\(\)"),
        (lambda: manager.Lock().sync.locked(), r"await lock.statistics\(\)"),
        (lambda: manager.Semaphore().sync.acquire(), r"await semaphore.acquire\(\)"),
        (lambda: manager.Event().sync.wait(), r"await event.wait\(\)"),
        (lambda: manager.Barrier(1).sync.wait(), r"await barrier.wait\(\)"),
        (lambda: manager.Condition().sync.wait(), r"await condition.wait\(\)"),
        (lambda: manager.Queue().sync.get(), r"await queue.get\(\)"),
        (lambda: manager.Queue().sync.put(1), r"await queue.put\(item\)"),
        (lambda: manager.Queue().sync.join(), r"await queue.join\(\)"),
        (lambda: len(manager.dict().sync), r"await table.size\(\)"),
        (lambda: manager.list().sync.append(1), r"await items.append\(item\)"),
    ]
    for call, line in calls:
        with pytest.raises(RuntimeError, match=line):
            call()


async def test_without_any_time_what_is_there_is_had(manager: Manager) -> None:
    """As with `threading` and `queue`: `timeout=0` tries once, and leaves nothing behind."""
    lock, permits, event = manager.Lock(), manager.Semaphore(), manager.Event()
    items, condition, barrier = manager.Queue(1), manager.Condition(), manager.Barrier(2)

    def use() -> None:
        assert lock.sync.acquire(timeout=0)
        assert not lock.sync.acquire(timeout=0)
        lock.release()
        assert permits.sync.acquire(timeout=0)
        assert not permits.sync.acquire(timeout=0.0)
        permits.release()
        assert not event.sync.wait(0)
        event.set()
        assert event.sync.wait(0)
        with pytest.raises(QueueEmpty):
            items.sync.get(timeout=0)
        items.sync.put(1, timeout=0)
        with pytest.raises(QueueFull):
            items.sync.put(2, timeout=0)
        assert items.sync.get_many(2, timeout=0) == [1]
        with condition.sync:
            assert not condition.sync.wait(0)
        with pytest.raises(BarrierBroken):
            barrier.sync.wait(0)

    await in_thread(use)
    for each in (lock, permits, event, condition, barrier):
        assert (await each.statistics()).waiting == 0
    counts = await items.statistics()
    assert (counts.getters_waiting, counts.putters_waiting, counts.used) == (0, 0, 0)
    assert not await lock.locked() and not await condition.locked()


# ------------------------------------------------------------------ locks


async def test_a_lock_is_released_by_the_process_that_took_it(manager: Manager) -> None:
    """And once only; what it is, the statistics tell."""
    lock = manager.Lock()
    with pytest.raises(RuntimeError, match="not acquired in this process"):
        lock.release()
    async with lock:
        counts = await lock.statistics()
        assert counts.locked and counts.owner == f"process {manager._client._connection.pid}"
        assert not await in_thread(lambda: lock.sync.acquire(timeout=0.01))
    assert await in_thread(lock.sync.statistics) == await lock.statistics()
    async with lock.recover() as died:
        assert died is None

    def recover() -> Any:
        with lock.sync.recover() as died:
            return died, lock.sync.locked()

    assert await in_thread(recover) == (None, True)


async def test_an_rlock_is_of_a_task_or_a_thread(manager: Manager) -> None:
    """Recovering one that is held is one more time of holding it."""
    lock = manager.RLock()
    async with lock, lock.recover() as died:
        assert died is None
        with pytest.raises(RuntimeError, match="released by its owner: task"):
            await in_thread(lock.sync.release)
    with pytest.raises(RuntimeError, match="nobody in this process holds it"):
        lock.release()


async def test_a_condition_of_an_rlock_is_released_whole(manager: Manager) -> None:
    """However often the owner holds it, and taken again as often."""
    lock = manager.RLock()
    condition = manager.Condition(lock)

    async def notify() -> None:
        async with condition:
            condition.notify()

    async def stranger() -> None:
        await condition.wait()

    async with lock, lock:
        with pytest.raises(RuntimeError, match="released by its owner"):
            await asyncio.create_task(stranger())
        task = asyncio.create_task(notify())
        await condition.wait()
        await task
        assert lock._note().extra == 1
    assert not await condition.locked()


async def test_a_condition_wants_its_lock_held(manager: Manager) -> None:
    """Waiting and notifying without the lock is an error, in both faces."""
    condition = manager.Condition()
    with pytest.raises(RuntimeError, match="whose lock nobody in this process holds"):
        await condition.wait()
    with pytest.raises(RuntimeError, match="whose lock nobody in this process holds"):
        condition.notify()
    with pytest.raises(RuntimeError, match="whose lock nobody in this process holds"):
        await in_thread(condition.sync.wait)


async def test_who_gives_up_before_it_waits_holds_the_lock_again(manager: Manager) -> None:
    """Cancelled in a turn of the loop before anything was asked; it does not wait for itself."""
    condition = manager.Condition()

    async def wait() -> None:
        async with condition:
            manager._client._streak = 1_000  # so that the next call begins with a turn
            await condition.wait()

    task = asyncio.create_task(wait())
    while not await condition.locked():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert not await condition.locked()


async def test_threads_wait_for_a_condition(manager: Manager) -> None:
    """With a time limit, and for something to become true."""
    condition, found, ready = manager.Condition(), list[int](), threading.Event()

    def in_a_thread() -> list[int]:
        with condition.sync:
            assert not condition.sync.wait(timeout=0.001)
            assert condition.sync.locked() and condition.sync.statistics().locked
            assert not condition.sync.wait_for(lambda: False, timeout=0.001)
            ready.set()
            return condition.sync.wait_for(lambda: found)

    thread = asyncio.ensure_future(in_thread(in_a_thread))
    while not thread.done():
        async with condition:
            if ready.is_set() and not found and (await condition.statistics()).waiting:
                found.append(1)
                condition.notify_all()
        await asyncio.sleep(0.001)
    assert await thread == [1]
    async with condition:
        assert await condition.wait_for(lambda: "at once") == "at once"


async def test_a_bounded_semaphore_finds_a_slip(manager: Manager) -> None:
    """What the process did not take it does not give back."""
    permits = manager.BoundedSemaphore(2)
    await permits.acquire()
    with pytest.raises(ValueError, match="this process has 1 permit of it"):
        permits.release(2)
    with pytest.raises(ValueError, match="n must be an int >= 1, got 0"):
        permits.release(0)
    permits.release()
    assert not await permits.locked()
    assert await in_thread(permits.sync.locked) is False
    assert await in_thread(lambda: permits.sync.acquire(timeout=1))
    assert not await in_thread(
        lambda: permits.sync.acquire() and permits.sync.acquire(timeout=0.001)
    )


# ------------------------------------------------------------------ events, barriers


async def test_a_thread_whose_time_is_up_breaks_the_barrier(manager: Manager) -> None:
    """As with threading; the others hear of it."""
    barrier = manager.Barrier(2)
    with pytest.raises(BarrierBroken, match=r"not all arrived in 0.001 s"):
        await in_thread(lambda: barrier.sync.wait(timeout=0.001))
    assert await barrier.broken and await in_thread(lambda: barrier.sync.broken)
    await barrier.reset()
    assert await barrier.n_waiting == 0 and await in_thread(lambda: barrier.sync.n_waiting) == 0
    await in_thread(barrier.sync.abort)
    await in_thread(barrier.sync.reset)
    assert barrier.sync.parties == barrier.parties == 2
    async with manager.Barrier(1) as number:
        assert number == 0


async def test_an_event_has_two_faces(manager: Manager) -> None:
    """Set by either, seen by both."""
    event = manager.Event()
    assert not await in_thread(lambda: event.sync.wait(timeout=0.001))
    await in_thread(event.sync.set)
    assert await in_thread(event.sync.is_set) and await event.is_set()
    await in_thread(event.sync.clear)
    assert not await event.is_set()


# ------------------------------------------------------------------ queues


async def test_a_queue_takes_what_can_be_pickled(manager: Manager) -> None:
    """Another item raises at its put, and those before it are in the queue."""
    items = manager.Queue()
    with pytest.raises(SerializationError, match="an item of a shared queue of type generator"):
        await items.put(i for i in ())
    with pytest.raises(SerializationError):
        await items.put_many([1, 2, (i for i in ())])
    assert await items.get_many(5) == [1, 2]
    counts = await items.statistics()
    assert (counts.used, counts.unfinished) == (0, 2)


async def test_a_queue_that_never_waits_leaves_the_loop_its_turn(manager: Manager) -> None:
    """In the process of the manager, where a call that need not wait is no turn of the loop."""
    items, turns = manager.Queue(), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    for number in range(500):
        await items.put(number)
        assert await items.get() == number
    task.cancel()
    assert turns > 10


async def test_items_of_a_slow_source_are_not_held_back(manager: Manager) -> None:
    """Many are put at once, but none waits until there are many."""
    items, got = manager.Queue(), threading.Event()

    def source() -> Iterator[int]:
        for number in range(250):
            yield number
            if got.wait(0.02):
                return
        raise AssertionError("nothing came out until all was in")

    async def take() -> None:
        assert await items.get() == 0
        got.set()

    async with asyncio.timeout(30):
        await asyncio.gather(take(), in_thread(items.sync.put_many, source()))


async def test_many_items_come_in_parts_that_hold_no_loop_up(manager: Manager) -> None:
    """However many are asked for: by number and by size, and always at least one."""
    items = manager.Queue()
    await items.put_many(range(2_500))
    sizes = []
    while not await items.empty():
        sizes.append(len(await items.get_many(1_000_000)))
    assert sizes == [1_000, 1_000, 500]
    await items.put_many([bytes(40_000)] * 3 + [bytes(100_000)])
    found = [await in_thread(items.sync.get_many, 10) for _ in range(2)]
    assert [len(each) for each in found] == [2, 2]


async def test_a_value_that_is_too_large_is_refused(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the caller, with what to use instead."""
    monkeypatch.setattr(_values, "_MOST", 1_000)
    with pytest.raises(ValueError, match=r"at most 1000 bytes when pickled, got \d+; use a Shared"):
        await manager.Queue().put(b"x" * 1_000)


async def test_queues_have_two_faces(manager: Manager) -> None:
    """The same names; what waits has a time limit."""
    items = manager.Queue(2)
    face = items.sync

    def in_a_thread() -> list[Any]:
        with pytest.raises(queue.Empty, match=r"nothing was put into the queue in 0\.001 s"):
            face.get(timeout=0.001)
        with pytest.raises(QueueEmpty):
            face.get_nowait()
        face.put(1)
        face.put_nowait(2)
        with pytest.raises(queue.Full, match=r"no room in the queue for 0\.001 s"):
            face.put(3, timeout=0.001)
        with pytest.raises(QueueFull, match="it may have 2 items"):
            face.put_nowait(3)
        with pytest.raises(TimeoutError, match=r"not done in 0\.001 s"):
            face.join(timeout=0.001)
        seen = [face.qsize(), face.empty(), face.full(), face.maxsize, face.statistics().items]
        found = [face.get(), *face.get_many(5)]
        face.task_done()
        face.task_done()
        face.join()
        face.put_many([3, 4])
        face.shutdown()
        return [*seen, *found, *face]

    assert await in_thread(in_a_thread) == [2, False, True, 2, 2, 1, 2, 3, 4]
    assert (items.maxsize, await items.qsize()) == (2, 0)
    assert await items.empty() and not await items.full()
    with pytest.raises(ValueError, match="max_items must be an int >= 1"):
        await items.get_many(0)


async def test_a_priority_queue_compares_what_needs_no_code_of_others(manager: Manager) -> None:
    """Numbers, texts and what begins with them; other things are refused at the put."""
    items = manager.PriorityQueue()
    await items.put_many([(2, object), (1, "b"), (1, "a"), (2, int)])
    assert [await items.get() for _ in range(4)] == [(1, "a"), (1, "b"), (2, object), (2, int)]
    for bad in (object(), {}, (object(), 1), [1]):
        with pytest.raises(TypeError, match=r"put \(priority, item\)"):
            await items.put(bad)
    await items.put(1)
    with pytest.raises(TypeError, match="not supported between"):
        await items.put("text")
    assert await items.qsize() == 1


# ------------------------------------------------------------------ dicts and lists


async def test_a_dict_has_the_methods_of_a_dict(manager: Manager) -> None:
    """Awaited; each one step."""
    table = manager.dict({"a": 1})
    await table.set("b", [2])
    await table.update({"c": 3}, d=4)
    assert await table["b"] == [2] and await table.get("x", "no") == "no"
    assert await table.pop("c") == 3 and await table.pop("c", None) is None
    for missing in (table["x"], table.pop("x"), table.delete("x"), table.update_item("x", str)):
        with pytest.raises(KeyError, match="x"):
            await missing
    assert await table.setdefault("a", 9) == 1 and await table.setdefault("e", 5) == 5
    assert await table.popitem() == ("e", 5)
    assert await table.contains("a") and not await table.contains("x")
    await table.delete("d")
    assert (await table.keys(), await table.values()) == (["a", "b"], [1, [2]])
    assert await table.compare_and_set("a", 1, 10) and not await table.compare_and_set("a", 1, 0)
    assert not await table.compare_and_set("x", 1, 0)
    assert await table.update_item("a", lambda n: n + 1) == 11
    assert await table.copy() == {"a": 11, "b": [2]} == dict(await table.items())
    with pytest.raises(TypeError, match="a key of a shared dict"):
        await table.set(object(), 1)  # type: ignore[arg-type]
    with pytest.raises(SerializationError, match="a value of a shared dict"):
        await table.set("g", (i for i in ()))  # type: ignore[arg-type]
    await table.clear()
    assert await table.size() == 0
    with pytest.raises(KeyError, match="is empty"):
        await table.popitem()


async def test_the_face_of_a_dict_for_threads_is_a_mapping(manager: Manager) -> None:
    """With the syntax of one."""
    table: Any = manager.dict().sync

    def in_a_thread() -> Any:
        table["a"] = 1
        table.update({"b": 2}, c=3)
        del table["b"]
        assert "a" in table and "b" not in table and len(table) == 2
        assert (table.get("x"), table.get("x", 0), table.pop("x", 7)) == (None, 0, 7)
        assert table.setdefault("d", 4) == 4 and table.popitem() == ("d", 4)
        assert table.update_item("n", lambda n: n + 1, default=0) == 1
        assert table.compare_and_set("n", 1, 2)
        found = dict(table.items()), [*table], [*table.values()], table == {"a": 1, "c": 3, "n": 2}
        table.clear()
        return *found, table.copy()

    whole = {"a": 1, "c": 3, "n": 2}
    assert await in_thread(in_a_thread) == (whole, ["a", "c", "n"], [1, 3, 2], True, {})


async def test_long_tables_are_whole(manager: Manager) -> None:
    """In pages, on both faces; the loop turns between them."""
    table, items, turns = manager.dict((n, n) for n in range(3_000)), manager.list(range(3_000)), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await table.copy() == {n: n for n in range(3_000)}
    assert await table.keys() == await items.copy() == [*range(3_000)]
    assert await items.update(lambda all_: all_[::-1]) == [*range(2_999, -1, -1)]
    task.cancel()
    assert turns > 5
    assert await in_thread(lambda: [*items.sync][::-1]) == [*range(3_000)]
    assert await in_thread(lambda: len(table.sync.copy())) == 3_000


async def test_what_is_long_is_put_in_parts(manager: Manager) -> None:
    """A part is what the broker does in one step, so that the loop turns between them."""
    table: SharedDict[int, str] = manager.dict({-1: "x"})
    items: SharedList[Any] = manager.list(["x"])
    many, sizes = dict.fromkeys(range(5_000), "x"), set[int]()

    async def others() -> None:
        while True:
            sizes.add(await table.size() + await items.size())
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    await table.update(many)
    await items.extend(many)
    task.cancel()
    assert sizes >= {1_002, 4_002, 6_002, 9_002}
    broker: Any = manager._client.broker
    handle, parts = broker.handle, list[int]()

    def handle_and_count(connection: Any, message: Any) -> None:
        parts.append(len(message[4]))
        handle(connection, message)

    broker.handle = handle_and_count
    await in_thread(lambda: table.sync.update({5_000 + n: "y" * 50_000 for n in range(4)}))
    await in_thread(lambda: items.sync.extend(range(5_000)))
    broker.handle = handle
    assert parts == [2, 2, *[1_000] * 5]
    assert await table.keys() == [-1, *range(5_004)]
    assert await items.copy() == ["x", *many, *range(5_000)]
    await table.update()
    await items.extend(())


async def test_a_long_update_that_fails_has_set_what_was_before(manager: Manager) -> None:
    """The parts before the one with the value that cannot be pickled, and nothing of that one."""
    table, items = manager.dict(), manager.list()
    values: list[Any] = [*range(2_500)]
    values[2_100] = asyncio.get_running_loop()
    with pytest.raises(SerializationError):
        await table.update(enumerate(values))
    with pytest.raises(SerializationError):
        await in_thread(lambda: items.sync.extend(values))
    assert await table.size() == await items.size() == 2_000


async def test_an_update_with_a_bad_key_sets_nothing(manager: Manager) -> None:
    """Not even the parts before it; another shared dict is no mapping of this process."""
    table: Any = manager.dict()
    wrong = dict.fromkeys(range(2_500), 0) | {b"": 0, frozenset(): 0}
    with pytest.raises(TypeError, match="a key of a shared dict"):
        await table.update(wrong)
    with pytest.raises(TypeError, match="a key of a shared dict"):
        await in_thread(table.sync.update, wrong)
    with pytest.raises(TypeError, match=r"write `await table.copy\(\)`"):
        await table.update(manager.dict({"a": 1}))
    assert await table.size() == 0


async def test_keys_are_given_in_pages_whatever_they_are(manager: Manager) -> None:
    """Also tuples, of which nothing is a text."""
    keys: list[Any] = [(1, 2), (), ("a", (None,)), "text", b"bytes", 7, None]
    assert await manager.dict(dict.fromkeys(keys, 0)).keys() == keys


class Explodes:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


async def test_pages_that_are_not_wanted_are_forgotten(manager: Manager) -> None:
    """Where the reader is cancelled between two of them, or cannot unpickle what is in one."""
    table: SharedDict[int, Any] = manager.dict((n, n) for n in range(3_000))
    items: SharedList[Any] = manager.list(range(3_000))
    await table.set(0, Explodes())
    await items.set(0, Explodes())
    things: list[Any] = [manager._client.broker.thing(each._number) for each in (table, items)]
    for read in (table.copy, items.copy, lambda: items[:2_000]):
        with pytest.raises(ValueError, match="no number"):
            await read()
    for face in (table.sync, items.sync):
        with pytest.raises(ValueError, match="no number"):
            await in_thread(face.copy)
    for cancelled in (table.keys(), items[1:]):
        task = asyncio.ensure_future(cancelled)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await manager.Event().is_set()
    assert [len(each._rest) for each in things] == [0, 0]


async def test_a_reader_may_be_collected_at_any_line(manager: Manager) -> None:
    """Between two pages, as its loop was closed: also at a line that has the mutex of the client."""
    table = manager.dict((n, n) for n in range(3_000))
    thing: Any = manager._client.broker.thing(table._number)

    def collected() -> None:
        steps = pages(table, lambda page: None, "keys")
        answer = manager._client.block(None, next(steps))
        assert answer is not None
        steps.send(answer)  # asks for more
        with manager._client._mutex:
            steps.close()

    await asyncio.wait_for(in_thread(collected), 10)
    async with asyncio.timeout(5):
        while thing._rest:
            await asyncio.sleep(0.001)


async def test_slices_come_in_pages(manager: Manager) -> None:
    """As all of it does, so that none holds the loop up."""
    items, turns = manager.list(range(5_000)), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    before = turns
    assert await items[1_000:] == [*range(1_000, 5_000)]
    assert turns - before >= 3
    task.cancel()
    assert await in_thread(lambda: items.sync[::2]) == [*range(0, 5_000, 2)]
    with pytest.raises(ValueError, match="zero"):
        await items[::0]


async def test_no_change_of_a_dict_is_lost(manager: Manager) -> None:
    """Threads and tasks that count together count right."""
    table = manager.dict({"n": 0})

    def count() -> None:
        for _ in range(50):
            table.sync.update_item("n", lambda n: n + 1)

    async def count_too() -> None:
        for _ in range(50):
            await table.update_item("n", lambda n: n + 1)
            await asyncio.sleep(0)

    await asyncio.gather(in_thread(count), in_thread(count), count_too(), count_too())
    assert await table["n"] == 200


async def test_a_table_is_not_looked_through_without_the_broker(manager: Manager) -> None:
    """`for` and `in`, which would never end, are refused; the first says what to write."""
    items: Any = manager.list("ab")
    table: Any = manager.dict({"a": 1})
    with pytest.raises(TypeError, match=r"write `await items.copy\(\)`; threads .* `items.sync`"):
        list(items)
    with pytest.raises(TypeError, match=r"`await table.keys\(\)` or `await table.contains\(key\)`"):
        list(table)
    for either in (items, table):
        with pytest.raises(TypeError, match="is not iterable"):
            _ = "a" in either


async def test_any_word_is_a_key_of_an_update(manager: Manager) -> None:
    """Also those that parameters are called."""
    table = manager.dict()
    await table.update(self=1, other=2)
    assert await table.copy() == {"self": 1, "other": 2}


async def test_a_list_has_the_methods_of_a_list(manager: Manager) -> None:
    """Awaited; each one step."""
    items = manager.list([1])
    await items.append(2)
    await items.extend([3, 4, 5])
    await items.insert(0, 0)
    await items.set(1, 10)
    assert await items[1] == 10 and await items[-2:] == [4, 5]
    assert await items.pop() == 5 and await items.pop(0) == 0
    await items.delete(slice(1, 2))
    assert await items.update(lambda all_: all_[::-1]) == [4, 3, 10]
    assert await items.copy() == [4, 3, 10] and await items.size() == 3
    await items.delete(0)
    await items.clear()
    for missing in (items[0], items.pop(), items.set(3, 1), items.delete(0)):
        with pytest.raises(IndexError):
            await missing


async def test_the_face_of_a_list_for_threads_is_a_sequence(manager: Manager) -> None:
    """With the syntax of one."""
    items: Any = manager.list("ca").sync

    def in_a_thread() -> Any:
        items.append("b")
        items.sort()
        items.__iadd__(["d"])
        items.insert(0, "z")
        items[0] = "y"
        items[3:] = ["c", "e"]
        items.reverse()
        items.remove("e")
        del items[-1]
        assert "c" in items and items.index("b") == 1 and items.count("b") == 1
        found = [*items], items[0], items[1:], len(items), items.pop()
        items.clear()
        with pytest.raises(ValueError, match="not in list"):
            items.remove("a")
        return found

    assert await in_thread(in_a_thread) == (["c", "b", "a"], "c", ["b", "a"], 3, "a")
