"""`iterate_blocking`: a thread iterates what is async, with an ordinary `for`.

A task in the loop reads ahead, a bounded number of items. It guarantees that either side that ends
ends the other, that the source is closed in the loop, by the task that read it, and that no thread
waits for a loop that is closed. Calls into a loop that are not an iteration are left to
`open_portal` and `aioconc.worker.call_in_loop`.
"""

# Life of an iteration:   (made) -> reading -> ended
#                            \--------------/
# Rule 1: `_begin` is called once, by the first thread that wants an item; from then on there will be
#         an end, told by `_finish` in the loop, unless that loop is closed first.
# Rule 2: `_room` counts the items that the task may still read; the thread gives one back with
#         each that it takes. So no more than `buffer` are read that nobody has taken.
# Rule 3: a thread that closes sets `_closed` and looks at `_loop` then; the task sets `_loop` first
#         and looks at `_closed` then. So one of them sees the other.
# Rule 4: the task is cancelled only while it reads: anywhere else the cancel would strike the
#         source's own clean-up.

import asyncio
import contextvars
import threading
from asyncio import _get_running_loop
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from aioconc._bridge._mailbox import mailbox_of
from aioconc._internal._check import check_count
from aioconc.errors import TaskCancelled

if TYPE_CHECKING:
    from aioconc.runtime._portal import Portal

T = TypeVar("T")

# Seconds after which a waiting thread looks whether the loop was closed, which wakes nobody.
_LOOK = 0.5


def iterate_blocking(
    source: AsyncIterable[T],
    where: "asyncio.AbstractEventLoop | Portal",
    /,
    *,
    buffer: int = 8,
) -> "BlockingIteration[T]":
    """The items of an async iterable of a running loop, for a thread that has none.

    Equals `for item in iterator`, where each step is
    `asyncio.run_coroutine_threadsafe(anext(source), loop).result()`, but a task in the loop reads
    ahead, so that the thread need not wait for the loop with each item.

    Args:
        source: any async iterable. An async generator is closed at the end; any other iterator is
            left alone.
        where: the loop that `source` belongs to, which runs in another thread; or a portal into it.
        buffer: items that may be read and not yet taken, int >= 1.

    Returns:
        An iterator that is also a context manager: leaving it, or its `close()`, ends the reading
        in the loop and waits until it has ended.

    Raises:
        TypeError: `source` is no async iterable, or `where` neither a loop nor a portal.
        ValueError: `buffer` is below 1.
        RuntimeError: when an item is wanted: an event loop runs in this thread, or the loop of the
            source is closed.
        TaskCancelled: when an item is wanted: the reading was cancelled in the loop, as at the end
            of `asyncio.run`.
        Exception: what `source` raised, after the items before it.

    Example:
        >>> import asyncio
        >>> async def numbers():
        ...     for number in range(3):
        ...         yield number
        >>> def work(loop):
        ...     with iterate_blocking(numbers(), loop) as items:
        ...         return list(items)
        >>> async def main():
        ...     return await asyncio.to_thread(work, asyncio.get_running_loop())
        >>> asyncio.run(main())
        [0, 1, 2]
    """
    if not hasattr(source, "__aiter__"):
        raise TypeError(
            f"iterate_blocking expected an async iterable, got {source!r}; an async generator "
            "function is called first: iterate_blocking(fn(), loop)"
        )
    if not isinstance(where, asyncio.AbstractEventLoop) and not hasattr(where, "start_task_soon"):
        raise TypeError(
            f"iterate_blocking expected the loop of the source, or a portal, got {where!r}; pass "
            "what asyncio.get_running_loop() gives in the loop"
        )
    return BlockingIteration(source, where, check_count("buffer", buffer))


