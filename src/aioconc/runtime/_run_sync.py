"""`run_sync`: an async function from plain code, whether or not a loop runs here.

Where none does it is `run`. Where one does, as in a notebook, a loop in a thread made for the call
runs the function, and this thread waits. Nothing of the call is left when it returns, except after
a second interrupt, which is logged.
"""

import asyncio
import contextvars
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, TypeVarTuple

from aioconc._bridge._mailbox import mailbox_of
from aioconc.runtime._run import LoopChoice, call_main, check_main, run

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = logging.getLogger("aioconc")


def run_sync(
    fn: Callable[[*Ts], Awaitable[T]] | Coroutine[Any, Any, T],
    /,
    *args: *Ts,
    loop: LoopChoice = "auto",
) -> T:
    """Run an async function from plain code, also where an event loop runs already.

    Equals `run(fn, *args)` where no loop runs in this thread. Where one does (a notebook, a callback,
    a plain function that async code calls), the function runs in a new loop, in a thread made for the
    call, with this thread's context variables. This thread waits meanwhile, and **its loop stands
    still**: what `fn` awaits must not need that loop. In async code, await the function instead.

    Args:
        fn: async function, called with `args`; or a coroutine.
        args: positional arguments of `fn`.
        loop: as for `run`.

    Returns:
        What `fn` returns.

    Raises:
        KeyboardInterrupt: Ctrl-C; `fn` was cancelled and has ended. A second one leaves it behind,
            which is logged. So does what another signal handler raises.
        TypeError: neither an async function nor a coroutine.
        Exception: whatever `fn` raises.

    Cancellation:
        The call blocks, so a cancel of the task that makes it arrives when it has returned.

    Example:
        >>> async def fetch(n):
        ...     await asyncio.sleep(0)
        ...     return n
        >>> run_sync(fetch, 1)
        1
        >>> async def notebook():
        ...     return run_sync(fetch, 2)  # a loop runs here
        >>> asyncio.run(notebook())
        2
    """
    if asyncio._get_running_loop() is None:
        return run(fn, *args, loop=loop)
    check_main("run_sync", fn, args)
    return _Helper(fn, args, loop).result()


# Rule: the caller sets `_unwanted` first and looks for `_task` then; the thread sets `_task` first
#       and asks `_unwanted` then. So one of them sees the other.
class _Helper(Generic[T]):
    """A thread with a loop, for one call."""

    def __init__(
        self,
        fn: Callable[..., Awaitable[T]] | Coroutine[Any, Any, T],
        args: tuple[Any, ...],
        loop: LoopChoice,
    ) -> None:
        self._fn = fn
        self._args = args
        self._loop: LoopChoice = loop
        self._name = getattr(fn, "__qualname__", repr(fn))
        self._task: asyncio.Task[Any] | None = None
        self._unwanted = False
        self._outcome: Future[T] = Future()

    def result(self) -> T:
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._work,), name=f"run_sync {self._name}", daemon=True
        )
        try:
            thread.start()
        except BaseException:  # no thread to be had
            if isinstance(self._fn, Coroutine):
                self._fn.close()
            raise
        with _interruptible():
            interrupt = self._wait()
        thread.join()
        outcome, self._outcome = self._outcome, Future()
        try:
            return outcome.result()
        except asyncio.CancelledError:
            if interrupt is not None:
                raise interrupt from None
            raise
        finally:
            del outcome, interrupt

    def _wait(self) -> BaseException | None:
        """Wait for the end; the interrupt that hurried it, if there was one."""
        interrupt: BaseException | None = None
        while True:
            try:
                self._outcome.exception()
            except BaseException as error:  # raised by a signal handler
                if self._outcome.done():
                    raise
                if interrupt is not None:
                    _log.error("interrupted twice: %s is left running in its thread", self._name)
                    raise
                interrupt = error
                self._unwanted = True
                if (task := self._task) is not None:
                    loop = task.get_loop()
                    mailbox_of(loop).post(loop, task.cancel)
                continue
            return interrupt

    def _work(self) -> None:
        """In the thread."""
        try:
            result = run(self._main, loop=self._loop)
        except BaseException as error:
            if isinstance(self._fn, Coroutine):
                self._fn.close()  # if it has not begun, since there was no loop
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(result)

    async def _main(self) -> T:
        self._task = asyncio.current_task()
        if self._unwanted:
            raise asyncio.CancelledError
        return await (
            self._fn
            if isinstance(self._fn, Coroutine)
            else call_main("run_sync", self._fn, self._args)
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """For the length of a block, Ctrl-C raises KeyboardInterrupt here.

    The handlers of `asyncio.run` and `run` cancel a task of the loop, which stands still.
    """
    handler = None
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # not Python's, or ignored
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
