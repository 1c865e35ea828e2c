"""The one interface of every place where calls can run.

`Executor` is what threads, processes, GPUs and clusters look like to a caller: `run`, `map`,
`stream`, options, statistics and closing. Every cancelled call has a known fate, and what an
executor cannot honour is declared in `capabilities` and refused when it is asked for. How calls
reach workers is left to the subclasses.
"""

import copy
import functools
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    final,
    overload,
)

from aioconc._internal._check import check_count
from aioconc.errors import UnsupportedOption
from aioconc.executors._callables import check_function
from aioconc.executors._options import CallOptions, Options, check_options

if TYPE_CHECKING:
    import concurrent.futures

    from aioconc.flow import MapRun, Progress, RateLimiter, RetryHook

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Kind = Literal["io", "cpu", "gpu"]
KINDS: tuple[Kind, ...] = ("io", "cpu", "gpu")


class Fate(StrEnum):
    """What became of the work of a call that was cancelled or timed out.

    Carried by the event `call.cancelled`, so that no cancelled work ends unseen.

    Attributes:
        NOT_STARTED: the function was never called.
        STOPPED: it has ended, by itself or because it was asked to.
        KILLED: its worker was ended by force.
        ABANDONED: it may still run; counted in `statistics().abandoned` until it ends.

    Example:
        >>> Fate.NOT_STARTED.value
        'not_started'
    """

    NOT_STARTED = "not_started"
    STOPPED = "stopped"
    KILLED = "killed"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an executor can honour; all else it refuses when asked.

    Attributes:
        kill: `on_cancel="kill"`: running work is ended by force.
        soft: `on_cancel="soft"`: running work is asked to stop, then killed after `grace`.
        wait: `on_cancel="wait"`: a cancelled call returns when its function has ended.
        abandon: `on_cancel="abandon"`: a cancelled call returns at once.
        retries: `retries=`: a worker can crash alone, and the call can be run again.
        stream: `stream()` works.
        by_reference: arguments and results are handed over as they are, not copied.
        closures: lambdas and local functions can be run.
        context: context variables of the caller are seen by the function.
        report: `aioconc.worker.report` works.
        check_cancelled: `aioconc.worker.check_cancelled` works.
        call_in_loop: `aioconc.worker.call_in_loop` works.
        coroutines: async functions and async generators can be run, in the worker's own loop.
        chunks: `map` sends several items at a time.
        cooperative: calls take turns in one thread, each until it waits; "kill" and "soft" reach
            one only where it waits.

    Example:
        >>> from aioconc import ThreadExecutor
        >>> ThreadExecutor.capabilities.kill
        False
    """

    kill: bool = False
    soft: bool = False
    wait: bool = False
    abandon: bool = False
    retries: bool = False
    stream: bool = False
    by_reference: bool = False
    closures: bool = True
    context: bool = False
    report: bool = False
    check_cancelled: bool = False
    call_in_loop: bool = False
    coroutines: bool = False
    chunks: bool = False
    cooperative: bool = False


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """The state of an executor at one moment.

    Attributes:
        max_workers: most calls that run at the same time.
        workers: workers alive now; 0 where the executor does not tell.
        busy: calls running now for callers that wait for them.
        queued: calls waiting for a worker.
        abandoned: calls that run on though nobody waits for them.
        completed: calls that have ended with a value, since the start.
        failed: calls that have ended with an error, since the start.
        cancelled: calls whose caller was cancelled or timed out, since the start.

    Example:
        >>> ExecutorStatistics(max_workers=2).queued
        0
    """

    max_workers: int
    workers: int = 0
    busy: int = 0
    queued: int = 0
    abandoned: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class MapOptions(TypedDict):
    """What a map leaves to the window."""

    ordered: bool
    on_error: Any
    retry: Any
    rate: Any
    key: Any
    limit_per_key: int | None
    buffer: int | None
    progress: Any


class Executor(ABC):
    """A place where calls run, away from the event loop or on it.

    An executor belongs to no event loop: the same one serves several, one after the other or at
    the same time from several threads. `async with executor:` closes it at the end.

    Subclasses set `capabilities`, `kinds` and `_options`, keep what views share in objects that
    a shallow copy shares, and define the abstract methods.
    """

    # What it can honour. An instance may narrow it, before the first call.
    capabilities: Capabilities = Capabilities()
    # Which defaults `use(executor)` replaces.
    kinds: tuple[Kind, ...] = ("cpu",)

    _options: CallOptions
    _refusals: ClassVar[dict[str, str]] = {}

    @abstractmethod
    async def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of `fn(*args, **kwargs)`, run by a worker.

        Args:
            fn: a plain function; where `capabilities.coroutines` is True, also an async function,
                which runs in an event loop of the worker.
            *args: passed to `fn`.
            **kwargs: passed to `fn`.

        Returns:
            What `fn` returned.

        Raises:
            WorkerTimeout: it had not begun, or had not ended, in time (see `options`).
            ExecutorClosed: the executor is closed or was closed with `cancel=True` meanwhile.
            WorkerCrashed: the worker died.
            SerializationError: an argument or the result could not cross to or from the worker.
            TaskCancelled: `fn` itself raised `CancelledError`.
            WorkerExit: `fn` raised `SystemExit`, `KeyboardInterrupt` or another exception that is
                not an `Exception`; the loop goes on.
            Exception: whatever else `fn` raised. `StopIteration` arrives as `RuntimeError`.

        Cancellation:
            While the call is queued: it leaves the queue at once and `fn` never starts.
            While it runs: as `on_cancel` says. The result is lost, and an event
            `call.cancelled` tells its fate.

        Example:
            >>> import asyncio
            >>> from aioconc import ThreadExecutor
            >>> async def main():
            ...     async with ThreadExecutor() as pool:
            ...         return await pool.run(pow, 2, 10)
            >>> asyncio.run(main())
            1024
        """

    @abstractmethod
    def stream(
        self, gen_fn: Callable[..., Iterable[T]], /, *args: Any, buffer: int = 8, **kwargs: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[T]]:
        """The items of `gen_fn(*args, **kwargs)`, iterated by a worker, as they come.

        Args:
            gen_fn: a plain generator function, or any function that returns an iterable; where
                `capabilities.coroutines` is True, also an async generator function.
            *args: passed to `gen_fn`.
            buffer: items that may wait for the reader, int >= 1. The worker pauses when it is full.
            **kwargs: passed to `gen_fn`.

        Returns:
            An async context manager that gives an async iterator. Leaving it early closes the
            generator in the worker and waits for its clean-up; a worker that can be killed is, if
            that takes longer than `grace`, here 5 s by default (not with `on_cancel="wait"`).

        Raises:
            UnsupportedOption: this executor cannot stream, or `timeout`, `queue_timeout` or
                `retries` is set.
            Exception: what the generator raised, after the items before it. `WorkerCrashed` also
                comes after the items that were sent before.
            SerializationError: an item could not cross to here. The stream ends with it if the
                worker could not pickle the item; else the next read goes on with the next item.

        Cancellation:
            A reader cancelled while it waits for an item loses none: the next read gets it.
            A block that is left because its task was cancelled ends the generator as `on_cancel`
            says, "kill" at once; the cancellation is raised when it has ended.

        Example:
            >>> import asyncio
            >>> from aioconc import ThreadExecutor
            >>> async def main():
            ...     async with ThreadExecutor() as pool, pool.stream(range, 3) as numbers:
            ...         return [number async for number in numbers]
            >>> asyncio.run(main())
            [0, 1, 2]
        """

    @property
    @abstractmethod
    def max_workers(self) -> int:
        """Most calls that run at the same time."""

    @property
    @abstractmethod
    def futures(self) -> "concurrent.futures.Executor":
        """The same workers as a `concurrent.futures.Executor`.

        For `loop.run_in_executor(executor.futures, fn)` and for libraries that ask for one. Its
        calls follow the rules of `concurrent.futures`: a running one cannot be cancelled, and all
        are finished at interpreter exit.
        """

    @abstractmethod
    def statistics(self) -> ExecutorStatistics:
        """The state at this moment, frozen."""

    @abstractmethod
    async def aclose(self, *, cancel: bool = False, timeout: float | None = None) -> None:
        """Refuse new calls, wait until those in flight have ended, and end the workers.

        Closing twice is harmless; both wait.

        Args:
            cancel: drop queued calls and ask running ones to stop; their callers get
                `ExecutorClosed`.
            timeout: seconds to wait; then queued calls are dropped and running ones abandoned, or
                killed where the executor can.

        Raises:
            TimeoutError: calls still ran after `timeout`.

        Cancellation:
            Goes on as with `cancel=True` and still waits; then the cancellation is raised.
        """

    @abstractmethod
    def close(self, *, cancel: bool = False) -> None:
        """`aclose` for code outside a loop: blocks until all calls have ended."""

    # -- the faces over `run` ---------------------------------------------------------------

    @overload
    def map(
        self,
        fn: Callable[[T], R],
        source: Iterable[T] | AsyncIterable[T],
        /,
        *,
        limit: int | float | None = None,
        ordered: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        chunk: int | Literal["auto"] = "auto",
        timeout: float | None = None,
        retry: "RetryHook | None" = None,
        rate: "RateLimiter | Callable[[Any], RateLimiter] | None" = None,
        key: Callable[[T], Hashable] | None = None,
        limit_per_key: int | None = None,
        buffer: int | None = None,
        progress: "Progress" = None,
    ) -> "MapRun[R]": ...
    @overload
    def map(
        self,
        fn: Callable[[T], R],
        source: Iterable[T] | AsyncIterable[T],
        /,
        *,
        limit: int | float | None = None,
        ordered: bool = True,
        on_error: Literal["return"],
        chunk: int | Literal["auto"] = "auto",
        timeout: float | None = None,
        retry: "RetryHook | None" = None,
        rate: "RateLimiter | Callable[[Any], RateLimiter] | None" = None,
        key: Callable[[T], Hashable] | None = None,
        limit_per_key: int | None = None,
        buffer: int | None = None,
        progress: "Progress" = None,
    ) -> "MapRun[R | Exception]": ...
    def map(
        self,
        fn: Callable[[T], R],
        source: Iterable[T] | AsyncIterable[T],
        /,
        *,
        limit: int | float | None = None,
        ordered: bool = True,
        on_error: Literal["raise", "return", "skip"] = "raise",
        chunk: int | Literal["auto"] = "auto",
        timeout: float | None = None,
        retry: "RetryHook | None" = None,
        rate: "RateLimiter | Callable[[Any], RateLimiter] | None" = None,
        key: Callable[[T], Hashable] | None = None,
        limit_per_key: int | None = None,
        buffer: int | None = None,
        progress: "Progress" = None,
    ) -> "MapRun[R] | MapRun[R | Exception]":
        """`fn(item)` run by the workers for every item of `source`, read lazily.

        Equals `map_limited(functools.partial(executor.run, fn), source, limit=...)`, which
        describes the arguments not listed here.

        Args:
            fn: a plain function of one item.
            source: sync or async iterable.
            limit: most calls in flight; default `max_workers`. In processes: most items in flight;
                by default what two chunks for each worker hold.
            ordered: results in input order, or in completion order.
            on_error: "raise", "return" or "skip".
            chunk: items sent to a worker at a time, int >= 1; "auto" lets the executor choose. A
                process gets as many as make about 20 ms of work; each still ends by itself.
            timeout: seconds for each call; default that of the options.
            retry: asked after each failure; see `map_limited`.
            rate: holds back calls; see `map_limited`.
            key: groups items for `limit_per_key` and `rate`.
            limit_per_key: most calls in flight for each key.
            buffer: finished results that may wait for the reader.
            progress: where to show progress.

        Returns:
            A `MapRun`: await it for the list, or `async with` it for the results as they come.
            With `on_error="return"` exceptions stand among the results, also for type checkers.

        Raises:
            UnsupportedOption: `chunk` is a number and this executor sends single items only.

        Cancellation:
            As `map_limited`; calls in flight then end as `on_cancel` says.

        Example:
            >>> import asyncio
            >>> from aioconc import ThreadExecutor
            >>> async def main():
            ...     async with ThreadExecutor() as pool:
            ...         return await pool.map(abs, [-1, 2, -3])
            >>> asyncio.run(main())
            [1, 2, 3]
        """
        check_function(fn, f"{type(self).__name__}.map", coroutines=self.capabilities.coroutines)
        if chunk != "auto":
            check_count("chunk", chunk, remedy="or pass 'auto'")
        view = self if timeout is None else self.options(timeout=timeout)
        made: MapRun[R] = view._make_map(
            fn,
            source,
            limit,
            chunk,
            MapOptions(
                ordered=ordered,
                on_error=on_error,
                retry=retry,
                rate=rate,
                key=key,
                limit_per_key=limit_per_key,
                buffer=buffer,
                progress=progress,
            ),
        )
        return made

    def _make_map(
        self,
        fn: Callable[[Any], Any],
        source: Iterable[Any] | AsyncIterable[Any],
        limit: float | None,
        chunk: int | Literal["auto"],
        options: MapOptions,
    ) -> "MapRun[Any]":
        """The map of `map`, whose arguments these are."""
        from aioconc.flow import map_limited

        if chunk not in ("auto", 1) and not self.capabilities.chunks:
            raise UnsupportedOption(
                f"{type(self).__name__} sends one item at a time, got chunk={chunk!r}; leave it out"
            )
        results: Any = map_limited(  # its type depends on on_error
            functools.partial(self.run, fn),  # type: ignore[call-arg]  # mypy does not bind a ParamSpec through partial
            source,
            limit=self.max_workers if limit is None else limit,
            **options,
        )
        made: MapRun[Any] = results
        return made

    @final
    def options(self, **options: Unpack[Options]) -> Self:
        """A view of the same workers whose calls run with these options.

        What is not given stays as it is. Closing a view closes the executor.

        Args:
            timeout: seconds for which the function may run, or None. They count from when a
                worker has the call. When they have passed the call is cancelled as `on_cancel`
                says and raises `WorkerTimeout`, a `TimeoutError`; a value is kept only if it came
                in time. To bound the whole wait, use `asyncio.timeout`.
            queue_timeout: seconds for which the call may wait for a worker, or None. When they
                have passed it leaves the queue and raises `WorkerTimeout`.
            priority: calls with a higher int leave the queue first; 0.
            on_cancel: what a cancelled or timed-out call does to running work: "kill", "soft",
                "wait" or "abandon".
            grace: seconds between asking and killing, with `on_cancel="soft"`, by default 0; and
                for the clean-up of a stream that is left early, by default 5.
            retries: how often a call is run again after its worker crashed. Never after an
                exception, a time-out or a cancellation.
            name: what the call is called in events, errors and logs.
            on_report: called in the loop with every value of `aioconc.worker.report`.
            writable: arrays that come from another process may be written, on both sides;
                what is written is seen by nobody else. By default they are read-only. Where
                nothing is copied it changes nothing.

        Returns:
            An executor of the same class.

        Raises:
            UnsupportedOption: this executor cannot honour an option.
            TypeError: no such option, or a value of the wrong kind.
            ValueError: a value out of range.

        Example:
            >>> from aioconc import ThreadExecutor
            >>> with ThreadExecutor() as pool:
            ...     quick = pool.options(timeout=0.5, on_cancel="abandon")
            >>> type(quick).__name__
            'ThreadExecutor'
        """
        checked = replace(self._options, **check_options(options))
        self._check_support(checked)
        view = copy.copy(self)
        view._options = checked
        return view

    def _check_support(self, options: CallOptions) -> None:
        """Refuse what this executor cannot honour."""
        able = self.capabilities
        name = type(self).__name__
        if not getattr(able, options.on_cancel):
            words = [each for each in ("kill", "soft", "wait", "abandon") if getattr(able, each)]
            hint = self._refusals.get(options.on_cancel, "")
            raise UnsupportedOption(
                f"{name} cannot honour on_cancel={options.on_cancel!r}{hint and ': '}{hint}; "
                f"use {' or '.join(repr(word) for word in words)}"
            )
        if options.grace is not None and not able.soft:
            raise UnsupportedOption(
                f"{name} cannot honour grace={options.grace!r}, which belongs to "
                "on_cancel='soft'; leave it out"
            )
        if options.retries and not able.retries:
            raise UnsupportedOption(
                f"{name} cannot honour retries={options.retries!r}: its workers do not crash "
                "alone; leave it out"
            )
        if options.on_report is not None and not able.report:
            raise UnsupportedOption(
                f"{name} cannot honour on_report: its workers cannot report; leave it out"
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose(cancel=kind is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(cancel=kind is not None)

    def __repr__(self) -> str:
        now = self.statistics()
        abandoned = f", {now.abandoned} abandoned" if now.abandoned else ""
        return (
            f"<{type(self).__name__} {now.busy}/{now.max_workers} busy, {now.queued} queued"
            f"{abandoned}>"
        )


def usable_cores() -> int:
    """Cores that this process may run on, at least 1."""
    try:
        return max(len(os.sched_getaffinity(0)), 1)
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