class BlockingIteration(Iterator[T], Generic[T]):
    """An async iterable, for threads: what `iterate_blocking` returns.

    Any thread without an event loop may take items, each gets its own; `with` it, or `close` it, so
    that the reading ends when nobody wants more.
    """

    def __init__(
        self,
        source: AsyncIterable[T],
        where: "asyncio.AbstractEventLoop | Portal",
        buffer: int,
    ) -> None:
        # Apart, so that the reading keeps no iteration alive that nobody has any more.
        self._reading: _Reading[T] = _Reading(source, where, buffer)

    def __next__(self) -> T:
        if _get_running_loop() is not None:
            raise RuntimeError(
                "next() of iterate_blocking would block the event loop that runs in this thread; "
                "write `async for item in source`"
            )
        return self._reading.take()

    def close(self) -> None:
        """End the reading in the loop, and wait until it has ended; what was not taken is lost.

        In the thread of a running loop it does not wait. Calling it again does nothing.

        Raises:
            Exception: what the clean-up of the source raised.
        """
        self._reading.close(wait=_get_running_loop() is None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._reading.desert()

    def __repr__(self) -> str:
        return f"<iterate_blocking of {self._reading.name}, {self._reading.state}>"


class _Reading(Generic[T]):
    """What the threads and the task in the loop share."""

    def __init__(self, source: AsyncIterable[T], where: Any, buffer: int) -> None:
        from aioconc.sync import (
            Queue,
            Semaphore,
        )  # here, so that programs which only `run` load less

        self.name = getattr(source, "__qualname__", type(source).__qualname__)
        self._source = source
        self._where = where
        # Known at once, or when the task starts.
        self._loop = where if isinstance(where, asyncio.AbstractEventLoop) else None
        self._items: Queue[T] = Queue()
        self._room = Semaphore(buffer)
        self._lock = threading.Lock()
        self._begun = False
        self._closed = False
        # Nobody waits for the end, to whom the source's error could be raised.
        self._deserted = False
        self._task: asyncio.Task[Any] | None = None
        self._interruptible = False
        self._ended = threading.Event()
        # What the source raised: the next thread that wants an item, or closes, gets it.
        self._error: BaseException | None = None

    @property
    def state(self) -> str:
        if self._ended.is_set() or (self._closed and not self._begun):
            return "ended"
        return "reading" if self._begun else "not begun"

    # ------------------------------------------------------------------ in the thread

    def take(self) -> T:
        from aioconc.sync import QueueEmpty, QueueShutDown

        with self._lock:
            begin = not self._begun and not self._closed
            self._begun = self._begun or begin
        if begin:
            self._begin()
        while True:
            try:
                item = self._items.sync.get(timeout=_LOOK)
            except QueueShutDown:
                self._raise_error()
                raise StopIteration from None
            except QueueEmpty:
                if self._loop_is_closed():
                    self._end(self._too_late())
            else:
                self._room.release()
                return item

    def close(self, *, wait: bool) -> None:
        with self._lock:
            first, self._closed = not self._closed, True
            self._deserted = not wait
        if first:
            self._items.shutdown(immediate=True)
        if not self._begun:
            return
        if first and self._loop is not None:
            mailbox_of(self._loop).post(self._loop, self._cancel)
        if not wait:
            if self._ended.is_set():
                self._report()
        else:
            while not self._ended.wait(_LOOK):
                if self._loop_is_closed():
                    return
            self._raise_error()

    def desert(self) -> None:
        """Nobody has the iteration any more; called by the collector, which may run anywhere.

        So it takes no lock: this thread may hold it already.
        """
        self._deserted = self._closed = True
        if self._begun and self._loop is not None:
            mailbox_of(self._loop).post(self._loop, self._leave)

    def _begin(self) -> None:
        """Have the loop read, with the context variables of this thread."""
        if self._loop is None:
            try:
                self._where.start_task_soon(self._read).add_done_callback(self._finish)
            except BaseException:  # the portal is closed
                self._end(None)
                raise
            return
        loop, context = self._loop, contextvars.copy_context()

        def start() -> None:
            name = f"aioconc reader of {self.name}"
            loop.create_task(self._read(), name=name, context=context).add_done_callback(
                self._finish
            )

        if not mailbox_of(loop).post(loop, start):
            self._end(self._too_late())

    def _loop_is_closed(self) -> bool:
        return self._loop is not None and self._loop.is_closed()

    def _too_late(self) -> RuntimeError:
        return RuntimeError(f"the event loop of {self.name} was closed before its last item")

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    # ------------------------------------------------------------------ in the loop

    async def _read(self) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        iterator: AsyncIterator[T] | None = None
        failure: BaseException | None = None
        try:
            iterator = aiter(self._source)
            await self._read_from(iterator)
        except GeneratorExit:  # this coroutine is destroyed: there is no loop to await in
            raise
        except BaseException as error:
            failure = error
        try:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()
        except BaseException as error:
            failure = error
        self._error = failure
        try:
            # The others are for the thread alone; these are for the loop as well.
            if isinstance(failure, (asyncio.CancelledError, KeyboardInterrupt, SystemExit)):
                raise failure
        finally:
            del failure

    async def _read_from(self, iterator: AsyncIterator[T]) -> None:
        from aioconc.sync import QueueShutDown

        while not self._is_closed():
            self._interruptible = True
            try:
                await self._room.acquire()
                item = await anext(iterator)
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                if self._is_closed():
                    return
                raise
            finally:
                self._interruptible = False
            try:
                self._items.put_nowait(item)
            except QueueShutDown:  # nobody wants it
                return

    def _is_closed(self) -> bool:  # since mypy believes that an attribute stays what it was
        return self._closed

    def _cancel(self) -> None:
        if self._task is not None and self._interruptible:
            self._interruptible = False
            self._task.cancel()

    def _leave(self) -> None:
        self._items.shutdown(immediate=True)
        self._cancel()
        if self._ended.is_set():
            self._report()

    def _finish(self, task: "asyncio.Task[None] | Future[None]") -> None:
        error = self._error
        if task.cancelled() or isinstance(error, asyncio.CancelledError):
            error = TaskCancelled(f"the reading of {self.name} was cancelled in its loop")
            error.__cause__ = self._error
        elif task.exception() is not None:
            error = task.exception()
        self._end(error)
        if self._deserted:
            self._report()

    def _report(self) -> None:
        """Any thread: nobody will ask for the error, so tell the loop."""
        with self._lock:
            error, self._error = self._error, None
        loop = self._loop
        if loop is not None and isinstance(error, Exception):
            message = f"{self.name} raised when nobody read it any more"
            told = {"message": message, "exception": error}
            mailbox_of(loop).post(loop, lambda: loop.call_exception_handler(told))

    def _end(self, error: BaseException | None) -> None:
        self._error = error
        self._items.shutdown()
        self._ended.set()
