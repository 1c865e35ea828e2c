"""The `concurrent.futures` face of a pool, for code that asks for a standard executor.

Its calls share queue and workers with the calls of the asyncio face. They follow the rules of the
standard library: a running call cannot be cancelled, exceptions arrive as they were raised (also
`SystemExit`), what cannot be pickled fails its future, and at interpreter exit everything submitted
is finished first.
"""

import concurrent.futures
import functools
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar

from aioconc._internal._check import check_count
from aioconc.errors import SerializationError
from aioconc.executors._call import Job
from aioconc.executors._callables import name_of
from aioconc.executors._pool import Pool
from aioconc.worker._entry import Chunk

P = ParamSpec("P")
R = TypeVar("R")


class FutureJob(Job):
    """A job whose outcome goes to a `concurrent.futures.Future`."""

    def __init__(self, pool: Pool, fn: Callable[..., Any]) -> None:
        super().__init__(fn, None)
        self.pool = pool
        self.pool_name = pool.kind
        self.outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def watch(self) -> None:
        """From now on a cancelled future takes the job out of the queue."""
        # Weakly, so that no circle keeps a result until the next collection of garbage.
        self.outcome.add_done_callback(functools.partial(_withdraw, weakref.ref(self)))

    def start(self) -> bool:
        # Running already: its first worker died before it had begun.
        return self.claim() and (
            self.outcome.running() or self.outcome.set_running_or_notify_cancel()
        )

    def execute(self) -> bool | None:
        if not self.start():
            return None
        try:
            self.value = self.fn(*self.args, **self.kwargs)
        except BaseException as error:
            self.error = error
            return False
        else:
            return True
        finally:
            del self.fn, self.args, self.kwargs

    def post(self) -> None:
        error = self.error
        try:
            if self.outcome.done():
                return  # refused when the executor was closed by force
            if error is None:
                self.outcome.set_result(self.value)
            else:
                self.outcome.set_exception(error)
        finally:
            self.value = self.error = None
            del error

    def refuse(self, error: Exception) -> None:
        if self.outcome.cancel():
            self.outcome.set_running_or_notify_cancel()
        elif not self.outcome.done():
            self.outcome.set_exception(error)


def _withdraw(
    job: "weakref.ReferenceType[FutureJob]", future: "concurrent.futures.Future[Any]"
) -> None:
    """A future is done: if somebody cancelled it, its job is not to start."""
    found = job()
    if future.cancelled() and found is not None and found.pool.withdraw(found):
        future.set_running_or_notify_cancel()  # tells `concurrent.futures.wait`


class FuturesFace(concurrent.futures.Executor):
    """What `Executor.futures` gives."""

    def __init__(
        self,
        pool: Pool,
        make: Callable[[Callable[..., Any], Any, Any], FutureJob] | None = None,
    ) -> None:
        self._pool = pool
        self._make = make or self._hold
        # Whether calls travel, so that it pays to send several at a time.
        self._sends = make is not None

    def _hold(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> FutureJob:
        return FutureJob(self._pool, fn).hold(fn, args, kwargs)

    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> "concurrent.futures.Future[R]":
        """As `concurrent.futures.Executor.submit`; any thread may call it, with or without a loop.

        Raises:
            ExecutorClosed: it was shut down.
            RuntimeError: the interpreter is being shut down.
        """
        if _exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        self._pool.check_usable()
        try:
            job = self._make(fn, args, kwargs)
        except SerializationError as error:
            refused: concurrent.futures.Future[R] = concurrent.futures.Future()
            refused.set_exception(error)
            return refused
        self._pool.submit(job)
        job.watch()
        _unfinished.add(job.outcome)
        return job.outcome

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """As `concurrent.futures.Executor.map`, with the `buffersize` of Python 3.14 on all.

        Args:
            fn: called with one item of each iterable.
            *iterables: read at once, or with `buffersize` as results are taken.
            timeout: seconds from this call until the last result, or None.
            chunksize: items sent to a process at a time, int >= 1; threads ignore it.
            buffersize: most calls in flight or waiting to be taken, int >= 1, or None for all. With
                chunks, it counts chunks.

        Raises:
            TimeoutError: the next result is not there in time.
            Exception: what `fn` raised, in place of its result.
        """
        check_count("chunksize", chunksize)
        if buffersize is not None:
            check_count("buffersize", buffersize)
        rows = zip(*iterables, strict=False)
        if chunksize == 1 or not self._sends:
            return self._results(fn, rows, timeout, buffersize)
        chunks = ((each,) for each in _chunks(rows, chunksize))
        return _flat(self._results(Chunk(fn, name_of(fn)), chunks, timeout, buffersize))

    def _results(
        self,
        fn: Callable[..., Any],
        rows: Iterator[tuple[Any, ...]],
        timeout: float | None,
        buffersize: int | None,
    ) -> Iterator[Any]:
        end = None if timeout is None else time.monotonic() + timeout
        first = rows if buffersize is None else itertools.islice(rows, buffersize)
        futures = deque(self.submit(fn, *row) for row in first)

        # A generator of its own, so that all of the above is done before the first result is
        # wanted.
        def results() -> Iterator[Any]:
            try:
                while futures:
                    if buffersize is not None:
                        futures.extend(self.submit(fn, *row) for row in itertools.islice(rows, 1))
                    yield _take(futures.popleft(), end)
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `concurrent.futures.Executor.shutdown`; closes the asyncio face as well."""
        over = threading.Event()
        self._pool.close(cancel=cancel_futures)
        self._pool.when_over(over.set)
        if wait:
            over.wait()


def _take(future: "concurrent.futures.Future[Any]", end: float | None) -> Any:
    """The result; nobody keeps a reference to it."""
    try:
        return future.result(None if end is None else end - time.monotonic())
    finally:
        future.cancel()
        del future


def _chunks(rows: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def _flat(lists: Iterator[list[Any]]) -> Iterator[Any]:
    """The items of the lists, to which no reference is kept."""
    for each in lists:
        each.reverse()
        while each:
            yield each.pop()


_unfinished: "weakref.WeakSet[concurrent.futures.Future[Any]]" = weakref.WeakSet()


# The exit has begun; what is submitted now might never run.
_exiting = False


def finish_all() -> None:
    """Take no more calls, and wait for those of every such face; at interpreter exit."""
    global _exiting
    _exiting = True
    while pending := [future for future in tuple(_unfinished) if not future.done()]:
        concurrent.futures.wait(pending)


def _forget() -> None:
    """A forked child has none of the threads that would finish them."""
    global _unfinished
    _unfinished = weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

# `_register_atexit` is what `concurrent.futures` itself uses: its functions run before the
# interpreter waits for threads, the latest registered first, so the pools of the standard library
# still work while these calls are finished. Not public, hence the fallback.
_register = getattr(threading, "_register_atexit", None)


def at_exit(fn: Callable[[], object]) -> None:
    """Call `fn` at interpreter exit, before what was registered earlier.

    Once the exit has begun this does nothing: those who register here did so before, if anything
    of theirs can still run.
    """
    if _register is not None:
        try:
            _register(fn)
        except RuntimeError:
            pass
    else:
        import atexit

        atexit.register(fn)


at_exit(finish_all)
