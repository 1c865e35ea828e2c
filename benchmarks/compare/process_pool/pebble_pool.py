"""pebble, which ends a cancelled call and survives a crash.

The awaiting task is not told when the process of a cancelled call has ended: it goes on at once.
"""

import asyncio
import multiprocessing
from collections.abc import Callable
from typing import Any

import pebble  # type: ignore[import-not-found, unused-ignore]  # not installed for the checkers


class Pebble:
    def __init__(self, workers: int, module: str | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pool = pebble.ProcessPool(workers, context=context)

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(self.pool.schedule(fn, args=args))

    async def close(self) -> None:
        self.pool.stop()
        self.pool.join()
