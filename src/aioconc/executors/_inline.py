"""`InlineExecutor`: calls run in the loop's own thread.

For tests and for debugging: breakpoints, profilers and coverage see the function, and everything
happens in a fixed order. The loop stands still while a call runs, which every other executor is
there to avoid.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, ParamSpec, TypeVar

from aioconc._internal import _hooks
from aioconc._internal._check import check_count, check_timeout
from aioconc.errors import ExecutorClosed, WorkerTimeout
from aioconc.executors._base import Capabilities, Executor, ExecutorStatistics, Fate, Kind
from aioconc.executors._call import contained
from aioconc.executors._callables import check_function, name_of
from aioconc.executors._options import CallOptions, check_stream_options
from aioconc.tasks._scope import raise_if_cancelled
from aioconc.worker._link import Link
from aioconc.worker._place import set_link

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _InlineLink(Link):
    __slots__ = ("_executor", "_label", "_on_report")

    def __init__(self, executor: str, label: str, on_report: Callable[[Any], object] | None):
        self._executor = executor
        self._label = label
        self._on_report = on_report

    def describe(self) -> tuple[str, str, int]:
        return self._executor, self._label, 1

    def report(self, value: object) -> None:
        if self._on_report is not None:
            self._on_report(value)

    def check_cancelled(self) -> None:
        """Nothing can be cancelled while the loop stands still."""


class _State:
    """What the views of one executor share."""

    def __init__(self) -> None:
        self.closed = False
        self.busy = 0
        self.queued = 0
        self.completed = 0
        self.failed = 0
        self.cancelled = 0


class InlineExecutor(Executor):
    """Runs each call in the loop's own thread, one after the other.

    Equals `fn(*args, **kwargs)` after one turn of the loop. The loop stands still meanwhile, so
    use it in tests and to debug. A `timeout` is noticed when the function has ended. `use` puts
    it in the place of every default.

    Cancellation:
        May be cancelled before the function starts, during one turn of the loop; not while it
        runs.

    Example:
        >>> import asyncio
        >>> from aioconc import offload_cpu, use
        >>> from aioconc.executors import InlineExecutor
        >>> async def main():
        ...     async with use(InlineExecutor()):
        ...         return await offload_cpu(max, 1, 2)
        >>> asyncio.run(main())
        2
    """

    capabilities = Capabilities(
        wait=True,
        stream=True,
        by_reference=True,
        context=True,
        report=True,
        check_cancelled=True,
    )
    kinds: tuple[Kind, ...] = ("io", "cpu", "gpu")
    _refusals: ClassVar[dict[str, str]] = {
        "kill": "the call runs in the loop's own thread",
        "soft": "the call runs in the loop's own thread",
        "abandon": "the call runs in the loop's own thread",
    }

    def __init__(self) -> None:
        self._options = CallOptions()
        self._state = _State()

    async def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `Executor.run`."""
        check_function(fn, f"{type(self).__name__}.run")
        raise_if_cancelled()
        self._check_open()
        state, options = self._state, self._options
        label = options.name or name_of(fn)
        state.queued += 1
        try:
            await asyncio.sleep(0)  # so that calls in a row do not starve the other tasks
        except asyncio.CancelledError:
            state.cancelled += 1
            if _hooks.listeners:
                _hooks.emit(
                    "call.cancelled",
                    executor=type(self).__name__,
                    name=label,
                    fate=Fate.NOT_STARTED,
                    reason="cancelled",
                    error=None,
                )
            raise
        finally:
            state.queued -= 1
        self._check_open()
        begun = time.monotonic()
        result = self._call(label, fn, *args, **kwargs)
        if options.timeout is not None and time.monotonic() - begun > options.timeout:
            raise WorkerTimeout(
                f"{label} had not ended {options.timeout} s after it began",
                phase="run",
                seconds=options.timeout,
            )
        return result

    def _call(self, label: str, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        state = self._state
        before = set_link(_InlineLink(type(self).__name__, label, self._options.on_report))
        state.busy += 1
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            state.failed += 1
            better = contained(error, label)
            if better is error:
                raise
            raise better from error
        else:
            state.completed += 1
            return result
        finally:
            state.busy -= 1
            set_link(before)

    def stream(
        self, gen_fn: Callable[..., Iterable[T]], /, *args: Any, buffer: int = 8, **kwargs: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[T]]:
        """As `Executor.stream`; each item is made when it is asked for, so none waits."""
        check_function(gen_fn, f"{type(self).__name__}.stream")
        check_count("buffer", buffer)
        check_stream_options(self._options)
        return self._stream(gen_fn, args, kwargs)

    @asynccontextmanager
    async def _stream(self, gen_fn: Any, args: Any, kwargs: Any) -> AsyncGenerator[Any]:
        self._check_open()
        label = self._options.name or name_of(gen_fn)
        reader = _Reader(self, label, iter(self._call(label, gen_fn, *args, **kwargs)))
        try:
            yield reader
        finally:
            close = getattr(reader.iterator, "close", None)
            if close is not None:
                self._call(label, close)

    @property
    def max_workers(self) -> int:
        """One: the loop's thread."""
        return 1

    @property
    def futures(self) -> concurrent.futures.Executor:
        """A `concurrent.futures.Executor` that runs each call in `submit` itself."""
        return _InlineFutures(self._state)

    def statistics(self) -> ExecutorStatistics:
        """The state at this moment, frozen."""
        state = self._state
        return ExecutorStatistics(
            max_workers=1,
            workers=1,
            busy=state.busy,
            queued=state.queued,
            completed=state.completed,
            failed=state.failed,
            cancelled=state.cancelled,
        )

    def _check_open(self) -> None:
        if self._state.closed:
            raise ExecutorClosed(f"{type(self).__name__} is closed; make a new one")

    async def aclose(self, *, cancel: bool = False, timeout: float | None = None) -> None:
        """As `Executor.aclose`; no call can be running."""
        check_timeout("timeout", timeout)
        if self._state.queued and not cancel:
            await asyncio.sleep(0)  # the one turn of the loop that each of them waits
        self._state.closed = True

    def close(self, *, cancel: bool = False) -> None:
        """`aclose` for code outside a loop."""
        self._state.closed = True


class _Reader(AsyncIterator[Any]):
    def __init__(self, executor: InlineExecutor, label: str, iterator: Any) -> None:
        self.iterator = iterator
        self._executor = executor
        self._label = label

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        found = self._executor._call(self._label, next, self.iterator, self)
        if found is self:  # the default of `next`: there are no more
            raise StopAsyncIteration
        return found


class _InlineFutures(concurrent.futures.Executor):
    def __init__(self, state: _State) -> None:
        self._state = state

    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> "concurrent.futures.Future[R]":
        """Run the call; the future that is returned is done."""
        if self._state.closed:
            raise ExecutorClosed("InlineExecutor is closed; make a new one")
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse further calls."""
        self._state.closed = True
