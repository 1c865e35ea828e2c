"""Streams: one call whose items are read while it runs.

A worker iterates the generator and puts the items into a bounded buffer; the reader takes them in
the loop. The worker is always waited for when the reader leaves, and the generator is closed by
the worker that ran it. How items come from the worker is left to the subclasses of `Stream`; the
one for workers that share memory with the loop is here.
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
from aioconc.executors._base import Executor, Fate
from aioconc.executors._call import Call, join_call, tell_cancelled
from aioconc.executors._callables import check_function
from aioconc.executors._options import check_stream_options
from aioconc.executors._pool import PoolExecutor

T = TypeVar("T")


class StreamingExecutor(PoolExecutor):
    """Adds `stream` to the executors that have a pool."""

    def stream(
        self, gen_fn: Callable[..., Iterable[T]], /, *args: Any, buffer: int = 8, **kwargs: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[T]]:
        check_function(
            gen_fn, f"{type(self).__name__}.stream", async_generators=self.capabilities.coroutines
        )
        check_count("buffer", buffer)
        if not self.capabilities.stream:
            raise UnsupportedOption(
                f"{type(self).__name__} over processes cannot stream; use ProcessExecutor or "
                "ThreadExecutor, or run() a function that returns the items in parts"
            )
        check_stream_options(self._options)
        return self._open_stream(gen_fn, args, kwargs, buffer)

    def _open_stream(
        self, gen_fn: Callable[..., Any], args: Any, kwargs: Any, buffer: int
    ) -> "Stream[Any]":
        return ThreadStream(self, gen_fn, args, kwargs, buffer)

    stream.__doc__ = Executor.stream.__doc__


class Stream(Generic[T]):
    """One stream, as its reader sees it: `async with` it, once."""

    # Rule 1: `_items` is filled and emptied in the loop only.
    # Rule 2: at most `buffer` items exist that nobody has read: the worker asks the generator for
    #         an item only when it has room for it, and `_item_read` makes room.

    def __init__(
        self, executor: PoolExecutor, gen_fn: Any, args: Any, kwargs: Any, buffer: int
    ) -> None:
        self._executor = executor
        self._what = (gen_fn, args, kwargs)
        self._buffer = buffer
        self._left = False
        self._items: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._call: Call | None = None

    # -- what a kind of worker defines ----------------------------------------------------------

    def _make_call(self) -> Call:
        """The call that iterates the generator, not yet submitted."""
        raise NotImplementedError

    def _item_read(self) -> None:
        """The reader takes an item: there is room for another."""
        raise NotImplementedError

    def _has_item(self) -> bool:
        """Whether the next item, if there is one, can be taken now."""
        return bool(self._items)

    def _take_item(self) -> T:
        """The next item."""
        item: T = self._items.popleft()
        return item

    async def _end(
        self, call: Call, reason: type[BaseException] | None
    ) -> asyncio.CancelledError | None:
        """The reader has left, for this reason: see that a running call ends."""
        return await join_call(call)

    # -- the reader's side ----------------------------------------------------------------------

    async def __aenter__(self) -> AsyncIterator[T]:
        if self._call is not None:
            raise RuntimeError("this stream was entered before; call stream() again for another")
        call = self._call = self._make_call()
        call.waiter.add_done_callback(self._wake)
        self._executor._pool.submit(call)
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
        try:
            cancelled = await self._leave(call, kind)
        finally:
            self._items.clear()
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled

    async def _leave(
        self, call: Call, kind: type[BaseException] | None
    ) -> asyncio.CancelledError | None:
        """End the call; returns a cancellation that arrived meanwhile."""
        if call.ended:
            return None
        pool = self._executor._pool
        if pool.withdraw(call):
            tell_cancelled(call, pool.name, Fate.NOT_STARTED, "left")
            return None
        call.ask()
        # A coroutine that is thrown away cannot wait for anything.
        thrown_away = kind is not None and issubclass(kind, GeneratorExit)
        options = self._executor._options
        if (options.on_cancel == "abandon" or thrown_away) and pool.abandon(call):
            tell_cancelled(call, pool.name, Fate.ABANDONED, "left")
            if options.on_cancel == "kill":
                pool.stop(call, options)
            return None
        cancelled = None
        if not call.waiter.done():
            cancelled = await self._end(call, kind)
        if isinstance(call.error, Exception):
            error, call.error = call.error, None
            try:
                raise error  # of the generator's own clean-up
            finally:
                del error
        return cancelled

    def _take_in(self, item: Any) -> None:
        self._items.append(item)
        self._wake(None)

    def _wake(self, _: object) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self) -> T:
        call = self._call
        assert call is not None
        while True:
            if self._has_item():
                self._item_read()
                return self._take_item()
            if self._left or (call.ended and not self._items):
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


class ThreadStream(Stream[T]):
    """A stream from a thread of this process."""

    # Rule 3: `_credits` counts the free places of the buffer.
    _credits: Credits  # made on entry, for the loop of then

    def _make_call(self) -> Call:
        executor = self._executor
        gen_fn = self._what[0]
        call = executor._call(self._pump, self._what, {}, executor._options)
        if executor._options.name is None:
            call.label = getattr(gen_fn, "__qualname__", call.label)
        self._credits = Credits(call.loop, self._buffer)
        return call

    def _item_read(self) -> None:
        self._credits.give_back()

    async def _leave(
        self, call: Call, kind: type[BaseException] | None
    ) -> asyncio.CancelledError | None:
        self._credits.give_back()
        return await super()._leave(call, kind)

    def _pump(self, gen_fn: Callable[..., Iterable[T]], args: Any, kwargs: Any) -> None:
        """In the thread: iterate, as far as there is room."""
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
