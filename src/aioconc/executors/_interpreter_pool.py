"""A pool of threads that run each call in a subinterpreter, for Python 3.13.

From 3.14 on the standard library has one. This one makes its interpreters with anyio, which knows
the private interface of 3.13; loaded when the first interpreter is needed.
"""

import atexit
import concurrent.futures
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class InterpreterPool(concurrent.futures.ThreadPoolExecutor):
    """Threads that run each call in an interpreter which nobody else is using."""

    # Rule: an interpreter is in `_idle` or with the one thread that took it out. `_closed` is set
    # before `_idle` is emptied, so whoever brings one back later ends it.

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers, thread_name_prefix="aioconc-interpreter")
        self._idle: list[Any] = []
        self._guard = threading.Lock()
        self._closed = False
        _pools.add(self)

    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> "concurrent.futures.Future[R]":
        return super().submit(self._call, fn, args)  # `FuturesPool` passes no keywords

    def _call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        with self._guard:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _make()
        try:
            return worker.call(fn, args)
        finally:
            with self._guard:
                keep = not self._closed
                if keep:
                    self._idle.append(worker)
            if not keep:
                worker.destroy()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        self.end_idle()

    def end_idle(self) -> None:
        """End the interpreters that have no call, and the others when theirs has ended."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.destroy()


def _make() -> Any:
    """An interpreter that finds the modules that this one finds."""
    from anyio.to_interpreter import _Worker

    worker = _Worker()
    worker.call(exec, (f"import sys; sys.path[:] = {sys.path!r}",))
    return worker


_pools: "weakref.WeakSet[InterpreterPool]" = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Python complains about interpreters that are left at its end."""
    for pool in tuple(_pools):
        pool.end_idle()
