"""Processes that die at each step of each protocol: the others go on, and nothing is lost or kept."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aioconc.channels import Manager, open_manager
from aioconc.errors import OwnerDied
from tests.system.manager_victims import How, Nursery, nursery
from tests.system.process_tools import until

pytestmark = [pytest.mark.slow, pytest.mark.loops("asyncio")]

FACES: list[Any] = ["sync", "async"]

# As many messages as the longest of them sends, with the first that says who it is.
STEPS = range(6)
HOW: list[How] = ["before", "half", "after", "answered"]


@pytest.fixture(scope="module")
def victims() -> Iterator[Nursery]:
    with nursery() as found:
        yield found


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    async with open_manager() as found:
        yield found


async def all_gone(manager: Manager) -> None:
    """No other process has a connection, and what they had is given back."""
    broker = manager._client.broker
    server = manager._client.server
    await until(lambda: not server.lines and len(broker.connections) == 1, timeout=10)


async def usable(lock: Any) -> bool:
    """Whether it was left good; it is good afterwards."""
    async with asyncio.timeout(1):
        try:
            async with lock:
                return True
        except OwnerDied:
            async with lock.recover() as died:
                assert died is not None
            async with lock:
                return False


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", HOW)
async def test_a_lock_survives_a_death_at_any_step(
    manager: Manager, victims: Nursery, how: How, face: Any
) -> None:
    """It is free within a second; who was granted it when he died is told of."""
    left = []
    for step in STEPS:
        lock = manager.Lock()
        victims.start(manager, "lock", [lock], face=face, dies=(how, step))
        await all_gone(manager)
        left.append(await usable(lock))
    # Messages: who it is, acquire, release. It holds the lock from the answer to the release.
    expected = {
        "before": [True, True, False, True, True, True],
        "half": [True, True, False, True, True, True],
        "after": [True, None, True, True, True, True],
        "answered": [False, True, True, True, True, True],
    }[how]
    assert all(want is None or got is want for want, got in zip(expected, left, strict=True))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", HOW)
async def test_permits_survive_a_death_at_any_step(
    manager: Manager, victims: Nursery, how: How, face: Any
) -> None:
    """There are as many as before, and nobody waits."""
    permits = manager.Semaphore(1)
    for step in STEPS:
        victims.start(manager, "permit", [permits], face=face, dies=(how, step))
        async with asyncio.timeout(5), permits:
            pass
        await all_gone(manager)
        counts = await permits.statistics()
        assert (counts.permits_free, counts.waiting) == (1, 0)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", HOW)
async def test_items_survive_the_death_of_a_consumer_at_any_step(
    manager: Manager, victims: Nursery, how: How, face: Any
) -> None:
    """Each is in the queue, or done, or told of as lost."""
    for step in STEPS:
        items = manager.Queue()
        await items.put_many([1, 2])
        victims.start(manager, "get", [items], face=face, dies=(how, step))
        await all_gone(manager)
        counts = await items.statistics()
        assert counts.used == counts.items
        found = await items.get_many(5)
        assert found in ([1, 2], [2])
        for _ in found:
            items.task_done()
        async with asyncio.timeout(1):
            try:
                await items.join()
                told = False
            except OwnerDied:
                told = True
        if found == [1, 2]:
            assert not told


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", HOW)
async def test_a_queue_survives_the_death_of_a_producer_at_any_step(
    manager: Manager, victims: Nursery, how: How, face: Any
) -> None:
    """Its items are in the queue whole, in their order; its places are free."""
    for step in STEPS:
        items = manager.Queue(2)
        victims.start(manager, "put", [items], face=face, dies=(how, step))
        await all_gone(manager)
        counts = await items.statistics()
        assert counts.used == counts.items <= 2
        await items.put("end") if counts.items < 2 else None
        found = await items.get_many(5)
        assert found in (["end"], ["a", "end"], ["a", "b"])


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("how", HOW)
async def test_a_notification_survives_a_death_at_any_step(
    manager: Manager, victims: Nursery, how: How, face: Any
) -> None:
    """One that the dead was given goes to who else waits; the lock is free."""
    for step in STEPS:
        condition = manager.Condition(manager.Lock(on_owner_death="release"))

        async def wait(condition: Any = condition) -> None:
            async with condition:
                await condition.wait()

        victims.start(manager, "notified", [condition], face=face, dies=(how, step))
        waits = asyncio.create_task(wait())
        async with asyncio.timeout(5):
            while not waits.done():
                async with condition:
                    condition.notify()
                await asyncio.sleep(0.001)
        while manager._client.server.lines:
            async with asyncio.timeout(1), condition:  # others use it meanwhile
                condition.notify_all()
            await asyncio.sleep(0.001)
        await all_gone(manager)
        counts = await condition.statistics()
        assert (counts.waiting, counts.locked) == (0, False)


async def kill_at_random(manager: Manager, victims: Nursery, times: int, seed: int) -> None:
    """Processes that use everything at once are killed; others go on, and all adds up."""
    chance = random.Random(seed)
    lock = manager.Lock(on_owner_death="release")
    permits = manager.Semaphore(2)
    items = manager.Queue(8)
    condition = manager.Condition(manager.Lock(on_owner_death="release"))
    table = manager.dict()
    objects = [lock, permits, items, condition, table]
    alive: list[int] = []
    for number in range(times):
        while len(alive) < 4:
            face: Any = chance.choice(FACES)
            alive.append(victims.start(manager, "anything", objects, face=face, seed=seed + number))
        await asyncio.sleep(chance.random() * 0.02)
        os.kill(alive.pop(chance.randrange(len(alive))), signal.SIGKILL)
        async with asyncio.timeout(5):
            async with lock, permits, condition:
                pass
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    await all_gone(manager)
    for each in (lock, condition):
        counts = await each.statistics()
        assert (counts.waiting, counts.locked) == (0, False)
    assert (await permits.statistics()).permits_free == 2
    left = await items.statistics()
    assert left.used == left.items == left.unfinished
    assert (left.getters_waiting, left.putters_waiting) == (0, 0)


@pytest.mark.loops("asyncio", "uvloop")
async def test_others_go_on_after_kills_at_random(manager: Manager, victims: Nursery) -> None:
    """A sample."""
    await kill_at_random(manager, victims, 25, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
async def test_others_go_on_after_hundreds_of_kills(
    manager: Manager, victims: Nursery, seed: int
) -> None:
    """Two hundred in a row."""
    await kill_at_random(manager, victims, 200, seed=1_000 * (seed + 1))
