"""joblib, which runs lists of calls and blocks; each call is a list of one, in a thread."""

import asyncio
from collections.abc import Callable
from typing import Any

import joblib  # type: ignore[import-untyped, import-not-found, unused-ignore]  # no annotations


class Joblib:
    def __init__(self, workers: int, module: str | None = None) -> None:
        self.workers = workers

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        # A pool of one is no pool in joblib: it would run the call here.
        parallel = joblib.Parallel(n_jobs=max(2, self.workers))
        (value,) = await asyncio.to_thread(parallel, [joblib.delayed(fn)(*args)])
        return value

    async def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(kill_workers=True)
