"""SIGKILL of the process that has the other end, at each step of what they say to each other.

Whoever waits hears of it at once, what had arrived is received, other channels go on, and nothing
stays open.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from aioconc.channels import BrokenChannel, Channel, EndOfStream, PeerDied, open_channel
from aioconc.errors import WorkerCrashed
from aioconc.executors import ProcessExecutor
from tests.system import channel_victims as victims
from tests.system.process_tools import kill

pytestmark = pytest.mark.slow

Check = Callable[[Channel[Any]], Awaitable[PeerDied]]

CAPACITY = 16

# Seconds in which a death is to be heard of; a second, were the machine not shared.
AT_ONCE = 10


async def death(ours: Channel[Any], *before: Any) -> PeerDied:
    """These items come, then the death, for those who receive and those who send."""
    for each in before:
        assert await ours.receive() == each
    with pytest.raises(PeerDied) as caught:
        await ours.receive()
    with pytest.raises(PeerDied):
        await ours.send(1)
    return caught.value


async def never_taken(ours: Channel[Any]) -> PeerDied:
    error = await death(ours)
    assert error.pid is None
    return error


async def five(ours: Channel[Any]) -> PeerDied:
    return await death(ours, *range(5))


async def half(ours: Channel[Any]) -> PeerDied:
    error = await five(ours)
    assert "in the middle of an item" in str(error)
    return error


async def header(ours: Channel[Any]) -> PeerDied:
    error = await death(ours)
    assert "in the middle of an item" in str(error)
    return error


async def arena(ours: Channel[Any]) -> PeerDied:
    return await death(ours, bytearray(3_000_000))


async def ended(ours: Channel[Any]) -> PeerDied:
    """It had said that it sends no more: for who receives that is the end."""
    assert [item async for item in ours] == [*range(5)]
    with pytest.raises(EndOfStream):
        await ours.receive()
    with pytest.raises(PeerDied) as caught:
        while True:
            await ours.send(1)
    return caught.value


async def taken(ours: Channel[Any]) -> PeerDied:
    with pytest.raises(PeerDied) as caught:
        await ours.send_many(range(100))
    assert CAPACITY - 3 <= caught.value.undelivered <= CAPACITY
    return await death(ours)


async def arena_taken(ours: Channel[Any]) -> PeerDied:
    array = np.zeros(3_000_000, dtype="u1")
    with pytest.raises(PeerDied):
        while True:
            await ours.send(array)
    assert ours._end._arenas.lent == 0
    return await death(ours)


async def killed(ours: Channel[Any]) -> PeerDied:
    """From here, when it waits for something."""
    kill(await ours.receive())
    with pytest.raises(PeerDied) as caught:
        while True:
            await ours.receive()
    return caught.value


STEPS: dict[Callable[..., Any], Check] = {
    victims.taken_by_a_bomb: never_taken,
    victims.at_once: death,
    victims.after_items: five,
    victims.in_a_header: header,
    victims.in_a_small_item: half,
    victims.in_eight_megabytes: half,
    victims.after_an_arena: arena,
    victims.after_the_last_item: ended,
    victims.with_items_taken: taken,
    victims.with_an_arena_in_hand: arena_taken,
    victims.while_it_waits_for_an_item: killed,
    victims.while_it_waits_for_room: killed,
    victims.while_it_computes: killed,
}


async def kill_once(pool: ProcessExecutor, step: Callable[..., Any]) -> float:
    """One process that dies at this step; seconds until that was heard of."""
    ours, theirs = open_channel(capacity=CAPACITY)
    async with ours:
        bomb = [victims.Bomb()] if step is victims.taken_by_a_bomb else []
        work = asyncio.ensure_future(pool.run(step, *bomb, theirs))
        try:
            async with asyncio.timeout(AT_ONCE + 10):
                error = await STEPS[step](ours)
            heard = time.monotonic()
            async with asyncio.timeout(AT_ONCE):
                with pytest.raises(WorkerCrashed) as crash:
                    await work
        finally:
            work.cancel()
            await asyncio.wait([work])
        if error.pid is not None:
            assert error.pid == crash.value.pid
        assert error.exitcode in (None, -9)
        return heard


async def bystanders(stop: asyncio.Event) -> int:
    """Another channel that goes on all the time."""
    ours, theirs = open_channel()
    rounds = 0
    async with ours, theirs:
        while not stop.is_set():
            await ours.send(rounds)
            assert await theirs.receive() == rounds
            rounds += 1
            await asyncio.sleep(0.001)
    return rounds


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_a_process_that_is_killed_is_told_from_one_that_closes(
    step: Callable[..., Any],
) -> None:
    """At each step; the others go on."""
    stop = asyncio.Event()
    other = asyncio.create_task(bystanders(stop))
    async with ProcessExecutor(max_workers=1) as pool:
        await kill_once(pool, step)
    stop.set()
    assert await other


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.loops("uvloop")
async def test_two_hundred_kills_leave_nothing_behind() -> None:
    """At random steps, three at a time."""
    chance = random.Random(7)
    stop = asyncio.Event()
    other = asyncio.create_task(bystanders(stop))
    steps = [*STEPS] * 15 + chance.choices([*STEPS], k=5)
    chance.shuffle(steps)
    async with ProcessExecutor(max_workers=3) as pool:
        waiting = iter(steps)

        async def killer() -> None:
            for step in waiting:
                await kill_once(pool, step)

        await asyncio.gather(*(killer() for _ in range(3)))
    stop.set()
    assert await other > 100


async def test_a_third_process_that_lives_keeps_no_death_from_showing() -> None:
    """Processes that were started later have no copy of the end."""
    ours, theirs = open_channel()
    async with ours, ProcessExecutor(max_workers=2) as pool:
        dying = asyncio.ensure_future(pool.run(victims.while_it_computes, theirs))
        pid = await ours.receive()
        living, other = open_channel()
        async with living:
            third = asyncio.ensure_future(pool.run(victims.while_it_waits_for_an_item, other))
            await living.receive()
            kill(pid)
            with pytest.raises(PeerDied):
                await ours.receive(timeout=AT_ONCE)
            with pytest.raises(WorkerCrashed):
                await dying
            await living.send("end")
            await third


async def test_a_worker_that_leaves_with_items_unsent_holds_nobody_up() -> None:
    """It returns after the time its close was given; the loss is told on both sides."""
    ours, theirs = open_channel()
    async with ours, ProcessExecutor(max_workers=1) as pool:
        # No loop reads here meanwhile: nothing has been asked of this end yet.
        with pytest.raises(BrokenChannel, match="before all was sent") as caught:
            await pool.run(victims.leave_a_megabyte, theirs)
        assert caught.value.undelivered > 1
        assert len(await ours.receive()) == 1_000_000
        with pytest.raises(PeerDied):
            while True:
                await ours.receive()


async def test_what_a_process_took_and_died_with_is_not_sent_again() -> None:
    """At most once: the next process gets what comes after, through a channel of its own."""
    async with ProcessExecutor(max_workers=1) as pool:
        ours, theirs = open_channel(capacity=2)
        async with ours:
            work = asyncio.ensure_future(pool.run(victims.with_items_taken, theirs))
            with pytest.raises(PeerDied) as caught:
                await ours.send_many(range(10))
            with pytest.raises(WorkerCrashed):
                await work
            # Three were taken; as many as fit were on their way, and one of those may be among them.
            assert caught.value.undelivered <= 2
            with pytest.raises(PeerDied):
                await ours.receive()
            assert ours.statistics().items_ready == 0
