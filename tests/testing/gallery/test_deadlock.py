"""Deadlocks: two tasks that take two locks in opposite order, and the dining philosophers."""

import asyncio

import pytest

from aioconc.errors import DeadlockError
from tests.testing.gallery.bugs import Program, check_bug, check_fix, steps


def opposite_order(apart: int) -> Program:
    async def main() -> None:
        here, there = asyncio.Lock(), asyncio.Lock()

        async def transfer(first: asyncio.Lock, second: asyncio.Lock, late: int) -> None:
            await steps(late)
            async with first:
                await steps(1)
                async with second:
                    pass

        await asyncio.gather(transfer(here, there, 0), transfer(there, here, apart))

    return main


def same_order(apart: int) -> Program:
    async def main() -> None:
        here, there = asyncio.Lock(), asyncio.Lock()

        async def transfer(late: int) -> None:
            await steps(late)
            async with here:
                await steps(1)
                async with there:
                    pass

        await asyncio.gather(transfer(0), transfer(apart))

    return main


def philosophers(seats: int, *, left_first: bool) -> Program:
    async def main() -> None:
        forks = [asyncio.Lock() for _ in range(seats)]

        async def dine(seat: int) -> None:
            await steps(3 * seat)  # they come one after the other
            left, right = seat, (seat + 1) % seats
            first, second = (left, right) if left_first else sorted((left, right))
            async with forks[first]:
                await steps(1)
                async with forks[second]:
                    pass

        await asyncio.gather(*map(dine, range(seats)))

    return main


@pytest.mark.parametrize("apart", [3, 8, 30])
def test_locks_taken_in_opposite_order_deadlock_however_far_apart(apart: int) -> None:
    """One demotion bridges any number of steps between the two."""
    check_bug(opposite_order(apart), schedule="d2", within=10, raises=DeadlockError)


@pytest.mark.parametrize("apart", [3, 8])
def test_locks_taken_in_one_order_do_not_deadlock(apart: int) -> None:
    """No explored order stands still."""
    check_fix(same_order(apart))


def test_three_philosophers_starve_when_two_of_them_hesitate() -> None:
    """All but one must be stopped between their forks: as many demotions."""
    check_bug(philosophers(3, left_first=True), schedule="d1,2", within=50, raises=DeadlockError)


def test_four_philosophers_starve_beyond_a_bound_of_two() -> None:
    """A bound that is exhausted is no proof: three of them must hesitate."""
    four = philosophers(4, left_first=True)
    check_bug(four, schedule="d1,3,15", within=600, raises=DeadlockError, bound=3, budget=40_000)


def test_philosophers_who_take_the_lower_fork_first_all_dine() -> None:
    """An order of the forks leaves no circle."""
    check_fix(philosophers(3, left_first=False))
