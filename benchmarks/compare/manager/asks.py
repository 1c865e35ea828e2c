"""The work of one process, which measures itself: starting it is not the question.

Each gives seconds on the wall and of its processor. As many calls as are measured come before: at
first the two processes often share a core, and a call takes everybody half as long again.
"""

import time
from collections.abc import Callable
from typing import Any


def _timed(step: Callable[[], object], count: int) -> tuple[float, float]:
    for _ in range(count):
        step()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        step()
    return time.perf_counter() - wall, time.process_time() - cpu


def lock(shared: Any, count: int) -> tuple[float, float]:
    """Take and give back; `sync` where there is one."""
    held = getattr(shared, "sync", shared)

    def step() -> None:
        with held:
            pass

    return _timed(step, count)


def table(shared: Any, count: int) -> tuple[float, float]:
    """Set a value and get it."""
    items = getattr(shared, "sync", shared)

    def step() -> None:
        items["key"] = 1
        assert items["key"] == 1

    return _timed(step, count)


def queue(shared: Any, count: int) -> tuple[float, float]:
    """Put an item and get one."""
    items = getattr(shared, "sync", shared)

    def step() -> None:
        items.put(1)
        assert items.get() == 1

    return _timed(step, count)


async def lock_async(shared: Any, count: int) -> tuple[float, float]:
    """The same, awaited."""
    wall, cpu = 0.0, 0.0
    for number in range(2 * count):
        if number == count:
            wall, cpu = time.perf_counter(), time.process_time()
        async with shared:
            pass
    return time.perf_counter() - wall, time.process_time() - cpu


async def table_async(shared: Any, count: int) -> tuple[float, float]:
    """The same, awaited."""
    wall, cpu = 0.0, 0.0
    for number in range(2 * count):
        if number == count:
            wall, cpu = time.perf_counter(), time.process_time()
        await shared.set("key", 1)
        assert await shared["key"] == 1
    return time.perf_counter() - wall, time.process_time() - cpu


async def queue_async(shared: Any, count: int) -> tuple[float, float]:
    """The same, awaited."""
    wall, cpu = 0.0, 0.0
    for number in range(2 * count):
        if number == count:
            wall, cpu = time.perf_counter(), time.process_time()
        await shared.put(1)
        assert await shared.get() == 1
    return time.perf_counter() - wall, time.process_time() - cpu
