"""`open_portal`: call into this event loop from threads that have none.

A block owns the calls: it guarantees that none outlives it, and that no thread waits for an answer
that will not come. Calls from work that aioconc runs itself need no portal:
`aioconc.worker.call_in_loop`.
"""

# anyio has a portal as well. Its calls run in a scope of its own, which fails where the loop's
# tasks are eager, and which cancels each await of a clean-up anew.
#
# A call:   posted -> running -> answered
#              \---------------/
# Rule 1: a call is in `_posted` or in `_running`, until its future is answered.
# Rule 2: `_posted` and `_closed` are changed with `_lock`, so that a call is either found by `close`
#         or refused. `_running` is changed in the loop only.

import asyncio
import contextvars
import threading
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar, overload

from aioconc._bridge._mailbox import mailbox_of
from aioconc.errors import TaskCancelled

P = ParamSpec("P")
R = TypeVar("R")

# Seconds after which a waiting thread looks whether the loop was closed, which wakes nobody.
_LOOK = 0.5


class Portal:
    """A way into one event loop for other threads: what `open_portal` gives."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._posted: set[Future[Any]] = set()
        self._running: dict[asyncio.Task[Any], Future[Any]] = {}
        self._closed = False

    @overload
    def call(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """The result of `fn(*args, **kwargs)`, called in the loop; this thread waits for it.

        Args:
            fn: plain or async function. A plain one runs in one turn of the loop, and must not
                block it.
            *args: passed to `fn`.
            **kwargs: passed to `fn`.

        Raises:
            RuntimeError: an event loop runs in this thread; or the portal is closed, or its loop.
            TaskCancelled: the call was cancelled in the loop, as at the end of a block that failed.
            Exception: what `fn` raised.
        """
        if _get_running_loop() is not None:
            raise RuntimeError(
                "portal.call would block the event loop that runs in this thread; write "
                "`await fn(...)`, or `portal.start_task_soon(fn, ...)` for a portal of another loop"
            )
        future = self.start_task_soon(fn, *args, **kwargs)
        try:
            while not wait((future,), timeout=_LOOK).done:
                if self._loop.is_closed():
                    self._abandon()
        except BaseException:  # KeyboardInterrupt
            future.cancel()
            raise
        return future.result()

    @overload
    def start_task_soon(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]: ...
    @overload
    def start_task_soon(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[R]: ...
    def start_task_soon(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As `call`, but without waiting: the future of the result. Any thread may call it.

        `future.cancel()` cancels what runs in the loop for it.

        Raises:
            RuntimeError: the portal is closed, or its loop. All else is raised by the future.
        """
        future: Future[Any] = Future()
        context = contextvars.copy_context()
        with self._lock:
            if self._closed:
                raise self._too_late()
            self._posted.add(future)
        if not mailbox_of(self._loop).post(
            self._loop, lambda: self._start(future, context, fn, args, kwargs)
        ):
            self._abandon()
        return future

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Portal {state}, {len(self._running)} running, {len(self._posted)} posted>"

    # ------------------------------------------------------------------ in the loop

    def _start(
        self,
        future: Future[Any],
        context: contextvars.Context,
        fn: Callable[..., Any],
        args: Any,
        kwargs: Any,
    ) -> None:
        with self._lock:
            if future not in self._posted:  # the portal was closed
                return
            self._posted.remove(future)
        if future.cancelled():
            _answer(future, None, None)
            return
        try:
            result = context.run(fn, *args, **kwargs)
        except BaseException as error:
            _answer(future, error, None)
            if not isinstance(error, Exception):
                raise
            return
        if not hasattr(result, "__await__"):
            _answer(future, None, result)
            return
        coro = result if asyncio.iscoroutine(result) else _await(result)
        name = f"portal call of {getattr(fn, '__qualname__', type(fn).__qualname__)}"
        task = self._loop.create_task(coro, name=name, context=context)
        self._running[task] = future
        task.add_done_callback(self._finish)
        future.add_done_callback(lambda _: self._cancel_if_unwanted(task, future))

    def _cancel_if_unwanted(self, task: "asyncio.Task[Any]", future: Future[Any]) -> None:
        """In any thread: the future is done."""
        if future.cancelled():
            mailbox_of(self._loop).post(self._loop, task.cancel)

    def _finish(self, task: "asyncio.Task[Any]") -> None:
        future = self._running.pop(task, None)
        if future is None:  # answered by `_abandon`
            if not task.cancelled():
                task.exception()
        elif task.cancelled():
            _answer(future, TaskCancelled(f"{task.get_name()} was cancelled in the loop"), None)
        elif (error := task.exception()) is not None:
            _answer(future, error, None)
        else:
            _answer(future, None, task.result())

    def _too_late(self) -> RuntimeError:
        what = "the event loop of this portal" if self._loop.is_closed() else "this portal"
        return RuntimeError(f"{what} is closed; nothing can be called in it")

    def _close(self) -> None:
        """Refuse calls from now on, and those that have not begun."""
        with self._lock:
            self._closed = True
            posted, self._posted = self._posted, set()
        for future in posted:
            _answer(future, self._too_late(), None)

    def _abandon(self) -> None:
        """Nobody will wait for the calls, or the loop is gone: answer now."""
        self._close()
        while self._running:
            task, future = self._running.popitem()
            if not self._loop.is_closed():
                task.cancel()
            _answer(future, self._too_late(), None)

    async def _join(self, *, cancel: bool) -> None:
        """Wait until no call runs any more."""
        from aioconc.tasks._join import join  # here, so that programs which only `run` load less

        tasks = [*self._running]

        def hurry(_: object) -> None:
            # Once, so that their clean-up is left alone.
            while tasks:
                tasks.pop().cancel()

        if cancel:
            hurry(None)
        caught = await join(*self._running, on_cancel=hurry)
        if caught is not None:
            try:
                raise caught
            finally:
                caught = None


def _answer(future: Future[Any], error: BaseException | None, value: Any) -> None:
    """Answer, if the answer is wanted; else tell those who wait that it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def _runs(task: "asyncio.Task[Any] | None") -> bool:
    """Whether this is the task that runs here: GeneratorExit then closes an async generator in it."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs
        return False


async def _await(awaitable: Awaitable[R]) -> R:
    return await awaitable


@asynccontextmanager
async def open_portal() -> AsyncIterator[Portal]:
    """A way into this event loop for threads of others, for the length of a block.

    Equals `anyio.from_thread.BlockingPortal()`, with the same `call` and `start_task_soon`. Each call
    runs with a copy of the context variables of the thread that made it, and what it raises is
    raised there, and does not end the block.

    Returns:
        An async context manager that gives the portal. Its end refuses calls that have not begun
        and waits for those that have. If the block fails, or is cancelled, they are cancelled
        first, and raise `TaskCancelled` in their threads.

    Cancellation:
        Of a task that waits at the end of the block: the calls are cancelled, and it goes on when
        they have ended.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with open_portal() as portal:
        ...         return await asyncio.to_thread(portal.call, asyncio.sleep, 0, "slept")
        >>> asyncio.run(main())
        'slept'
    """
    portal = Portal()
    host = asyncio.current_task()
    try:
        yield portal
    except BaseException as error:
        if isinstance(error, GeneratorExit) and not _runs(host):
            portal._abandon()  # destroyed: there is no loop to await in
            raise
        portal._close()
        await portal._join(cancel=True)
        raise
    portal._close()
    await portal._join(cancel=False)
