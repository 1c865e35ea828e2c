"""The link from the code of one call back to the executor that runs it.

An executor puts a `Link` in place around each call, in the thread that runs it; the public
functions below find it there. A method that the executor does not override refuses by name.
How a link reaches the awaiting task is the executor's business.
"""

import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

from aioconc.errors import UnsupportedOption
from aioconc.worker._place import place

P = ParamSpec("P")
R = TypeVar("R")


class Cancelled(BaseException):
    """Raised by `check_cancelled` in the worker; let it pass.

    It derives from `BaseException`, as `asyncio.CancelledError` does, so that `except Exception`
    does not stop it.

    Example:
        >>> issubclass(Cancelled, Exception)
        False
    """


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """Where a call runs.

    Attributes:
        executor: class name of the executor.
        name: name of the call, by default that of the function.
        attempt: which attempt of the call this is, from 1.
        pid: id of the process that runs it.
        thread: name of the thread that runs it.
    """

    executor: str
    name: str
    attempt: int
    pid: int
    thread: str


class Link:
    """What one executor grants to the code of one call; refuses all that is not overridden."""

    __slots__ = ()

    def describe(self) -> tuple[str, str, int]:
        """Executor, name of the call, attempt."""
        raise NotImplementedError

    def report(self, value: object) -> None:
        self._refuse("report")

    def check_cancelled(self) -> None:
        self._refuse("check_cancelled")

    def call_in_loop(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._refuse("call_in_loop")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedOption(
            f"{what}() does not work in a call on {self.describe()[0]}: its workers have no way "
            f"back to the awaiting task; use an executor whose capabilities.{what} is True"
        )


def _here(what: str) -> Link:
    link: Link | None = place.link
    if link is None:
        raise RuntimeError(
            f"aioconc.worker.{what}() was called outside a call of an executor, in thread "
            f"{threading.current_thread().name!r}; call it from the function given to "
            "offload_io, offload_cpu or Executor.run, in the thread that runs it"
        )
    return link


def report(value: object, /) -> None:
    """Send `value` to the `on_report` function of the awaiting call.

    Reports arrive in the loop in the order sent, and all before the call's result. With no
    `on_report` the value is dropped. When 256 reports are unread, waits for the loop to catch up.

    Args:
        value: anything; it is handed over by reference in threads.

    Raises:
        UnsupportedOption: the executor cannot carry reports.
        RuntimeError: called outside a call of an executor.

    Example:
        >>> import asyncio
        >>> from aioconc import ThreadExecutor
        >>> def work():
        ...     report("half")
        ...     return "done"
        >>> async def main():
        ...     async with ThreadExecutor() as pool:
        ...         return await pool.options(on_report=print).run(work)
        >>> asyncio.run(main())
        half
        'done'
    """
    _here("report").report(value)


def check_cancelled() -> None:
    """Raise `Cancelled` if the awaiting task was cancelled or its call timed out.

    Call it between steps of long work, so that a cancelled call ends soon. Costs well under a
    microsecond.

    Raises:
        Cancelled: the result is no longer wanted.
        UnsupportedOption: the executor cannot tell its workers.
        RuntimeError: called outside a call of an executor.

    Example:
        >>> import asyncio, time
        >>> from aioconc import offload_io
        >>> def work():
        ...     while True:
        ...         check_cancelled()
        ...         time.sleep(0.001)
        >>> async def main():
        ...     try:
        ...         await offload_io.options(timeout=0.01)(work)
        ...     except TimeoutError:
        ...         return "ended"
        >>> asyncio.run(main())
        'ended'
    """
    _here("check_cancelled").check_cancelled()


@overload
def call_in_loop(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def call_in_loop(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
def call_in_loop(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """The result of `fn(*args, **kwargs)`, called in the loop of the awaiting task.

    If `fn` returns an awaitable (a coroutine function does), the loop awaits it first. The worker
    waits meanwhile.

    Args:
        fn: plain or coroutine function; it must not block the loop.
        *args: passed to `fn`.
        **kwargs: passed to `fn`.

    Returns:
        What `fn` returned, or what its awaitable gave.

    Raises:
        Cancelled: the awaiting task was cancelled meanwhile; the awaitable was then cancelled too.
        UnsupportedOption: the executor has no way back to the loop.
        RuntimeError: called outside a call of an executor, or the loop is closed.
        Exception: what `fn` raised.

    Example:
        >>> import asyncio
        >>> from aioconc import offload_io
        >>> async def ask():
        ...     return 42
        >>> asyncio.run(offload_io(lambda: call_in_loop(ask)))
        42
    """
    return _here("call_in_loop").call_in_loop(fn, args, kwargs)


def info() -> WorkerInfo:
    """Where the calling code runs: executor, call, attempt, process, thread.

    Raises:
        RuntimeError: called outside a call of an executor.

    Example:
        >>> import asyncio
        >>> from aioconc import offload_io
        >>> asyncio.run(offload_io(info)).executor
        'ThreadExecutor'
    """
    executor, name, attempt = _here("info").describe()
    return WorkerInfo(executor, name, attempt, os.getpid(), threading.current_thread().name)
