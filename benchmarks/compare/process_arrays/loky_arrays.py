"""loky, as `ProcessPoolExecutor` but for how its workers start."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import loky


@cache
def _executor() -> Any:
    return loky.ProcessPoolExecutor(1)


async def call(fn: Callable[[Any], Any], array: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_executor(), fn, array)
