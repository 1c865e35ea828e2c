"""loky, joblib's own executor."""

from collections.abc import Callable, Sequence

import loky  # type: ignore[import-untyped, import-not-found, unused-ignore]  # it has no annotations

from compare.process_map.work import WORKERS


async def chunks(fn: Callable[[int], int], items: Sequence[int]) -> list[int]:
    executor = loky.get_reusable_executor(max_workers=WORKERS, timeout=3600)
    return [*executor.map(fn, items, chunksize=-(-len(items) // (4 * WORKERS)))]
