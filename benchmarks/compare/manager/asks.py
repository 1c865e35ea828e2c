"""The work of one process, which measures itself: starting it is not the question.

Each gives seconds on the wall and of its processor. The first calls are not measured.
"""

import time
from collections.abc import Callable
from typing import Any

_FIRST = 20


def _timed(step: Callable[[], object], count: int) -> tuple[float, float]:
    for _ in range(_FIRST):
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
    for number in range(count + _FIRST):
        if number == _FIRST:
            wall, cpu = time.perf_counter(), time.process_time()
        async with shared:
            pass
    return time.perf_counter() - wall, time.process_time() - cpu


async def table_async(shared: Any, count: int) -> tuple[float, float]:
    """The same, awaited."""
    wall, cpu = 0.0, 0.0
    for number in range(count + _FIRST):
        if number == _FIRST:
            wall, cpu = time.perf_counter(), time.process_time()
        await shared.set("key", 1)
        assert await shared["key"] == 1
    return time.perf_counter() - wall, time.process_time() - cpu


async def queue_async(shared: Any, count: int) -> tuple[float, float]:
    """The same, awaited."""
    wall, cpu = 0.0, 0.0
    for number in range(count + _FIRST):
        if number == _FIRST:
            wall, cpu = time.perf_counter(), time.process_time()
        await shared.put(1)
        assert await shared.get() == 1
    return time.perf_counter() - wall, time.process_time() - cpu
