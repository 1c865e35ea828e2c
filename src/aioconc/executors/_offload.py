"""`offload_io`, `offload_cpu` and `use`: calls to the default executor of each kind.

The defaults are made at the first call, serve the whole process, and are gone at interpreter
exit. `use` replaces them for one block and all tasks started in it. What executors do is left to
them.
"""

import contextvars
import os
import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Generic, ParamSpec, TypeVar, Unpack

from aioconc._internal._check import check_choice
from aioconc.executors._base import KINDS, Executor, Kind
from aioconc.executors._callables import check_function
from aioconc.executors._options import Options, check_options

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=Executor)

_scoped: contextvars.ContextVar[Mapping[str, Executor]] = contextvars.ContextVar(
    "aioconc_executors",
    default=MappingProxyType[str, Executor]({}),  # is frozen
)
_defaults: dict[str, Executor] = {}
_lock = threading.Lock()


def default_executor(kind: Kind) -> Executor:
    """The executor that `offload_io` or `offload_cpu` would use here and now."""
    found = _scoped.get().get(kind)
    if found is None:
        found = _defaults.get(kind)
        if found is None:
            with _lock:
                found = _defaults.get(kind)
                if found is None:
                    found = _defaults[kind] = _make(kind)
    return found


def _make(kind: Kind) -> Executor:
    if kind == "io":
        from aioconc.executors._thread import ThreadExecutor

        return ThreadExecutor(name="offload_io")
    if kind == "cpu":
        if sys.platform == "win32":  # no descriptors can be handed to a worker there
            from aioconc.executors._futures import FuturesExecutor

            return FuturesExecutor.over_processes(name="offload_cpu")
        from aioconc.executors.process import ProcessExecutor

        return ProcessExecutor(name="offload_cpu")
    raise LookupError(
        f"there is no default executor for {kind!r} work; set one with "
        f"`async with aioconc.use(executor, {kind!r})`"
    )


def _forget_defaults() -> None:
    """In a forked child the defaults have no workers; make new ones there."""
    global _lock
    _lock = threading.Lock()
    _defaults.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_defaults)


class Offload:
    """Calls the default executor of one kind; `offload_io` and `offload_cpu` are two of these."""

    def __init__(self, kind: Kind, options: Options | None = None, doc: str = "") -> None:
        self._kind: Kind = kind
        self._options = options
        # The executor that the options were last checked against, and its view with them.
        self._bound: tuple[Executor, Executor] | None = None
        if doc:
            self.__doc__ = doc
        self.__name__ = self.__qualname__ = f"offload_{kind}"

    async def __call__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        check_function(fn, self.__name__)
        return await self.executor.run(fn, *args, **kwargs)

    def options(self, **options: Unpack[Options]) -> "Offload":
        """The same with other options, which `Executor.options` describes.

        Values are checked now; whether the executor in use can honour them, when it is called.

        Example:
            >>> import asyncio
            >>> from aioconc import offload_io
            >>> asyncio.run(offload_io.options(timeout=5)(pow, 2, 3))
            8
        """
        merged: Options = {**(self._options or {}), **check_options(options)}
        return Offload(self._kind, merged)

    @property
    def executor(self) -> Executor:
        """The executor that a call here and now would use, with these options."""
        executor = default_executor(self._kind)
        if self._options is None:
            return executor
        bound = self._bound
        if bound is None or bound[0] is not executor:
            bound = self._bound = (executor, executor.options(**self._options))
        return bound[1]

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in (self._options or {}).items())
        return f"<{self.__name__}{f' with {shown}' if shown else ''}>"


offload_io = Offload(
    "io",
    doc="""The result of `fn(*args, **kwargs)`, run in a thread, for work that waits.

    Equals `await asyncio.to_thread(fn, *args, **kwargs)`, on threads of its own (not the loop's,
    which also look up host names), and with a known fate for cancelled calls.

    Args:
        fn: a plain function.
        *args: passed to `fn`.
        **kwargs: passed to `fn`. Options go on `offload_io.options(...)`.

    Returns:
        What `fn` returned.

    Raises:
        TaskCancelled: `fn` itself raised `CancelledError`.
        WorkerExit: `fn` raised `SystemExit` or another exception that ends programs.
        Exception: whatever else `fn` raised.

    Cancellation:
        While the call is queued, `fn` never starts. Once it runs it cannot be stopped: this call
        returns when `fn` has ended, which `aioconc.worker.check_cancelled()` in it can hasten;
        with `offload_io.options(on_cancel="abandon")` it returns at once and the thread runs on.

    Example:
        >>> import asyncio
        >>> from aioconc import offload_io
        >>> asyncio.run(offload_io(sum, [1, 2, 3]))
        6
    """,
)

