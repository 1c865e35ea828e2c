"""Permits and slots that nobody gives back: cancelled at the wrong moment, or failed."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from aioconc import gather_limited
from aioconc.errors import DeadlockError
from tests.testing.gallery.bugs import Program, check_bug, check_fix, steps


class Permits:
    """A semaphore that hands a permit over by waking whom it is for."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        if self.free:
            self.free -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        await waiter  # cancelled when it is done already: the permit is gone

    def release(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1


class CarefulPermits(Permits):
    async def acquire(self) -> None:
        if self.free:
            self.free -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            raise


def cancelled_while_woken(new_permits: Callable[[int], Permits]) -> Program:
    async def main() -> None:
        permits = new_permits(1)

        async def use() -> None:
            await permits.acquire()
            permits.release()

        await permits.acquire()
        user = asyncio.create_task(use())
        await steps(1)
        permits.release()
        await steps(3)
        user.cancel()
        await asyncio.gather(user, return_exceptions=True)
        await permits.acquire()  # the only permit should be free again

    return main


async def gather_slots(jobs: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """The recipe that everybody writes once: siblings of a failure go on without an owner."""
    slots = asyncio.Semaphore(10)

    async def one(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with slots:
            await job()

    await asyncio.gather(*map(one, jobs))


async def gather_owned(jobs: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    await gather_limited((job() for job in jobs), limit=10)


def used_after_close(gather: Callable[..., Coroutine[Any, Any, None]]) -> Program:
    async def main() -> None:
        closed = False
        used_when_closed = 0

        async def good() -> None:
            nonlocal used_when_closed
            await steps(1)
            used_when_closed += closed

        async def bad() -> None:
            await steps(5)
            raise ConnectionError

        try:
            await gather([good, bad])
        except ConnectionError:
            pass
        closed = True
        await asyncio.sleep(0.001)  # the program has other things to do
        assert not used_when_closed

    return main


def test_a_permit_lost_when_its_new_owner_is_cancelled_is_found() -> None:
    """Cancelled after the wake-up and before its step, the waiter takes the permit with it."""
    check_bug(cancelled_while_woken(Permits), schedule="d1", within=10, raises=DeadlockError)


def test_a_permit_passed_on_by_its_cancelled_owner_holds() -> None:
    """Who has the permit and cannot use it gives it back."""
    check_fix(cancelled_while_woken(CarefulPermits))


def test_siblings_that_outlive_a_failed_gather_are_found() -> None:
    """In the usual order they happen to be through when the failure comes."""
    check_bug(used_after_close(gather_slots), schedule="d0", within=20, raises=AssertionError)


def test_gather_limited_leaves_no_sibling_behind() -> None:
    """It returns after all of its calls have ended, in every explored order."""
    check_fix(used_after_close(gather_owned))
