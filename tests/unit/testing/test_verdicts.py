"""The texts of deadlock, stuck and livelock: the verdict first, then who waits for whom."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from aioconc.testing._owners import record_owners
from aioconc.testing._verdicts import describe_deadlock, describe_livelock, describe_stuck
from tests.unit.testing.graphs import all_wait, waiting

Coro = Coroutine[Any, Any, Any]


async def take(first: Any, second: Any, ready: asyncio.Event) -> None:
    async with first:
        await ready.wait()
        async with second:
            pass


async def acquire(first: Any, second: Any, ready: asyncio.Event) -> None:
    await first.acquire()
    await ready.wait()
    await second.acquire()


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("    at ")]


async def test_deadlock_of_tasks_that_wait_for_each_other() -> None:
    """The circle comes in the second line, its tasks before the others, with their lines."""
    first, second, ready = asyncio.Lock(), asyncio.Lock(), asyncio.Event()
    with record_owners():
        async with waiting(
            a=asyncio.Event().wait(),
            x=take(first, second, ready),
            y=take(second, first, ready),
        ):
            ready.set()
            await all_wait()
            text = describe_deadlock(asyncio.get_running_loop())
    found = lines(text)
    assert found[:2] == [
        "deadlock: 2 tasks wait for each other and nothing is left to run",
        "circle: x -> Lock#1 held by y -> Lock#2 held by x",
    ]
    assert found[2].startswith("x waits for Lock#1, held by y (acquired at ")
    assert found[3].startswith("y waits for Lock#2, held by x (acquired at ")
    assert "a waits for Event#1 (to be set)" in found[4:]
    assert f"    at {__file__}:" in text


async def test_deadlock_of_locks_acquired_by_hand_names_the_circle() -> None:
    """Where nothing else runs, nobody else will release: the likely circle is the circle."""
    with record_owners():
        first, second, ready = asyncio.Lock(), asyncio.Lock(), asyncio.Event()
        async with waiting(x=acquire(first, second, ready), y=acquire(second, first, ready)):
            ready.set()
            assert (await all_wait()).cycle == ()
            text = describe_deadlock(asyncio.get_running_loop())
    assert lines(text)[:2] == [
        "deadlock: 2 tasks wait for each other and nothing is left to run",
        "circle: x -> Lock#1 held by y -> Lock#2 held by x",
    ]


async def test_deadlock_of_a_task_that_waits_for_itself() -> None:
    """One task in a circle with itself is told as such."""
    lock = asyncio.Lock()
    ready = asyncio.Event()
    ready.set()
    async with waiting(selfish=take(lock, lock, ready)):
        text = describe_deadlock(asyncio.get_running_loop())
    assert lines(text)[:2] == [
        "deadlock: a task waits for itself and nothing is left to run",
        "circle: selfish -> Lock#1 held by selfish",
    ]


async def test_deadlock_without_a_circle() -> None:
    """Tasks that wait for an event that nobody will set are no circle."""
    async with waiting(a=asyncio.Event().wait()):
        text = describe_deadlock(asyncio.get_running_loop())
        assert text.startswith(
            "deadlock: 1 task waits for what nobody will do; nothing is left to run\n"
        )
        async with waiting(b=asyncio.Event().wait()):
            text = describe_deadlock(asyncio.get_running_loop())
    assert text.startswith("deadlock: 2 tasks wait for what nobody will do;")
    assert "circle" not in text


def test_deadlock_without_any_task() -> None:
    """A loop that waits for a bare future, without tasks, is told so."""
    loop = asyncio.new_event_loop()
    assert describe_deadlock(loop).startswith("deadlock: no task is left, and what the loop")
    loop.close()


async def test_lock_whose_holder_has_ended() -> None:
    """A permit that was never released is told, though nobody is left to name."""
    with record_owners():
        lock = asyncio.Lock()
        await asyncio.create_task(acquire(lock, asyncio.Lock(), set_event()))
        async with waiting(a=lock.acquire()):
            text = describe_deadlock(asyncio.get_running_loop())
    assert "a waits for Lock#1 (1 held by what has ended without releasing)" in lines(text)


def set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def test_stuck_names_what_is_outside() -> None:
    """The verdict says what might still wake the loop."""
    async with waiting(a=asyncio.Event().wait()):
        loop = asyncio.get_running_loop()
        text = describe_stuck(loop, ["thread 'reader'", "socket 7"])
        assert text.startswith(
            "stuck: 1 task waits, nothing is left to run, and only "
            "thread 'reader', socket 7 might wake the loop\n"
        )
        assert "only something outside might" in describe_stuck(loop, [])
    assert "a waits for Event#1 (to be set)" in text


async def test_livelock_names_the_spinning_and_the_starving() -> None:
    """Who spins comes with its steps; who waits for time or for a spinning task's lock starves."""
    lock = asyncio.Lock()

    async def spin() -> None:
        async with lock:
            await asyncio.Event().wait()

    async with waiting(
        beat=asyncio.sleep(3600),
        spin=spin(),
        wants=take(lock, lock, asyncio.Event()),
        waits=asyncio.Event().wait(),
    ):
        loop = asyncio.get_running_loop()
        text = describe_livelock(loop, 20_000, {"other": 3, "spin": 19_000})
    assert lines(text)[:2] == [
        "livelock: 20000 steps and no time has passed; spinning: spin (19000 steps), other (3 steps)",
        "starving meanwhile: beat (waits for a timer), wants (waits for Lock#1, held by spin)",
    ]
    assert describe_livelock(loop, 5, {}).startswith(
        "livelock: 5 steps and no time has passed; spinning: no task"
    )
