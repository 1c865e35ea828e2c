"""Streams: one call whose items are read while it runs.

A worker iterates the generator and puts the items into a bounded buffer; the reader takes them in
the loop. The worker is always waited for when the reader leaves, and the generator is closed by
the worker that ran it. Works for workers that share memory with the loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

from aioconc._bridge._credits import Credits
from aioconc._internal._check import check_count
from aioconc.errors import UnsupportedOption
from aioconc.executors._base import CallOptions, Executor, Fate, check_function
from aioconc.executors._call import Call, join_call, tell_cancelled
from aioconc.executors._pool import Pool, PoolExecutor

T = TypeVar("T")


class StreamingExecutor(PoolExecutor):
    """Adds `stream` to executors whose workers are threads of this process."""

    def stream(
        self, gen_fn: Callable[..., Iterable[T]], /, *args: Any, buffer: int = 8, **kwargs: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[T]]:
        check_function(gen_fn, f"{type(self).__name__}.stream")
        check_count("buffer", buffer)
        if not self.capabilities.stream:
            raise UnsupportedOption(
                f"{type(self).__name__} over processes cannot stream; "
                "use ThreadExecutor, or run() a function that returns the items in parts"
            )
        if self._options.timeout is not None:
            raise UnsupportedOption(
                f"stream() takes no timeout, got {self._options.timeout!r}; "
                "put the block into aioconc.fail_after(seconds)"
            )
        return Stream(self, gen_fn, args, kwargs, buffer)

    stream.__doc__ = Executor.stream.__doc__


class Stream(Generic[T]):
    """The two ends of one stream: `async with` it, once."""

    # Rule 1: `_items` is filled by letters in the loop and emptied by the reader, both in the loop.
    # Rule 2: `_credits` counts the free places of the buffer; the worker takes one before it asks
    #         the generator for an item, so at most `buffer` items exist that nobody has read.

    _credits: Credits  # made on entry, for the loop of then

    def __init__(
        self, executor: PoolExecutor, gen_fn: Any, args: Any, kwargs: Any, buffer: int
    ) -> None:
        self._executor = executor
        self._what = (gen_fn, args, kwargs)
        self._buffer = buffer
        self._left = False
        self._items: deque[T] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._call: Call | None = None

    async def __aenter__(self) -> AsyncIterator[T]:
        if self._call is not None:
            raise RuntimeError("this stream was entered before; call stream() again for another")
        executor = self._executor
        options: CallOptions = executor._options
        gen_fn, args, kwargs = self._what
        call = self._call = executor._call(self._pump, (gen_fn, args, kwargs), {}, options)
        if options.name is None:
            call.label = getattr(gen_fn, "__qualname__", call.label)
        self._credits = Credits(call.loop, self._buffer)
        call.waiter.add_done_callback(self._wake)
        executor._pool.submit(call)
        return _Reader(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call = self._call
        assert call is not None
        self._left = True
        self._credits.give_back()
        cancelled = await _leave(call, self._executor._pool, self._executor._options)
        self._items.clear()
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled

    # -- in the worker ------------------------------------------------------------------------

    def _pump(self, gen_fn: Callable[..., Iterable[T]], args: Any, kwargs: Any) -> None:
        call = self._call
        assert call is not None
        iterator = iter(gen_fn(*args, **kwargs))
        try:
            while self._credits.take(lambda: self._left):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                if not call.mailbox.post(call.loop, lambda item=item: self._take_in(item)):  # type: ignore[misc]  # mypy cannot infer a lambda's default
                    return
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    # -- in the loop --------------------------------------------------------------------------

    def _take_in(self, item: T) -> None:
        self._items.append(item)
        self._wake(None)

    def _wake(self, _: object) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self) -> T:
        call = self._call
        assert call is not None
        while True:
            if self._items:
                self._credits.give_back()
                return self._items.popleft()
            if call.ended or self._left:
                if not self._left:
                    call.take()
                raise StopAsyncIteration
            if self._reader is not None:
                raise RuntimeError(
                    "two tasks read one stream at the same time; give each a stream of its own, "
                    "or read in one task and share through a queue"
                )
            self._reader = call.loop.create_future()
            call.mailbox.awaited += 1
            try:
                await self._reader
            finally:
                call.mailbox.awaited -= 1
                self._reader = None


class _Reader(AsyncIterator[T]):
    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream

    async def __anext__(self) -> T:
        return await self._stream.read()


async def _leave(call: Call, pool: Pool, options: CallOptions) -> asyncio.CancelledError | None:
    """End the call of a stream; returns a cancellation that arrived meanwhile."""
    if call.ended:
        return None
    if pool.withdraw(call):
        tell_cancelled(call, pool.name, Fate.NOT_STARTED, "left")
        return None
    call.ask()
    if options.on_cancel == "abandon" and pool.abandon(call):
        tell_cancelled(call, pool.name, Fate.ABANDONED, "left")
        return None
    cancelled = None
    if not call.waiter.done():
        cancelled = await join_call(call)
    if isinstance(call.error, Exception):
        error, call.error = call.error, None
        try:
            raise error  # of the generator's own clean-up
        finally:
            del error
    return cancelled
