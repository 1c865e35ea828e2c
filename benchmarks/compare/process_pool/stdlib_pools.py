"""The standard library's pools; not with fork, which nobody should do in a program that has threads."""

import asyncio
import multiprocessing
import multiprocessing.forkserver
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any


class Spawned:
    method = "spawn"

    def __init__(self, workers: int, module: str | None = None) -> None:
        self.workers = workers
        self.context = multiprocessing.get_context(self.method)
        self.pool = ProcessPoolExecutor(workers, mp_context=self.context)

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, fn, *args)
        except BrokenProcessPool:
            self.pool.shutdown()
            self.pool = ProcessPoolExecutor(self.workers, mp_context=self.context)
            raise

    async def close(self) -> None:
        self.pool.shutdown()


class Forked(Spawned):
    method = "forkserver"

    def __init__(self, workers: int, module: str | None = None) -> None:
        # One server serves the whole program: it is ended, so that it is as cold as all others.
        multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
        multiprocessing.set_forkserver_preload([] if module is None else [module])
        super().__init__(workers)


class MpPool:
    def __init__(self, workers: int, module: str | None = None) -> None:
        self.pool = multiprocessing.get_context("spawn").Pool(workers)

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.pool.apply_async(
            fn,
            args,
            callback=lambda value: loop.call_soon_threadsafe(future.set_result, value),
            error_callback=lambda error: loop.call_soon_threadsafe(future.set_exception, error),
        )
        return await future

    async def close(self) -> None:
        self.pool.terminate()
        self.pool.join()
