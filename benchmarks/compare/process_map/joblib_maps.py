"""joblib, which chooses the size of its batches by what they take."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import joblib  # type: ignore[import-untyped, import-not-found, unused-ignore]  # it has no annotations

from compare.process_map.work import WORKERS


@cache
def _parallel() -> Any:
    # Entered, it keeps its workers and what it has learned about batches.
    return joblib.Parallel(n_jobs=WORKERS, backend="loky").__enter__()


async def auto(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    found: list[int] = _parallel()(joblib.delayed(fn)(item) for item in items)
    return found
