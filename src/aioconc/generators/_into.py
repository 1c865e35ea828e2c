"""`into`: the end of a pipeline of `send`, which fills a queue or a channel.

`send` cannot wait, so what would have to wait is deferred to whoever pushes the pipeline, when that
is `feed`: it waits before it pushes the next item. So a full queue holds up the source, and what
waits is never more than one item has led to.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, overload

T_contra = TypeVar("T_contra", contravariant=True)
T = TypeVar("T")


class QueueLike(Protocol[T_contra]):
    """A queue of asyncio or aioconc."""

    def put(self, item: T_contra, /) -> Awaitable[object]: ...
    def put_nowait(self, item: T_contra, /) -> object: ...


class ChannelLike(Protocol[T_contra]):
    """The sending end of a channel, of anyio or aioconc."""

    def send(self, item: T_contra, /) -> Awaitable[object]: ...
    def aclose(self) -> Awaitable[object]: ...


class SyncQueueLike(Protocol[T_contra]):
    """A queue for threads: `queue.sync` of aioconc, or one of the module `queue`."""

    def put(self, item: T_contra, /) -> None: ...
    def get(self) -> Any: ...


class Deferred:
    """What the pipeline could not do at once, in order."""

    # Whether it closes something, and what to call: what that gives is awaited if it can be.
    __slots__ = ("_jobs", "_token")

    def __init__(self) -> None:
        self._jobs: deque[tuple[bool, Callable[[], object]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, job: Callable[[], object], *, closes: bool = False) -> None:
        self._jobs.append((closes, job))

    # A block in which a pipeline is pushed: what it cannot do comes here. Never entered twice at a
    # time; written out, since it is entered for each item.
    def __enter__(self) -> None:
        self._token = _deferred.set(self)

    def __exit__(self, *_: object) -> None:
        _deferred.reset(self._token)

    def drop_items(self) -> None:
        """Keep only what closes something."""
        self._jobs = deque(job for job in self._jobs if job[0])

    async def run(self) -> None:
        """Do it. What a cancellation interrupts is lost, the rest stays."""
        while self._jobs:
            _, job = self._jobs.popleft()
            result = job()
            if isinstance(result, Awaitable):
                await result

    async def run_all(self) -> None:
        """As `run`, and what fails or is cancelled does not keep the rest from being done."""
        try:
            await self.run()
        finally:
            if self._jobs:
                await self.run_all()


_deferred: ContextVar[Deferred | None] = ContextVar("aioconc.generators.deferred", default=None)


@overload
def into(target: QueueLike[T], /) -> Generator[None, T, None]: ...
@overload
def into(target: ChannelLike[T], /) -> Generator[None, T, None]: ...
@overload
def into(target: SyncQueueLike[T], /) -> Generator[None, T, None]: ...
def into(target: Any, /) -> Generator[None, Any, None]:
    """A consumer, ready for `send`, that puts each item into a queue or a channel.

    Equals `while True: target.put_nowait((yield))`. Pushed by `feed`, it also waits for room: the
    source is held up until all that an item has led to has been put.

    Args:
        target: a `Queue` of aioconc or asyncio, the sending end of a channel (what has `send` and
            `aclose`, as in anyio), or for pipelines in threads `queue.sync` or a `queue.Queue`.

    Returns:
        A generator that has begun. When it is closed, it ends what it fills: `shutdown()` of the
        queue where that has one, `aclose()` of the channel. Reading with `async for` then ends
        after the last item.

    Raises:
        TypeError: `target` is none of these.
        QueueFull: at `send`, when nobody waits: there is no room, and the pipeline is not pushed by
            `feed`.
        RuntimeError: at `send`: a channel in a pipeline that is not pushed by `feed`.

    Example:
        >>> from aioconc import Queue, TaskGroup
        >>> from aioconc.generators import feed
        >>> async def main():
        ...     queue = Queue(maxsize=2)
        ...     async with TaskGroup() as group:
        ...         group.start_soon(feed, range(5), into(queue))
        ...         return [item async for item in queue]
        >>> asyncio.run(main())
        [0, 1, 2, 3, 4]
    """
    if hasattr(target, "put_nowait") and inspect.iscoroutinefunction(target.put):
        put, end = _put_into_queue(target), getattr(target, "shutdown", None)
    elif hasattr(target, "send") and hasattr(target, "aclose"):
        put, end = _put_into_channel(target), target.aclose
    elif hasattr(target, "put") and hasattr(target, "get"):
        put, end = target.put, getattr(target, "shutdown", None)
    else:
        raise TypeError(
            f"into expected a queue or the sending end of a channel, got {target!r}; it needs "
            "`put` and `put_nowait`, or `send` and `aclose`"
        )
    consumer = _fill(put, end)
    next(consumer)
    return consumer


def _fill(
    put: Callable[[Any], object], end: Callable[[], object] | None
) -> Generator[None, Any, None]:
    try:
        while True:
            put((yield))
    finally:
        if end is not None:
            _end(end)


def _end(end: Callable[[], object]) -> None:
    deferred = _deferred.get()
    if deferred is not None:
        deferred.add(end, closes=True)
    elif not inspect.iscoroutinefunction(end):
        end()
    # Nobody is there who could wait for a channel: it is left to its owner's `async with`.


def _put_into_queue(queue: Any) -> Callable[[Any], object]:
    def put(item: Any) -> None:
        deferred = _deferred.get()
        if not deferred:  # nobody would wait, or nothing is waiting before this item
            try:
                queue.put_nowait(item)
                return
            except asyncio.QueueFull:
                if deferred is None:
                    raise
        deferred.add(lambda: queue.put(item))

    return put


def _put_into_channel(channel: Any) -> Callable[[Any], object]:
    def put(item: Any) -> None:
        deferred = _deferred.get()
        if deferred is None:
            raise RuntimeError(
                "sending into a channel waits, and `send` of a pipeline cannot; push the pipeline "
                "with `await feed(source, consumer)`"
            )
        deferred.add(lambda: channel.send(item))

    return put
