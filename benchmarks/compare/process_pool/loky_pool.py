"""loky, whose reusable executor replaces a broken pool by itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import loky  # type: ignore[import-untyped, import-not-found, unused-ignore]  # it has no annotations


class Loky:
    def __init__(self, workers: int, module: str | None = None) -> None:
        self.workers = workers

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        executor = loky.get_reusable_executor(max_workers=self.workers, timeout=3600)
        return await asyncio.get_running_loop().run_in_executor(executor, fn, *args)

    async def close(self) -> None:
        loky.get_reusable_executor(max_workers=self.workers).shutdown(kill_workers=True)
