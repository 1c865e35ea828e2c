"""aioconc: arrays are copied once, into memory that the other process maps."""

from collections.abc import Callable
from functools import cache
from typing import Any

from aioconc.executors import ProcessExecutor


@cache
def _pool() -> ProcessExecutor:
    return ProcessExecutor(max_workers=1)


async def call(fn: Callable[[Any], Any], array: Any) -> Any:
    return await _pool().run(fn, array)
