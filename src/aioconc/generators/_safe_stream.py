"""`safe_stream`: async generators that may be left at any time, however they are written.

One task of its own begins, advances and closes the generator, so that scopes, task groups and
context variables in it are entered and left in one place, and never strike its reader (PEP 789).
It guarantees that the generator has ended when the block ends. Items are made when they are asked
for, one at a time; reading ahead is left to queues.
"""

import asyncio
import functools
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from aioconc.errors import TaskCancelled
from aioconc.tasks._join import chain, join
from aioconc.tasks._scope import raise_if_cancelled

P = ParamSpec("P")
T = TypeVar("T")


def safe_stream(
    fn: Callable[P, AsyncIterator[T]], /
) -> Callable[P, AbstractAsyncContextManager[AsyncIterator[T]]]:
    """An async generator function as a context manager that is safe to leave at any item.

    Equals `contextlib.aclosing(fn(...))` with `async for` in it, and holds where that does not:

    - time limits, cancel scopes and task groups around a `yield` in `fn` act on `fn` alone. What
      they cancel is raised at that `yield`, and never in the body of the reader;
    - a read that is cancelled or times out loses no item and does not end the generator: the next
      read goes on;
    - context variables that `fn` sets are its own.

    Args:
        fn: async generator function, with any arguments.

    Returns:
        The function, with the same arguments and name. `async with` what it gives, then
        `async for` over that. An item is made when it is asked for, so at most one is unread.

    Raises:
        TypeError: `fn` is no async generator function, or its stream is iterated without
            `async with`.
        RuntimeError: two tasks read one stream at the same time, or it is entered twice.
        TaskCancelled: at a read: somebody else cancelled the generator's task.
        Exception: at a read: whatever the generator raises. What it raises while nobody reads is
            raised by the next read, or at the end of the block, as are errors of its clean-up.

    Cancellation:
        Of a read: the item that is being made is kept for the next read. When the block ends, for
        whatever reason, the generator is closed (`GeneratorExit` at its `yield`, or
        `CancelledError` where it awaits) and waited for; a cancel of the reader meanwhile is passed
        on to its clean-up once, and raised when that has ended.

    Example:
        >>> @safe_stream
        ... async def ticks():
        ...     async with asyncio.timeout(0.01):
        ...         n = 0
        ...         while True:
        ...             yield (n := n + 1)
        >>> async def main():
        ...     async with ticks() as numbers:
        ...         async for number in numbers:
        ...             if number == 3:
        ...                 return number
        >>> asyncio.run(main())
        3
    """
    name = getattr(fn, "__qualname__", repr(fn))
    if inspect.isasyncgen(fn):
        raise TypeError(
            f"safe_stream expected an async generator function, got the generator {name}; did you "
            f"mean safe_stream({name}), called afterwards?"
        )
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or not callable(fn):
        raise TypeError(f"safe_stream expected an async generator function, got {fn!r}")

    @functools.wraps(fn)
    def stream(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[AsyncIterator[T]]:
        generator = fn(*args, **kwargs)
        if not isinstance(generator, AsyncGenerator):
            raise TypeError(
                f"safe_stream expected an async generator function, but {name} gave {generator!r}"
            )
        return SafeStream(generator, name)

    return stream


# Its task:   waiting until somebody reads -> making an item -> waiting ... -> closing -> done
# Rule 1: `_wanted` is set while the task waits, that is, while the generator stands at a `yield`
#         (or has not begun). A cancel that reaches the task then is meant for a scope around that
#         `yield`, and is raised there.
# Rule 2: `_items` has at most one item, and none is made while it has one.
class SafeStream(Generic[T]):
    """One stream: `async with` it, once."""

    def __init__(self, generator: AsyncGenerator[T, Any], name: str) -> None:
        self._generator = generator
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._host: asyncio.Task[Any] | None = None  # that entered the block
        self._entered = self._ended = False
        # The block is over or ending: nothing is to be made any more.
        self._left = False
        self._items: deque[T] = deque()
        self._wanted: asyncio.Future[None] | None = None
        self._reader: asyncio.Future[None] | None = None
        # What the generator raised, until it is told.
        self._failure: BaseException | None = None

    # -- the reader's side ----------------------------------------------------------------------

    async def __aenter__(self) -> AsyncIterator[T]:
        if self._entered:
            raise RuntimeError(f"this stream was entered before; call {self._name} for another")
        raise_if_cancelled()
        self._entered = True
        self._task = asyncio.get_running_loop().create_task(
            self._serve(), name=f"stream of {self._name}"
        )
        self._task.add_done_callback(self._task_ended)
        self._host = asyncio.current_task()
        return _Reader(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left = True
        cancelled = None
        if (task := self._task) is not None and self._is_thrown_away(kind):
            with suppress(RuntimeError):  # its loop is closed
                task.cancel()
            return
        if task is not None and not task.done():
            if self._wanted is None:  # in the middle of an item that nobody will read
                task.cancel()
            else:
                self._let_go_on()
            cancelled = await join(task, on_cancel=self._hurry)
        if task is not None:
            self._task_ended(task)
        self._items.clear()
        failure, self._failure = self._failure, None
        try:
            if cancelled is not None:
                chain(cancelled, failure)
                raise cancelled
            if failure is not None:
                raise failure
        finally:
            del cancelled, failure, error

    def _is_thrown_away(self, kind: type[BaseException] | None) -> bool:
        """Whether the reader is a coroutine that nobody runs any more, so that it cannot wait."""
        if kind is None or not issubclass(kind, GeneratorExit):
            return False
        try:
            return asyncio.current_task() is not self._host
        except RuntimeError:  # no loop runs
            return True

    def __aiter__(self) -> Any:
        raise TypeError(
            f"{self._name} is a safe_stream, which cannot be iterated directly, since leaving the "
            f"loop early could not close it; write `async with {self._name}(...) as items:` and "
            "then `async for item in items:`"
        )

    async def read(self) -> T:
        raise_if_cancelled()
        while not self._items:
            if self._left:
                raise StopAsyncIteration
            if self._ended:
                failure, self._failure = self._failure, None
                try:
                    raise StopAsyncIteration if failure is None else failure
                finally:
                    del failure
            if self._reader is not None:
                raise RuntimeError(
                    "two tasks read one stream at the same time; give each a stream of its own, "
                    "or read in one task and share through a queue"
                )
            self._reader = asyncio.get_running_loop().create_future()
            self._let_go_on()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._items.popleft()

    def __repr__(self) -> str:
        state = (
            "new"
            if not self._entered
            else "ended"
            if self._ended
            else "closing"
            if self._left
            else "waiting"
            if self._wanted is not None
            else "making an item"
        )
        return f"<SafeStream {self._name}, {state}>"

    # -- the task -------------------------------------------------------------------------------

    async def _serve(self) -> None:
        generator = self._generator
        begun = False
        try:
            while True:
                try:
                    await self._until_wanted()
                except asyncio.CancelledError as error:
                    if self._left or not begun:
                        raise
                    step: Awaitable[T] = generator.athrow(error)
                else:
                    if self._left:
                        return
                    step = anext(generator)
                begun = True
                self._items.append(await step)
                self._wake()
        except StopAsyncIteration:
            return
        finally:
            await _close(generator)

    async def _until_wanted(self) -> None:
        while not self._left and (self._items or self._reader is None):
            self._wanted = asyncio.get_running_loop().create_future()
            try:
                await self._wanted
            finally:
                self._wanted = None

    def _let_go_on(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _hurry(self, _: object) -> None:
        """The reader is cancelled while it waits for the end: the clean-up is, once."""
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        if self._task is None:
            return
        # Not kept: an exception that is raised here would hold itself through it.
        self._task = None
        self._ended = True
        if not task.cancelled():
            self._failure = task.exception()
        elif not self._left:
            self._failure = TaskCancelled(f"the task of {self._name} was cancelled")
        self._wake()


class _Reader(AsyncIterator[T]):
    def __init__(self, stream: SafeStream[T]) -> None:
        self._stream = stream

    async def __anext__(self) -> T:
        return await self._stream.read()

    def __repr__(self) -> str:
        return repr(self._stream)


async def _close(generator: AsyncGenerator[Any, Any]) -> None:
    try:
        await generator.aclose()
    except BaseExceptionGroup as group:
        # A standard TaskGroup that is left by GeneratorExit wraps it.
        rest = group.split(GeneratorExit)[1]
        if rest is not None:
            raise rest from None
