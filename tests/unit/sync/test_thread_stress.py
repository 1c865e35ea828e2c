"""Threads and loops at once, with the interpreter switching between them all the time."""

import asyncio
import contextlib
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioconc import sync


@pytest.fixture(autouse=True)
def _switch_all_the_time() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def together(*functions: Callable[[], object]) -> None:
    """Run each in a thread of its own; the first error is raised."""
    errors: list[BaseException] = []

    def guarded(fn: Callable[[], object]) -> None:
        try:
            fn()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(each,)) for each in functions]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]


async def cancelled_at_random(call: Any, chance: random.Random) -> Any:
    """The outcome of the call, which is cancelled now and then; None if it was."""
    task = asyncio.ensure_future(call)
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(0)
    if chance.random() < 0.3:
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


HELD: dict[str, tuple[Callable[[], Any], int]] = {
    "Lock": (sync.Lock, 1),
    "RLock": (sync.RLock, 1),
    "Semaphore": (lambda: sync.Semaphore(2), 2),
    "CapacityLimiter": (lambda: sync.CapacityLimiter(2), 2),
}


def share_permits(name: str, rounds: int, seed: int) -> None:
    """Two threads with time limits and two loops with cancels never hold more than there is."""
    make, permits = HELD[name]
    primitive = make()
    inside: list[int] = []  # appending and removing is atomic

    def use(number: int) -> None:
        inside.append(number)
        assert len(inside) <= permits
        inside.remove(number)

    def thread(number: int) -> None:
        chance = random.Random(seed + number)
        for _ in range(rounds):
            timeout = chance.choice([None, 0, 0.0001])
            if primitive.sync.acquire(timeout=timeout):
                use(number)
                primitive.release()

    def loop(number: int) -> None:
        chance = random.Random(seed + number)

        async def hold() -> None:
            async with primitive:
                use(number)
                await asyncio.sleep(0)

        async def main() -> None:
            for _ in range(rounds // 2):
                await asyncio.gather(
                    cancelled_at_random(hold(), chance), cancelled_at_random(hold(), chance)
                )

        asyncio.run(main())

    together(*(lambda n=n: thread(n) for n in (0, 1)), *(lambda n=n: loop(n) for n in (2, 3)))
    counts = primitive.statistics()
    assert (counts.tasks_waiting, counts.threads_waiting, inside) == (0, 0, [])
    together(*[lambda: primitive.sync.acquire(timeout=0) or pytest.fail("lost")] * permits)


def share_items(kind: Any, rounds: int, seed: int) -> None:
    """What threads and tasks put is what threads and tasks got and what is left, once each."""
    items = kind(3)
    sent: list[list[int]] = [[], []]
    got: list[list[int]] = [[], []]

    def put_in_thread() -> None:
        chance = random.Random(seed)
        for number in range(rounds):
            try:
                items.sync.put(number, timeout=chance.choice([None, 0.0001]))
            except sync.QueueFull:
                continue
            sent[0].append(number)

    def get_in_thread() -> None:
        chance = random.Random(seed + 1)
        while True:
            try:
                got[0] += items.sync.get_many(2, timeout=chance.choice([None, 0.0001]))
            except sync.QueueEmpty:
                continue
            except sync.QueueShutDown:
                return

    def put_in_loop() -> None:
        chance = random.Random(seed + 2)

        async def put(number: int) -> None:
            await items.put(number)
            sent[1].append(number)

        async def main() -> None:
            for number in range(rounds, 2 * rounds):
                await cancelled_at_random(put(number), chance)

        asyncio.run(main())

    def get_in_loop() -> None:
        chance = random.Random(seed + 3)

        async def get() -> None:
            got[1].append(await items.get())

        async def main() -> None:
            while True:
                try:
                    await cancelled_at_random(get(), chance)
                except sync.QueueShutDown:
                    return

        asyncio.run(main())

    def put_all() -> None:
        together(put_in_thread, put_in_loop)
        items.shutdown()

    together(put_all, get_in_thread, get_in_loop)
    left = [items.get_nowait() for _ in range(items.qsize())]
    assert Counter(sent[0] + sent[1]) == Counter(got[0] + got[1] + left)
    counts = items.statistics()
    assert (counts.tasks_waiting, counts.threads_waiting) == (0, 0)
    assert (items._room, items._reserved) == (items.maxsize, 0)


def keep_order(maxsize: int, rounds: int, seed: int) -> None:
    """Each of several consumers sees what one producer put in the order in which it was put."""
    items: sync.Queue[int] = sync.Queue(maxsize)
    seen: list[list[int]] = [[] for _ in range(5)]

    def put() -> None:
        for number in range(rounds):
            items.sync.put(number)
        items.shutdown()

    def get_in_thread(mine: list[int], chance: random.Random) -> None:
        while True:
            try:
                mine.append(items.sync.get(timeout=chance.choice([None, 0.0001])))
            except sync.QueueEmpty:
                continue
            except sync.QueueShutDown:
                return

    def get_in_loop() -> None:
        async def get(mine: list[int]) -> None:
            mine.append(await items.get())

        async def consume(mine: list[int], chance: random.Random) -> None:
            with contextlib.suppress(sync.QueueShutDown):
                while True:
                    await cancelled_at_random(get(mine), chance)

        async def main() -> None:
            await asyncio.gather(*(consume(seen[n], random.Random(seed + n)) for n in (2, 3, 4)))

        asyncio.run(main())

    threads = [lambda n=n: get_in_thread(seen[n], random.Random(seed + n)) for n in (0, 1)]
    together(put, get_in_loop, *threads)
    assert [mine == sorted(mine) for mine in seen] == [True] * 5
    assert sorted(number for mine in seen for number in mine) == list(range(rounds))


@pytest.mark.parametrize("name", HELD)
def test_permits_are_conserved_between_threads_and_loops(name: str) -> None:
    """No permit is lost or doubled, whoever gives up when."""
    share_permits(name, rounds=100, seed=1)


@pytest.mark.parametrize("kind", [sync.Queue, sync.LifoQueue, sync.PriorityQueue])
def test_items_are_conserved_between_threads_and_loops(kind: Any) -> None:
    """No item is lost or doubled, whoever gives up when."""
    share_items(kind, rounds=200, seed=1)


@pytest.mark.parametrize("maxsize", [0, 2])
def test_each_consumer_sees_the_order_of_a_producer(maxsize: int) -> None:
    """Threads and tasks that take at once, wait and give up do not overtake one another."""
    keep_order(maxsize, rounds=2_000, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", HELD)
def test_permits_are_conserved_for_long(name: str) -> None:
    """The same in many runs."""
    for seed in range(30):
        share_permits(name, rounds=60, seed=100 * seed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [sync.Queue, sync.LifoQueue, sync.PriorityQueue])
def test_items_are_conserved_for_long(kind: Any) -> None:
    """The same in many runs."""
    for seed in range(30):
        share_items(kind, rounds=150, seed=100 * seed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("maxsize", [0, 2])
def test_each_consumer_sees_the_order_for_long(maxsize: int) -> None:
    """The same in many runs."""
    for seed in range(30):
        keep_order(maxsize, rounds=1_000, seed=100 * seed)
