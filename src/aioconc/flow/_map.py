"""`map_limited`: an async function over many items, a bounded number at once.

The call is described first and runs when it is awaited (a list) or entered (a stream), so one
signature serves both. Everything about running is the window's; this module checks the arguments
and keeps the results in order.
"""

import asyncio
import functools
import inspect
import math
import warnings
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Hashable,
    Iterable,
    Sized,
)
from types import TracebackType
from typing import Any, Final, Generic, Literal, TypeVar, overload

from aioconc._internal._check import check_choice, check_count, check_limit, check_timeout
from aioconc.flow._admission import Admission
from aioconc.flow._backoff import RetryHook, call_counter
from aioconc.flow._chunk import OnError
from aioconc.flow._outcomes import Policy, Sink
from aioconc.flow._progress import Progress, make_reporter
from aioconc.flow._rate_limiter import RateLimiter
from aioconc.flow._sinks import Arrivals, BagSink, InOrder, ListedSink, ListSink, Stream
from aioconc.flow._window import Window
from aioconc.tasks._scope import check_loop

T = TypeVar("T")
R = TypeVar("R")


# Results that may wait for the reader of a map without a limit.
DEFAULT_BUFFER: Final = 100


@overload
def map_limited(
    fn: Callable[[T], Awaitable[R]],
    source: Iterable[T] | AsyncIterable[T],
    *,
    limit: float,
    ordered: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    timeout: float | None = None,
    retry: RetryHook | None = None,
    rate: RateLimiter | Callable[[Any], RateLimiter] | None = None,
    key: Callable[[T], Hashable] | None = None,
    limit_per_key: int | None = None,
    buffer: int | None = None,
    isolate: Literal["context", "task"] = "context",
    progress: Progress = None,
) -> "MapRun[R]": ...
@overload
def map_limited(
    fn: Callable[[T], Awaitable[R]],
    source: Iterable[T] | AsyncIterable[T],
    *,
    limit: float,
    ordered: bool = True,
    on_error: Literal["return"],
    timeout: float | None = None,
    retry: RetryHook | None = None,
    rate: RateLimiter | Callable[[Any], RateLimiter] | None = None,
    key: Callable[[T], Hashable] | None = None,
    limit_per_key: int | None = None,
    buffer: int | None = None,
    isolate: Literal["context", "task"] = "context",
    progress: Progress = None,
) -> "MapRun[R | Exception]": ...
def map_limited(
    fn: Callable[[T], Awaitable[R]],
    source: Iterable[T] | AsyncIterable[T],
    *,
    limit: float,
    ordered: bool = True,
    on_error: OnError = "raise",
    timeout: float | None = None,
    retry: RetryHook | None = None,
    rate: RateLimiter | Callable[[Any], RateLimiter] | None = None,
    key: Callable[[T], Hashable] | None = None,
    limit_per_key: int | None = None,
    buffer: int | None = None,
    isolate: Literal["context", "task"] = "context",
    progress: Progress = None,
) -> "MapRun[R] | MapRun[R | Exception]":
    """Await `fn(item)` for every item of `source`, at most `limit` at once.

    Equals `[await fn(item) for item in source]`, with up to `limit` calls in flight. Awaited, it
    gives the list; entered with `async with`, a stream of results in bounded memory. Nothing
    starts before either.

    Args:
        fn: async function of one item. Each call sees the caller's context variables, and what it
            changes in them stays with it.
        source: items; any sync or async iterable, read only as fast as calls start. A generator is
            closed at the end, in any case.
        limit: most calls in flight, int >= 1; `math.inf` for no limit.
        ordered: results in the order of the items (True) or as they come (False).
        on_error: what the failure of one item does. "raise": cancels the others and is raised,
            bare; "return": takes the result's place; "skip": the item has no result.
        timeout: seconds >= 0 for one attempt at one item, which then fails with TimeoutError.
        retry: called with the number of the attempt that failed (from 1) and its exception; gives
            the seconds to wait before the next attempt, or None to give up. See `backoff`. An
            item that waits for its next attempt holds no slot.
        rate: limits how fast calls start: a `RateLimiter`, or a function from an item's key to the
            limiter of that key.
        key: names the key of an item, such as its host. An item whose key is full, or not due by
            its rate, does not hold up items of other keys.
        limit_per_key: most calls in flight for one key, int >= 1.
        buffer: for a stream: finished results that may wait for the reader on top of `limit`,
            int >= 0; default: `limit` (100 where that is infinite). In order, this is how far the
            others may run ahead of one slow item.
        isolate: "context": calls share a few tasks, each call with context variables of its own;
            "task": each call in a task of its own, for code that depends on
            `asyncio.current_task()`, at some ten times the cost.
        progress: True for a bar on standard error; or a tqdm class or bar, a
            `rich.progress.Progress`, or a function of a `ProgressEvent`.

    Returns:
        A `MapRun`.

    Raises:
        TypeError: `fn` is not an async function, `source` is not iterable.
        ValueError: an option is out of range.
        Exception: when run: the failure of an item (on_error="raise") or of `source`. Failures
            that follow it are added as notes.

    Cancellation:
        Cancels the calls in flight, waits for them to end and closes `source`. Results that were
        not delivered are lost. An item that is cancelled by somebody else fails with
        `TaskCancelled`.

    Example:
        >>> async def double(n):
        ...     await asyncio.sleep(0)
        ...     return 2 * n
        >>> async def main():
        ...     print(await map_limited(double, range(3), limit=2))
        ...     async with map_limited(double, range(3), limit=2) as results:
        ...         async for result in results:
        ...             print(result)
        >>> asyncio.run(main())
        [0, 2, 4]
        0
        2
        4
    """
    _check_fn(fn)
    _check_source(source)
    check_limit("limit", limit)
    for name, hook in (("retry", retry), ("key", key)):
        if hook is not None and not callable(hook):
            raise TypeError(f"{name} must be a function, got {hook!r}")
    if limit_per_key is not None:
        check_count("limit_per_key", limit_per_key)
        if key is None:
            raise ValueError("limit_per_key needs key=, a function that names an item's key")
    if rate is not None and not isinstance(rate, RateLimiter):
        if not callable(rate):
            raise TypeError(f"rate must be a RateLimiter or a function of a key, got {rate!r}")
        if key is None:
            raise ValueError("a rate per key needs key=, a function that names an item's key")
    if buffer is not None:
        check_count("buffer", buffer, least=0)
    return MapRun(
        fn,
        source,
        Policy(
            limit=limit,
            on_error=check_choice("on_error", on_error, ("raise", "return", "skip")),
            timeout=check_timeout("timeout", timeout),
            retry=retry,
            isolate=check_choice("isolate", isolate, ("context", "task")),
        ),
        ordered=ordered,
        rate=rate,
        key=key,
        limit_per_key=limit_per_key,
        buffer=buffer,
        progress=progress,
    )


