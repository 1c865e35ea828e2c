"""What each primitive shows of itself, and what it refuses, under both faces."""

import asyncio
import inspect
import signal
import threading
from typing import Any

import pytest

from aioconc import sync
from aioconc.sync._home import Home

MADE: dict[str, Any] = {
    "Lock": sync.Lock,
    "RLock": sync.RLock,
    "Event": sync.Event,
    "Condition": sync.Condition,
    "Semaphore": sync.Semaphore,
    "BoundedSemaphore": sync.BoundedSemaphore,
    "Barrier": lambda: sync.Barrier(2),
    "CapacityLimiter": lambda: sync.CapacityLimiter(1),
    "Queue": sync.Queue,
    "LifoQueue": sync.LifoQueue,
    "PriorityQueue": sync.PriorityQueue,
}
# What changes a primitive or waits for it, with the arguments.
CALLS: dict[str, tuple[Any, ...]] = {
    "acquire": (),
    "release": (),
    "__aenter__": (),
    "__aexit__": (None, None, None),
    "wait": (),
    "set": (),
    "clear": (),
    "notify": (),
    "notify_all": (),
    "reset": (),
    "abort": (),
    "acquire_nowait": (),
    "get": (),
    "get_many": (1,),
    "get_nowait": (),
    "put": (1,),
    "put_many": ([1],),
    "put_nowait": (1,),
    "task_done": (),
    "join": (),
    "shutdown": (),
}


@pytest.mark.parametrize("name", MADE)
def test_one_line_shows_the_state(name: str) -> None:
    """The repr is one line that begins with the class; that of the blocking face says so."""
    primitive = MADE[name]()
    text = repr(primitive)
    assert text.startswith(f"<{name} ")
    assert "\n" not in text
    assert repr(primitive.sync) == f"{text}.sync"
    assert hash(primitive.statistics()) == hash(primitive.statistics())  # frozen, and values


@pytest.mark.parametrize("name", MADE)
async def test_nothing_of_the_parent_is_used_in_a_forked_child(name: str) -> None:
    """Every call that changes it or waits for it raises, and names the remedy."""
    primitive = MADE[name]()
    primitive._home = Home()
    primitive._home.left = True
    if name == "Condition":
        primitive._internal_lock._home = primitive._home
    refused = 0
    for method, arguments in CALLS.items():
        if method == "__aexit__" and name == "Barrier":  # it does nothing
            continue
        if hasattr(primitive, method):
            with pytest.raises(RuntimeError, match=f"make a new {name}|make a new Lock"):
                result = getattr(primitive, method)(*arguments)
                if inspect.isawaitable(result):
                    await result
            refused += 1
    assert refused >= 3
    if name == "CapacityLimiter":
        with pytest.raises(RuntimeError, match="make a new"):
            primitive.total_tokens = 2


def test_the_blocking_face_shows_what_the_other_shows() -> None:
    """State and changes are the same through both."""
    lock, event, semaphore = sync.Lock(), sync.Event(), sync.Semaphore(1)
    assert lock.sync.acquire() and lock.sync.locked()
    lock.sync.release()
    event.sync.set()
    assert event.is_set() and event.sync.wait(0)
    event.sync.clear()
    assert not event.sync.is_set()
    with semaphore.sync:
        assert semaphore.sync.locked()
    condition = sync.Condition(lock)
    with condition.sync:
        condition.sync.notify()
        condition.sync.notify_all()
        assert not condition.sync.wait(0)
        assert not condition.sync.wait_for(list, timeout=0)
    assert condition.sync.acquire(timeout=1)
    condition.sync.release()
    assert not lock.locked()


def test_a_strangers_wait_on_a_condition_of_an_rlock_leaves_no_waiter() -> None:
    """A thread that does not hold the lock is refused, and nothing of it stays."""
    lock = sync.RLock()
    condition = sync.Condition(lock)
    errors: list[Exception] = []

    def stranger() -> None:
        try:
            condition.sync.wait()
        except RuntimeError as error:
            errors.append(error)

    with lock.sync:
        thread = threading.Thread(target=stranger)
        thread.start()
        thread.join()
    assert "released by its owner" in str(errors[0])
    assert condition.statistics().threads_waiting == 0


def test_ctrl_c_ends_a_blocked_thread_and_leaves_no_waiter() -> None:
    """KeyboardInterrupt in the main thread gives the place in the queue up."""
    lock = sync.Lock()
    lock.sync.acquire()

    def interrupt() -> None:
        while not lock.statistics().threads_waiting:
            threading.Event().wait(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        lock.sync.acquire()
    thread.join()
    assert lock.statistics().threads_waiting == 0
    lock.release()


def test_a_queue_gives_what_cannot_be_compared() -> None:
    """Items of an order that fails late are given all the same, each once."""
    items: sync.PriorityQueue[Any] = sync.PriorityQueue()
    for item in ((0, 0), (1, "x"), (2, 5), (1, 2j), (3, 1)):
        items.put_nowait(item)
    items._items._entries[1].key = "spoiled"
    found = [items.get_nowait() for _ in range(5)]
    assert found[0] == (0, 0)
    assert len(set(found)) == 5


def test_deadlines_of_put_many_hold_for_all_its_items() -> None:
    """What was put before the time was up stays."""
    items: sync.Queue[int] = sync.Queue(2)
    with pytest.raises(sync.QueueFull, match="for all items"):
        items.sync.put_many(range(5), timeout=0.01)
    assert items.qsize() == 2
    with pytest.raises(TimeoutError):
        items.sync.join(timeout=0)


def test_a_limiter_gives_back_the_place_of_a_cancelled_borrower() -> None:
    """Also where that one waited on behalf of something else."""

    async def main() -> None:
        limiter = sync.CapacityLimiter(1)
        await limiter.acquire_on_behalf_of("a")
        task = asyncio.create_task(limiter.acquire_on_behalf_of("b"))
        await asyncio.sleep(0)
        limiter.release_on_behalf_of("a")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert limiter.statistics().borrowers == ()

    asyncio.run(main())
