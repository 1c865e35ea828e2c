"""Lost update: read, wait, write back; what was written in between is gone."""

import asyncio

import pytest

from tests.testing.gallery.bugs import Program, check_bug, check_fix, steps


def lost_update(apart: int) -> Program:
    async def main() -> None:
        balance = 0

        async def deposit(late: int) -> None:
            nonlocal balance
            await steps(late)
            seen = balance
            await steps(1)  # asks the bank
            balance = seen + 1

        await asyncio.gather(deposit(0), deposit(apart))
        assert balance == 2

    return main


def locked_update(apart: int) -> Program:
    async def main() -> None:
        balance = 0
        lock = asyncio.Lock()

        async def deposit(late: int) -> None:
            nonlocal balance
            await steps(late)
            async with lock:
                seen = balance
                await steps(1)
                balance = seen + 1

        await asyncio.gather(deposit(0), deposit(apart))
        assert balance == 2

    return main


@pytest.mark.parametrize("apart", [3, 8, 30])
def test_a_lost_update_is_found_however_far_apart_the_tasks_run(apart: int) -> None:
    """One demotion bridges any number of steps between the two."""
    check_bug(lost_update(apart), schedule="d2", within=10, raises=AssertionError)


@pytest.mark.parametrize("apart", [3, 8])
def test_an_update_under_a_lock_holds(apart: int) -> None:
    """No explored order loses it."""
    check_fix(locked_update(apart))
