"""`ProcessExecutor.map`: chunks of items, by the shortest way that keeps what was asked for.

Where nothing but failures is decided item by item, the window's items are the chunks. Where keys,
rates, retries, progress, a buffer or an async source are, they are the items, and those in flight
are gathered into chunks behind it. Either way the window is that of every map.
"""

import os
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

from aioconc._internal._check import check_choice, check_limit
from aioconc.executors._base import MapOptions
from aioconc.executors._callables import name_of
from aioconc.executors.process._batches import Batches
from aioconc.executors.process._chunk_sizes import ChunkSizes
from aioconc.executors.process._chunks import ChunkRunner
from aioconc.flow._chunked_map import ChunkedRun
from aioconc.flow._map import MapRun, map_limited

if TYPE_CHECKING:
    from aioconc.executors.process._executor import ProcessExecutor

# Chunks in flight for each worker: one that it works on, and one that it gets next.
_FOR_EACH_WORKER: Final = 2

# Items in flight for each of those chunks where they are gathered: each has a task in the window.
_MOST_GATHERED: Final = 256


def make_map(
    executor: "ProcessExecutor",
    fn: Callable[[Any], Any],
    source: Iterable[Any] | AsyncIterable[Any],
    limit: float | None,
    chunk: int | Literal["auto"],
    options: MapOptions,
) -> MapRun[Any]:
    """The map, not started yet."""
    calls = executor._options
    workers = executor.max_workers
    # Chunks that wait for a worker would use up the patience that is meant for a full pool.
    chunks = workers if calls.queue_timeout is not None else _FOR_EACH_WORKER * workers
    # A worker that is replaced after so many calls is not given more of them at a time.
    most = executor._processes.max_tasks or float("inf")
    if calls.timeout is not None and not hasattr(os, "memfd_create"):
        most = 1  # without a journal nobody knows when an item of a chunk has begun
    sizes = ChunkSizes(workers, None if chunk == "auto" else int(min(chunk, most)), most)
    if isinstance(source, AsyncIterable) or _is_item_wise(options):
        batches = Batches(executor, fn, sizes, chunks)
        if limit is None:
            gathered = _MOST_GATHERED if chunk == "auto" else chunk
            limit = chunks * gathered
        run = map_limited(batches.run, source, limit=limit, **options)
        run._name = name_of(fn)
        return run
    if limit is not None:
        check_limit("limit", limit)
    check_choice("on_error", options["on_error"], ("raise", "return", "skip"))
    return ChunkedRun(
        ChunkRunner(executor, fn, sizes),
        source,
        limit=limit,
        chunks=chunks,
        size=sizes,
        ordered=options["ordered"],
        on_error=options["on_error"],
        name=calls.name or name_of(fn),
    )


def _is_item_wise(options: MapOptions) -> bool:
    return any(
        options[name] is not None
        for name in ("retry", "rate", "key", "limit_per_key", "buffer", "progress")
    )
