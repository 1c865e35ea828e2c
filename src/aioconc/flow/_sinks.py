"""Where the results of a map go: into a list, or to a reader, in order or as they come.

A sink numbers the items, takes each outcome once, and waits for nothing; only `Stream` has a reader
who may wait. What is put stays where it is until it is taken, so a cancelled reader loses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, count, repeat
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from aioconc.flow._outcomes import SKIPPED, Sink
from aioconc.flow._window import Window
from aioconc.tasks._join import in_cancelled_anyio_scope
from aioconc.tasks._scope import _current, raise_if_cancelled

R = TypeVar("R")


class Pending:
    """Stands for a result that is not there yet."""


PENDING: Final = Pending()

# A list of unknown length grows by so many places at a time.
CHUNK: Final = 1024


class ListedSink(Sink, Protocol):
    """A sink that gives all results in the end."""

    def values(self) -> list[Any]:
        """The results."""
        ...


class ListSink:
    """Results by index. Places are made before the items are pulled, so that `put` is plain C."""

    def __init__(self, size: int, skips: bool) -> None:
        self._skips = skips
        self._results: list[Any] = [PENDING] * size
        self.put: Callable[[int, Any], object] = self._results.__setitem__
        self.store = self._results

    def indexes(self) -> Iterator[int]:
        return chain(range(len(self._results)), chain.from_iterable(self._more()))

    def _more(self) -> Iterator[range]:
        while True:
            start = len(self._results)
            self._results.extend(repeat(PENDING, CHUNK))
            yield range(start, start + CHUNK)

    def head(self) -> int:
        return -1

    def ended(self) -> None:
        pass

    def values(self) -> list[Any]:
        results = self._results
        while results and results[-1] is PENDING:
            results.pop()
        if self._skips:
            return [value for value in results if value is not SKIPPED]
        return results


class BagSink:
    """Results in order of arrival."""

    def __init__(self) -> None:
        self._results: list[Any] = []

    def put(self, index: int, value: Any) -> None:
        if value is not SKIPPED:
            self._results.append(value)

    def indexes(self) -> Iterator[int]:
        return count()

    def head(self) -> int:
        return -1

    def ended(self) -> None:
        pass

    def values(self) -> list[Any]:
        return self._results


class Waiting(Protocol):
    """Finished results that wait for the reader."""

    def put(self, index: int, value: Any) -> bool:
        """A result has come; whether the reader can take it next."""
        ...

    def pop(self) -> Any:
        """The next result for the reader, or PENDING."""
        ...

    def head(self) -> int:
        """The item whose result the reader takes next; -1: it takes any."""
        ...


class Arrivals:
    """Finished results that wait for the reader, first come first served."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()

    def put(self, index: int, value: Any) -> bool:
        self._waiting.append(value)
        return True

    def pop(self) -> Any:
        return self._waiting.popleft() if self._waiting else PENDING

    def head(self) -> int:
        return -1


class InOrder:
    """Finished results that wait for the reader, or for a slower one before them."""

    def __init__(self) -> None:
        self._waiting: dict[int, Any] = {}
        self._next = 0

    def put(self, index: int, value: Any) -> bool:
        self._waiting[index] = value
        return index == self._next

    def pop(self) -> Any:
        value = self._waiting.pop(self._next, PENDING)
        if value is not PENDING:
            self._next += 1
        return value

    def head(self) -> int:
        return self._next


class Stream(Generic[R]):
    """The results of a running map, as an async iterator for one reader at a time.

    A class and not an async generator: a generator that yields inside a scope delivers the scope's
    cancellation to whatever its reader does (PEP 789).
    """

    def __init__(self, arrivals: Waiting) -> None:
        self._arrivals = arrivals
        self._pop = arrivals.pop
        self.head = arrivals.head
        self._window: Window | None = None
        self._refill = 1
        # Results taken that the window has not been told of. It is told of several at a time,
        # so that it wakes workers for several; and in any case before the reader waits.
        self._taken = 0
        self._reader: asyncio.Future[None] | None = None
        self._over = False

    def attach(self, window: Window, refill: int) -> None:
        self._window = window
        self._refill = refill

    def indexes(self) -> Iterator[int]:
        return count()

    def put(self, index: int, value: Any) -> None:
        if self._arrivals.put(index, value):
            self._wake()

    def ended(self) -> None:
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        if _current.get() is not None:
            raise_if_cancelled()
        window = self._window
        assert window is not None
        while True:
            value = self._pop()
            if value is not PENDING:
                self._taken += 1
                if self._taken >= self._refill:
                    self._make_room(window)
                if value is SKIPPED:
                    continue
                result: R = value
                return result
            if window.finished:
                break
            self._make_room(window)
            await self._wait()
        if self._over:
            raise StopAsyncIteration
        self._over = True
        await window.finish()
        raise StopAsyncIteration

    def _make_room(self, window: Window) -> None:
        taken, self._taken = self._taken, 0
        window.delivered(taken)

    async def _wait(self) -> None:
        """Wait for a result; it stays where it is until it is popped, so a cancel loses nothing."""
        if self._reader is not None:
            raise RuntimeError("another task is already waiting for this map's next result")
        if in_cancelled_anyio_scope():
            # anyio does not cancel a task whose future is done when it looks, and the future of a
            # reader that is fed in every pass always is. Wait where its cancellation strikes.
            from anyio.lowlevel import checkpoint_if_cancelled

            await checkpoint_if_cancelled()
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    async def close(self, leaving: BaseException | None) -> None:
        window = self._window
        assert window is not None
        failed_before = window.finished
        self._over = True
        try:
            await window.aclose(leaving)
            # The reader has broken off. What an item raised before is the outcome of an item that
            # the reader did not want; what one raises while it is cancelled has no other way out.
            if leaving is None and not failed_before and window.failure is not None:
                raise window.failure
        finally:
            window.forget()
            del leaving