class MapRun(Generic[R]):
    """One run of `map_limited`, not started yet: await it for a list, or enter it for a stream.

    Serves once. Equals a coroutine object in that; one that is never run is reported by a
    RuntimeWarning.

    Cancellation:
        See `map_limited`.

    Example:
        >>> async def main():
        ...     run = map_limited(asyncio.sleep, [0.001, 0.002], limit=1)
        ...     run.limit = 2
        ...     return await run
        >>> asyncio.run(main())
        [None, None]
    """

    def __init__(
        self,
        fn: Callable[[Any], Awaitable[R]] | None,
        source: Iterable[Any] | AsyncIterable[Any],
        policy: Policy,
        *,
        ordered: bool = True,
        rate: RateLimiter | Callable[[Any], RateLimiter] | None = None,
        key: Callable[[Any], Hashable] | None = None,
        limit_per_key: int | None = None,
        buffer: int | None = None,
        progress: Progress = None,
        explain: Callable[[Any], TypeError] | None = None,
        discard: Callable[[Any], "asyncio.Future[Any] | None"] | None = None,
        name: str | None = None,
    ) -> None:
        self._fn = fn
        self._source = source
        self._policy = policy
        self._ordered = ordered
        self._rate = rate
        self._key = key
        self._limit_per_key = limit_per_key
        self._buffer = buffer
        self._progress = progress
        self._name = name or _name_of(fn)
        self._explain = explain or functools.partial(_not_async, self._name)
        self._discard = discard
        self._used = False
        self._window: Window | None = None
        self._stream: Stream[R] | None = None

    @property
    def limit(self) -> float:
        """Most calls in flight. May be set while the map runs: calls in flight go on, and fewer
        or more follow them.
        """
        return self._policy.limit

    @limit.setter
    def limit(self, value: float) -> None:
        check_limit("limit", value)
        if self._window is None:
            self._policy.limit = value
        else:
            check_loop(self._window.loop, "a map", 'setattr, run, "limit"')
            self._window.limit = value

    @property
    def started(self) -> bool:
        """Whether it has begun: the source is then closed, or will be."""
        return self._window is not None

    def __await__(self) -> Generator[Any, None, list[R]]:
        self._use()
        return self._collect().__await__()

    async def _collect(self) -> list[R]:
        results = self._make_list()
        window = self._open(results, math.inf)
        window.start()
        await window.finish()
        return results.values()

    def _make_list(self) -> ListedSink:
        """What collects the results."""
        if not self._ordered:
            return BagSink()
        # Room for all at once only where the size cannot change while the map runs.
        size = len(self._source) if isinstance(self._source, (tuple, range)) else 0
        return ListSink(size, self._policy.on_error == "skip")

    def _make_stream(self) -> Stream[R]:
        """What hands the results to a reader."""
        return Stream(InOrder() if self._ordered else Arrivals())

    async def __aenter__(self) -> AsyncIterator[R]:
        self._use()
        buffer = self._buffer
        if buffer is None:
            limit = self._policy.limit
            buffer = DEFAULT_BUFFER if limit == math.inf else int(limit)
        stream = self._make_stream()
        window = self._open(stream, buffer)
        stream.attach(window, max(1, buffer // 2))
        self._stream = stream
        window.start()
        if isinstance(window.failure, asyncio.CancelledError):
            await window.finish()  # the scope around is cancelled: nothing has started
        return stream

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        assert self._stream is not None
        try:
            await self._stream.close(exc)
        finally:
            del exc, traceback
        return False

    def __aiter__(self) -> Any:
        raise TypeError(
            "map_limited cannot be iterated directly, since leaving the loop early could not stop "
            "it; write `async with map_limited(...) as results:` and then "
            "`async for result in results:`"
        )

    def _use(self) -> None:
        if self._used:
            raise RuntimeError(f"{self!r} serves once; call map_limited again")
        self._used = True

    def _open(self, sink: Sink, buffer: float) -> Window:
        policy = self._policy
        admission = None
        if self._rate is not None or self._key is not None or policy.retry is not None:
            admission = Admission(
                limit=policy.limit,
                key=self._key,
                limit_per_key=math.inf if self._limit_per_key is None else self._limit_per_key,
                rate=self._rate,
            )
        total = len(self._source) if isinstance(self._source, Sized) else None
        self._window = Window(
            self._fn,
            self._source,
            sink,
            policy,
            buffer=buffer,
            admission=admission,
            reporter=make_reporter(self._progress, total, self._name),
            on_started=call_counter(policy.retry),
            label=self._name,
            explain=self._explain,
            discard=self._discard,
        )
        return self._window

    def __del__(self) -> None:
        if not getattr(self, "_used", True):
            warnings.warn(f"{self!r} was never awaited", RuntimeWarning, stacklevel=2)

    def __repr__(self) -> str:
        if self._window is None:
            state = "not started"
        elif self._window.finished:
            state = "finished"
        else:
            state = f"{self._window.in_flight}/{self._policy.limit} in flight"
        return f"<map_limited {self._name} {state}>"


# ---------------------------------------------------------------------- checks


def _name_of(fn: Any) -> str:
    """The user's function as errors name it."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def _not_async(name: str, result: Any) -> TypeError:
    if isinstance(result, AsyncIterable):
        what = "an async generator, which yields many results for one item"
    else:
        what = f"{result!r:.80}, which cannot be awaited"
    return TypeError(
        f"map_limited expected an async function, but {name} returned {what}; write "
        f"`async def {name}`, or leave a plain function to a thread with aioconc.offload_io"
    )


def _check_fn(fn: Any) -> None:
    if inspect.iscoroutine(fn):
        name = fn.__qualname__
        fn.close()
        raise TypeError(
            f"map_limited expected an async function, got a coroutine; "
            f"did you mean map_limited({name}, items, limit=...)?"
        )
    if not callable(fn):
        raise TypeError(
            f"map_limited expected an async function first, then the items, got {fn!r:.80}"
        )
    if inspect.isgeneratorfunction(fn) and not fn.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE:
        raise TypeError(f"map_limited expected an async function, {fn.__qualname__} is a generator")
    if inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"map_limited expected an async function, {fn.__qualname__} is an async generator; "
            f"it yields many results for one item"
        )


def _check_source(source: Any) -> None:
    if isinstance(source, (Iterable, AsyncIterable)):
        return
    rule = "map_limited expected an iterable or async iterable of items"
    if inspect.iscoroutine(source):
        name = source.__qualname__
        source.close()
        raise TypeError(f"{rule}, got a coroutine; did you mean `await {name}(...)`?")
    if inspect.isgeneratorfunction(source) or inspect.isasyncgenfunction(source):
        name = source.__qualname__
        raise TypeError(f"{rule}, got the function {name}; did you mean {name}()?")
    if isinstance(source, type) or not hasattr(source, "__getitem__"):
        raise TypeError(f"{rule}, got {source!r:.80}")
