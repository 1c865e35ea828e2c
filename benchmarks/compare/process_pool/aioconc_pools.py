"""aioconc's own pool, started either way."""

from collections.abc import Callable
from typing import Any

from aioconc.executors import ProcessExecutor


class Exec:
    spares = 0

    def __init__(self, workers: int, module: str | None = None) -> None:
        self.pool = ProcessExecutor(workers, spares=self.spares)

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await self.pool.run(fn, *args)

    async def close(self) -> None:
        await self.pool.aclose(cancel=True)


class Spared(Exec):
    spares = 1


class Forked(Exec):
    def __init__(self, workers: int, module: str | None = None) -> None:
        modules = () if module is None else (module,)
        self.pool = ProcessExecutor(workers, start="forkserver", preload=modules)
