"""anyio's worker processes, which belong to one event loop and have no pool to be closed."""

from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_process


class Anyio:
    def __init__(self, workers: int, module: str | None = None) -> None:
        self.limiter = anyio.CapacityLimiter(workers)

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await anyio.to_process.run_sync(fn, *args, cancellable=True, limiter=self.limiter)

    async def close(self) -> None:
        # They would live as long as the loop, and be there for the next pool.
        idle = anyio.to_process._process_pool_idle_workers.get()
        while idle:
            process, _ = idle.popleft()
            anyio.to_process._process_pool_workers.get().discard(process)
            process.kill()
            await process.aclose()
