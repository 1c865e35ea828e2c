"""The floor: a pickled call over a socketpair that the loop watches, and nothing else."""

import asyncio
from collections.abc import Callable
from typing import Any

from compare.offload.bare_exchange import Exchange


class Bare:
    def __init__(self, workers: int, module: str | None = None) -> None:
        self.exchange = Exchange(asyncio.get_running_loop())

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await self.exchange.call(fn, *args)

    async def close(self) -> None:
        for sock in self.exchange._idle:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
