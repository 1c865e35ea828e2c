"""The queue of those who wait: order, counts and memory, whoever withdraws when."""

import asyncio
import gc
import random
import time
import weakref

from aioconc import sync
from aioconc.sync._wait_queue import ThreadWaiter, Waiter, WaitQueue


def test_order_and_count_hold_whoever_withdraws() -> None:
    """In thousands of random steps it is what a plain list is, and who withdrew is soon out."""
    chance, queue, plain = random.Random(1), WaitQueue(), list[Waiter]()
    gone: list[Waiter] = []
    for _ in range(5_000):
        step = chance.choice("aaawwgg" if len(plain) < 50 else "wwg")
        if step == "a":
            plain.append(ThreadWaiter(queue))
            queue.add(plain[-1])
        elif step == "w" and plain:
            gone.append(plain.pop(chance.randrange(len(plain))))
            queue.withdraw(gone[-1])
            queue.withdraw(chance.choice(gone))  # which changes nothing
        elif step == "g" and plain:
            gone.append(plain.pop(0))
            assert queue.grant(step) is gone[-1]
            assert gone[-1].granted and gone[-1].value == step
        assert (list(queue), queue.count_waiting(), bool(queue)) == (plain, len(plain), bool(plain))
        assert step != "w" or len(queue) <= 2 * len(plain)
    assert queue.grant_all() == tuple(plain)
    assert not queue and queue.count_waiting() == 0
    assert not any(each.waiting for each in (*plain, *gone))


def test_many_withdraw_at_the_costs_of_few() -> None:
    """Ten times as many, in any order, cost ten times as much, and not a hundred times."""

    def costs(count: int) -> float:
        queue = WaitQueue()
        waiters = [Waiter(queue) for _ in range(count)]
        for each in waiters:
            queue.add(each)
        random.Random(2).shuffle(waiters)
        start = time.thread_time()
        for each in waiters:
            queue.withdraw(each)
        return time.thread_time() - start

    few, many = (min(costs(count) for _ in range(3)) for count in (1_000, 10_000))
    assert many < 40 * few


async def test_a_cancelled_waiter_keeps_no_task_alive() -> None:
    """Who withdrew behind one that waits for long may be in the queue still, but not its task."""
    lock = sync.Lock()
    await lock.acquire()
    first = asyncio.ensure_future(lock.acquire())
    second = asyncio.ensure_future(lock.acquire())
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    seen = weakref.ref(second)
    del second
    gc.collect()
    assert seen() is None
    lock.release()
    assert await first
