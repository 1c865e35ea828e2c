"""Tasks that ask again and again: they starve others, wait for time that cannot pass, or bow."""

import asyncio

import pytest

from aioconc.errors import LivelockError, ScheduleFailure
from aioconc.testing import explore
from tests.testing.gallery.bugs import check_bug, check_fix, steps


async def gives_up_polling() -> None:
    done = False

    async def work() -> None:
        nonlocal done
        await steps(3)
        done = True

    async def poll() -> None:
        for _ in range(50):
            if done:
                return
            await asyncio.sleep(0)
        raise TimeoutError("fifty looks ought to be enough")

    await asyncio.gather(work(), poll())


async def waits_for_an_event() -> None:
    done = asyncio.Event()

    async def work() -> None:
        await steps(3)
        done.set()

    await asyncio.gather(work(), done.wait())


async def polls_without_a_pause() -> None:
    done = False

    async def work() -> None:
        nonlocal done
        await asyncio.sleep(0.01)
        done = True

    async def poll() -> None:
        while not done:
            await asyncio.sleep(0)  # a whole core, for as long as it takes

    await asyncio.gather(work(), poll())


async def polls_with_a_pause() -> None:
    done = False

    async def work() -> None:
        nonlocal done
        await asyncio.sleep(0.01)
        done = True

    async def poll() -> None:
        while not done:
            await asyncio.sleep(0.002)

    await asyncio.gather(work(), poll())


async def after_you() -> None:
    wants = [False, False]
    opened = asyncio.Event()

    async def open_the_door() -> None:
        opened.set()

    async def pass_the_door(me: int, late: int) -> None:
        await steps(late)
        await opened.wait()
        while True:
            wants[me] = True
            await steps(1)
            other_wants = wants[1 - me]
            await steps(1)
            if not other_wants:
                break
            wants[me] = False
            await steps(1)
        wants[me] = False

    await asyncio.gather(open_the_door(), pass_the_door(0, 0), pass_the_door(1, 5))


async def the_elder_first() -> None:
    wants = [False, False]
    opened = asyncio.Event()

    async def open_the_door() -> None:
        opened.set()

    async def pass_the_door(me: int, late: int) -> None:
        await steps(late)
        await opened.wait()
        wants[me] = True
        while me and wants[0]:
            await asyncio.sleep(0.001)
        await steps(1)
        wants[me] = False

    await asyncio.gather(open_the_door(), pass_the_door(0, 0), pass_the_door(1, 5))


def test_a_task_starved_by_one_that_polls_is_found() -> None:
    """Nothing says that who polls does not run fifty times before the other."""
    check_bug(gives_up_polling, schedule="d0", within=10, raises=TimeoutError)


def test_a_task_that_waits_for_an_event_holds() -> None:
    """No number of steps is too many."""
    check_fix(waits_for_an_event)


def test_polling_without_a_pause_is_a_livelock_where_time_is_virtual() -> None:
    """No time passes while it polls: found in the usual order, with the name of who polls."""
    asyncio.run(polls_without_a_pause())
    with pytest.raises(ScheduleFailure, match="livelock") as found:
        explore(polls_without_a_pause, max_steps=3_000)
    assert isinstance(found.value.__cause__, LivelockError)
    assert found.value.schedule == "fifo"


def test_polling_with_a_pause_holds() -> None:
    """Every sleep lets time pass."""
    check_fix(polls_with_a_pause)


def test_two_polite_tasks_that_never_pass_are_found() -> None:
    """The door opens late for both at once: each sees the other want, withdraws, wants again."""
    check_bug(after_you, schedule="d0", within=10, raises=LivelockError, max_steps=3_000)


def test_a_rule_who_goes_first_holds() -> None:
    """One of them always may."""
    check_fix(the_elder_first)
