"""Bridges and the lock of an array, cancelled at each of their awaits: nothing is left or lost."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aioconc.channels import SharedArray
from aioconc.errors import TaskCancelled
from aioconc.executors import iterate_in_thread
from aioconc.runtime import Portal, iterate_blocking, open_portal
from aioconc.testing import cancel_everywhere
from tests.conftest import LoopFactory, loop_variants

# Threads take real time.
on_real_loops = pytest.mark.parametrize(
    "new_loop", [*loop_variants().values()], ids=loop_variants()
)

pytestmark = on_real_loops


class Threads:
    """Threads that were started, each joined at the end of the run."""

    def __init__(self) -> None:
        self._all: list[threading.Thread] = []

    def start(self, fn: Any, *args: Any) -> None:
        def work() -> None:
            try:
                fn(*args)
            except (RuntimeError, TaskCancelled):  # the portal is closed, or the call was cancelled
                pass

        thread = threading.Thread(target=work)
        thread.start()
        self._all.append(thread)

    def check(self) -> None:
        for each in self._all:
            each.join(20)
            assert not each.is_alive(), "a thread was left waiting"
        self._all.clear()


async def add_later(one: int, two: int) -> int:
    await asyncio.sleep(0)
    return one + two


@pytest.mark.parametrize("target", ["root", "children"])
def test_a_portal(new_loop: LoopFactory, target: Any) -> None:
    """Each call of each thread is answered, one way or another."""
    threads = Threads()

    def work(portal: Portal, done: Any) -> None:
        try:
            portal.call(add_later, 1, 2)
        finally:
            portal.start_task_soon(done.set)

    async def program() -> None:
        done = asyncio.Event()
        async with open_portal() as portal:
            threads.start(work, portal, done)
            await done.wait()

    cancel_everywhere(program, loop_factory=new_loop, target=target, check=threads.check)


def test_iterating_in_a_thread(new_loop: LoopFactory) -> None:
    """The generator has ended in its thread whenever the block has."""
    running = 0

    def numbers() -> Iterator[int]:
        nonlocal running
        running += 1
        try:
            yield from range(5)
        finally:
            running -= 1

    async def program() -> None:
        async with iterate_in_thread(numbers, buffer=2) as items:
            async for number in items:
                await asyncio.sleep(0)
                if number == 3:
                    break
        assert not running

    def check() -> None:
        assert not running

    cancel_everywhere(program, loop_factory=new_loop, check=check)


@pytest.mark.parametrize("target", ["root", "children"])
def test_iterating_blocking(new_loop: LoopFactory, target: Any) -> None:
    """The thread gets its items or an error, and the source is closed."""
    threads, running = Threads(), 0

    async def numbers() -> AsyncIterator[int]:
        nonlocal running
        running += 1
        try:
            for number in range(5):
                await asyncio.sleep(0)
                yield number
        finally:
            running -= 1

    def work(portal: Portal, done: Any) -> None:
        try:
            with iterate_blocking(numbers(), portal, buffer=2) as items:
                for number in items:
                    if number == 3:
                        break
        finally:
            portal.start_task_soon(done.set)

    async def program() -> None:
        done = asyncio.Event()
        async with open_portal() as portal:
            threads.start(work, portal, done)
            await done.wait()

    def check() -> None:
        threads.check()
        assert not running

    cancel_everywhere(program, loop_factory=new_loop, target=target, check=check)


def test_the_lock_of_an_array(new_loop: LoopFactory) -> None:
    """It is free again, and nobody is said to have died, wherever a waiter was cancelled."""
    with SharedArray(1, lock=True) as shared:
        lock = shared.lock

        async def hold() -> None:
            async with lock:
                await asyncio.sleep(0)

        async def program() -> None:
            other = asyncio.create_task(hold())
            try:
                await asyncio.sleep(0)
                async with lock:
                    await asyncio.sleep(0)
                async with lock.recover():
                    await asyncio.sleep(0)
            finally:
                await other

        async def check() -> None:
            assert not lock.locked()
            async with lock:
                assert lock.statistics().owner_died is None

        cancel_everywhere(program, loop_factory=new_loop, check=check)
