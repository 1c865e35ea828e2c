"""`feed`: an iterable, pushed item by item into a consumer that takes `send`.

It guarantees that the next item is read only when the last one has been dealt with, that the
consumer and the source are closed however it ends, and that the loop turns meanwhile. What to do
with an item is left to the consumer.
"""

import asyncio
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
)
from time import monotonic
from typing import Any, Final, Generic, TypeVar, overload

from aioconc.generators._into import Deferred
from aioconc.generators._primed import is_new
from aioconc.tasks._scope import raise_if_cancelled

T = TypeVar("T")
R = TypeVar("R")

# Seconds for which a source and a consumer that never wait may keep the loop from turning.
_SLICE: Final = 0.001


@overload
async def feed(
    source: Iterable[T] | AsyncIterable[T], consumer: Generator[Any, T, R], /
) -> R | None: ...
@overload
async def feed(
    source: Iterable[T] | AsyncIterable[T], consumer: AsyncGenerator[Any, T], /
) -> None: ...
async def feed(source: Any, consumer: Any, /) -> Any:
    """Send every item of a source into a consumer, then close it.

    Equals `for item in source: consumer.send(item)` and, as in Python 3.13,
    `return consumer.close()`; with `async for` and `asend` where they are async. The next item is
    read when the consumer has dealt with the last one, and when every queue at the end of its
    pipeline (see `into`) had room for what came of it.

    Args:
        source: any iterable, sync or async. A generator is closed at the end.
        consumer: a generator, `primed` or new; or an async generator, which must be new and may
            await while it deals with an item.

    Returns:
        What a plain consumer returns: when it ends by itself, which ends the feeding too, or when
        it catches the `GeneratorExit` of being closed. None from an async one.

    Raises:
        TypeError: not a source, or not a consumer.
        RuntimeError: the consumer has ended already, or an async one has begun; or a consumer yields
            when it is closed.
        Exception: whatever the source or the consumer raises; the other one is closed first.

    Cancellation:
        Strikes in the source, in an async consumer, or while a queue has no room. Then, and
        after an error, source and consumer are closed, and so are the queues at its end: their
        readers find an end, and nothing tells them that it came early. Items that came of the last
        one, and had no room yet, are lost.

    Example:
        >>> from aioconc.generators import primed
        >>> @primed
        ... def averager():
        ...     total = count = 0
        ...     try:
        ...         while True:
        ...             total += yield
        ...             count += 1
        ...     except GeneratorExit:
        ...         return total / count
        >>> asyncio.run(feed(range(5), averager()))
        2.0
    """
    _check(source, consumer)
    push = _AsyncPush(consumer) if isinstance(consumer, AsyncGenerator) else _Push(consumer)
    try:
        if isinstance(source, AsyncIterable):
            await _pump_async(aiter(source), push)
        else:
            await _pump(iter(source), push)
        return await push.finish()
    except BaseException:
        await push.give_up()
        raise


async def _pump(source: Iterator[Any], push: "_Push[Any] | _AsyncPush") -> None:
    slice_end = monotonic() + _SLICE
    try:
        raise_if_cancelled()
        if not await push.begin():
            return
        for item in source:
            if not await push.send(item):
                break
            if monotonic() > slice_end:
                await asyncio.sleep(0)
                slice_end = monotonic() + _SLICE
    finally:
        if isinstance(source, Generator):
            source.close()


async def _pump_async(source: AsyncIterator[Any], push: "_Push[Any] | _AsyncPush") -> None:
    slice_end = monotonic() + _SLICE
    try:
        raise_if_cancelled()
        if not await push.begin():
            return
        async for item in source:
            if not await push.send(item):
                break
            if monotonic() > slice_end:
                await asyncio.sleep(0)
                slice_end = monotonic() + _SLICE
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


class _Push(Generic[R]):
    """Pushes into a plain generator."""

    def __init__(self, consumer: Generator[Any, Any, R]) -> None:
        self._consumer = consumer
        self._deferred = Deferred()
        self._ended = False
        self._result: R | None = None

    async def begin(self) -> bool:
        """Advance it to its first `yield`; whether it takes items."""
        return not is_new(self._consumer) or await self.send(None)

    async def send(self, item: Any) -> bool:
        """Have the consumer deal with the item; whether it takes more."""
        try:
            with self._deferred:
                self._consumer.send(item)
        except StopIteration as end:
            self._ended = True
            self._result = end.value
        if self._deferred:
            await self._deferred.run()
        return not self._ended

    async def finish(self) -> R | None:
        """Close it, as no item is left; what it returns."""
        if not self._ended:
            self._ended = True
            with self._deferred:
                self._result = _close(self._consumer)
        await self._deferred.run()
        return self._result

    async def give_up(self) -> None:
        """Close it after an error, together with the queues at its end."""
        try:
            with self._deferred:
                self._consumer.close()
        finally:
            self._deferred.drop_items()
            await self._deferred.run_all()


class _AsyncPush:
    """Pushes into an async generator, which waits by itself."""

    def __init__(self, consumer: AsyncGenerator[Any, Any]) -> None:
        self._consumer = consumer

    async def begin(self) -> bool:
        return await self.send(None)

    async def send(self, item: Any) -> bool:
        try:
            await self._consumer.asend(item)
        except StopAsyncIteration:
            return False
        return True

    async def finish(self) -> None:
        await self._consumer.aclose()

    give_up = finish


def _close(consumer: Generator[Any, Any, R]) -> R | None:
    """`consumer.close()` of Python 3.13, which gives what the generator returned."""
    try:
        consumer.throw(GeneratorExit())
    except StopIteration as end:
        result: R = end.value
        return result
    except GeneratorExit:
        return None
    raise RuntimeError(f"{_name(consumer)} yielded when it was closed; it must return or raise")


def _check(source: Any, consumer: Any) -> None:
    if not isinstance(source, (Iterable, AsyncIterable)) and not hasattr(source, "__getitem__"):
        remedy = ""
        if inspect.isgeneratorfunction(source) or inspect.isasyncgenfunction(source):
            remedy = f"; did you mean {source.__qualname__}(...)?"
        raise TypeError(f"feed expected an iterable or async iterable, got {source!r}{remedy}")
    if isinstance(consumer, AsyncGenerator):
        if inspect.isasyncgen(consumer) and not is_new(consumer):
            raise RuntimeError(
                f"feed starts an async consumer itself, and {_name(consumer)} has begun or ended "
                "already; pass a new one"
            )
    elif inspect.isgenerator(consumer):
        if inspect.getgeneratorstate(consumer) == inspect.GEN_CLOSED:
            raise RuntimeError(
                f"feed got {_name(consumer)}, which has ended already, so it can take nothing; "
                "pass a new one"
            )
    elif not isinstance(consumer, Generator):
        remedy = "use feed(source, into(queue)) for a queue or channel"
        if inspect.isgeneratorfunction(consumer) or inspect.isasyncgenfunction(consumer):
            remedy = f"did you mean {consumer.__qualname__}(...)?"
        elif callable(getattr(consumer, "send", None)) or callable(consumer):
            remedy = "use `async for item in source` to call a function for each"
        raise TypeError(f"feed expected a generator that takes items, got {consumer!r}; {remedy}")


def _name(consumer: Any) -> str:
    return getattr(consumer, "__qualname__", type(consumer).__name__)