offload_cpu = Offload(
    "cpu",
    doc="""The result of `fn(*args, **kwargs)`, run in another process, for work that computes.

    Equals `await loop.run_in_executor(ProcessPoolExecutor(), ...)`, with lambdas, closures and
    functions of `__main__`, and with a known fate for cancelled calls. A script needs no
    `if __name__ == "__main__":` guard for it.

    Args:
        fn: a plain function; pickled, or sent by value with cloudpickle when it must be.
        *args: passed to `fn`, pickled.
        **kwargs: passed to `fn`, pickled. Options go on `offload_cpu.options(...)`.

    Returns:
        What `fn` returned, pickled and unpickled.

    Raises:
        WorkerCrashed: the worker process died.
        SerializationError: an argument or the result cannot be pickled.
        TaskCancelled: `fn` itself raised `CancelledError`.
        WorkerExit: `fn` raised `SystemExit` or another exception that ends programs.
        Exception: whatever else `fn` raised, with the worker's traceback as its cause.

    Cancellation:
        While the call is queued, `fn` never starts. Once it runs, its process is killed, and this
        call returns when it has ended; the next call gets another process. With
        `on_cancel="soft"` the function is asked first, and killed after `grace`; with "wait" this
        call returns when the function has ended, with "abandon" at once. (On Windows no call can
        be killed: there the default is "wait". This library has not been run there.)

    Example:
        >>> import asyncio
        >>> from aioconc import offload_cpu
        >>> asyncio.run(offload_cpu(sum, [1, 2, 3]))
        6
    """,
)


class use(Generic[E]):  # noqa: N801  # reads as a verb: `async with use(executor):`
    """Make `executor` the default of its kind for a block and for all tasks started in it.

    The block owns the executor and closes it at the end, waiting for its calls (cancelling them
    if the block failed), so that one line moves `offload_cpu` elsewhere. An executor that is to
    live on is used with `close=False`.

    Args:
        executor: what is to run the calls.
        *kinds: which defaults it replaces: "io", "cpu", "gpu"; by default those it is made for
            (`executor.kinds`).
        close: close it at the end of the block.

    Returns:
        An async context manager that gives the executor.

    Raises:
        TypeError: `executor` is not an `Executor`.
        ValueError: no such kind.

    Cancellation:
        As `Executor.aclose`.

    Example:
        >>> import asyncio
        >>> from aioconc import ThreadExecutor, offload_cpu, use
        >>> async def main():
        ...     async with use(ThreadExecutor(), "cpu"):
        ...         return await offload_cpu(max, 1, 2)
        >>> asyncio.run(main())
        2
    """

    def __init__(self, executor: E, /, *kinds: Kind, close: bool = True) -> None:
        if not isinstance(executor, Executor):
            raise TypeError(
                f"use expected an aioconc executor, got {executor!r}; "
                "wrap one of concurrent.futures in FuturesExecutor(...)"
            )
        for kind in kinds:
            check_choice("kind", kind, KINDS)
        self._executor = executor
        self._kinds = kinds or executor.kinds
        self._close = close
        self._token: contextvars.Token[Mapping[str, Executor]] | None = None

    async def __aenter__(self) -> E:
        if self._token is not None:
            raise RuntimeError("this use(...) is entered already; make one for each block")
        scoped = _scoped.get()
        self._token = _scoped.set({**scoped, **dict.fromkeys(self._kinds, self._executor)})
        return self._executor

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        assert token is not None
        try:
            _scoped.reset(token)
        except ValueError:
            # Entered in another context, as a fixture may be: nothing to put back here.
            pass
        if self._close:
            await self._executor.aclose(cancel=kind is not None)
