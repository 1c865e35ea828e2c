"""The `concurrent.futures` face of a pool, for code that asks for a standard executor.

Its calls share queue and workers with the calls of the asyncio face. They follow the rules of the
standard library: a running call cannot be cancelled, exceptions arrive as they were raised, and
at interpreter exit everything submitted is finished first.
"""

import concurrent.futures
import functools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from aioconc.executors._call import Job
from aioconc.executors._pool import Pool

P = ParamSpec("P")
R = TypeVar("R")


class FutureJob(Job):
    """A job whose outcome goes to a `concurrent.futures.Future`."""

    __slots__ = ("outcome", "pool")

    def __init__(self, pool: Pool, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        super().__init__(fn, args, kwargs, None)
        self.pool = pool
        self.pool_name = pool.kind
        self.outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def watch(self) -> None:
        """From now on a cancelled future takes the job out of the queue."""
        self.outcome.add_done_callback(self._done)

    def _done(self, future: "concurrent.futures.Future[Any]") -> None:
        if future.cancelled() and self.pool.withdraw(self):
            future.set_running_or_notify_cancel()  # tells `concurrent.futures.wait`

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


class FuturesFace(concurrent.futures.Executor):
    """What `Executor.futures` gives."""

    def __init__(
        self,
        pool: Pool,
        make: Callable[[Callable[..., Any], Any, Any], FutureJob] | None = None,
    ) -> None:
        self._pool = pool
        self._make = make or functools.partial(FutureJob, pool)

    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> "concurrent.futures.Future[R]":
        """As `concurrent.futures.Executor.submit`."""
        job = self._make(fn, args, kwargs)
        self._pool.submit(job)
        job.watch()
        _unfinished.add(job.outcome)
        return job.outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `concurrent.futures.Executor.shutdown`; closes the asyncio face as well."""
        over = threading.Event()
        self._pool.close(cancel=cancel_futures)
        self._pool.when_over(over.set)
        if wait:
            over.wait()


_unfinished: "weakref.WeakSet[concurrent.futures.Future[Any]]" = weakref.WeakSet()


def finish_all() -> None:
    """Wait for every call of every such face; at interpreter exit."""
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
