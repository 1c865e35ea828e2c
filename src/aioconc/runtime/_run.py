"""`run`: one call that starts a program and ends it in order.

The loop's life is `asyncio.Runner`'s: leftover tasks, async generators and the default executor
end as they do under `asyncio.run`. This module chooses the loop and turns what happened into the
result or exception that a user expects; what signals do is in `_signals.py`.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import ExitStack
from typing import Any, Literal, TypeVar, TypeVarTuple

from aioconc._internal._check import check_choice, check_timeout
from aioconc._internal._where import stack_of
from aioconc.errors import MissingExtra
from aioconc.runtime._signals import SignalWatch, check_signals
from aioconc.runtime._wake_up import woken_by_signals

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LoopChoice = Literal["auto", "asyncio", "uvloop"] | Callable[[], asyncio.AbstractEventLoop]

_log = logging.getLogger("aioconc")


def run(
    main: Callable[[*Ts], Awaitable[T]] | Coroutine[Any, Any, T],
    /,
    *args: *Ts,
    loop: LoopChoice = "auto",
    signals: Collection[int] = (signal.SIGINT, signal.SIGTERM),
    grace: float | None = 10.0,
    debug: bool | None = None,
    eager_tasks: bool = False,
) -> T:
    """Run an async function as the whole program, and end it in order when a signal asks.

    Equals `asyncio.run(main(*args))`, but on uvloop when that is installed, and SIGTERM ends the
    program as Ctrl-C does. The first signal cancels `main`. A second one, or `grace` seconds,
    force the end: what still runs is logged with its stack, everything is cancelled once more,
    and after at most one further second `run` raises and leaves behind what has not ended.

    Args:
        main: async function, called with `args` inside the loop; or a coroutine, as for
            `asyncio.run`.
        args: positional arguments of `main`.
        loop: "auto" for uvloop when it is installed, else asyncio's own; "asyncio"; "uvloop"; or
            a function that makes a loop.
        signals: those that end the program. Signals that the process ignores stay ignored. In a
            thread other than the main one signals are left alone.
        grace: seconds >= 0 that `main` and its tasks may take to end after the first signal; None
            to wait until a second one.
        debug: asyncio's debug mode; None for the default.
        eager_tasks: whether a task runs to its first suspension when it is created, as with
            `asyncio.eager_task_factory`. Faster where most never suspend; order of steps differs.

    Returns:
        What `main` returns, also when it caught the cancellation of a signal.

    Raises:
        KeyboardInterrupt: SIGINT ended `main`, or forced the end.
        SystemExit: another signal did; the status is 128 + its number, 143 for SIGTERM.
        MissingExtra: `loop="uvloop"`, and uvloop is not installed.
        RuntimeError: an event loop runs in this thread already; or `eager_tasks` before Python 3.12.
        Exception: whatever `main` raises.

    Cancellation:
        `main` is cancelled by the first signal. Threads cannot be ended: Python waits at exit for
        those of the default executor, also after a forced end.

    Example:
        >>> async def main(name):
        ...     return f"hello, {name}"
        >>> run(main, "world")
        'hello, world'
    """
    check_main("run", main, args)
    try:
        _check_no_loop()
        numbers = check_signals(signals)
        grace = check_timeout("grace", grace)
        factory = _loop_factory(loop)
        if eager_tasks:
            _check_eager()
    except BaseException:
        if isinstance(main, Coroutine):
            main.close()
        raise

    async def entry() -> T:
        watch.begin(asyncio.get_running_loop(), asyncio.current_task())
        return await (main if isinstance(main, Coroutine) else call_main("run", main, args))

    with SignalWatch(numbers, grace) as watch, ExitStack() as stack:
        runner = asyncio.Runner(debug=debug, loop_factory=factory)
        try:
            made = runner.get_loop()
            if eager_tasks:
                made.set_task_factory(_eager_task)
            # Here and not in `entry`: a coroutine that a forced end leaves behind leaves no block.
            stack.enter_context(woken_by_signals(made))
        except BaseException:  # the factory failed, for example
            if isinstance(main, Coroutine):
                main.close()
            runner.close()
            raise
        try:
            try:
                result = runner.run(entry())
            except asyncio.CancelledError:
                if watch.ended_main():
                    raise watch.exit_error() from None
                raise
            except (KeyboardInterrupt, SystemExit):
                if watch.forced:
                    _report_tasks(runner.get_loop())
                raise
        finally:
            _close(runner, watch)
    if watch.unheard:
        raise watch.exit_error()
    return result


def _close(runner: asyncio.Runner, watch: SignalWatch) -> None:
    forced_before = watch.forced
    loop = runner.get_loop()
    try:
        runner.close()
    except (KeyboardInterrupt, SystemExit):
        if not forced_before:
            _report_tasks(loop)
            raise
        # What forced the end is on its way out already; this only ended the last moments.


def _report_tasks(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        stack = stack_of(task.get_coro())
        _log.error("forced to end while %r was still running:\n%s", task.get_name(), stack)


def _loop_factory(choice: LoopChoice) -> Callable[[], asyncio.AbstractEventLoop]:
    if callable(choice):
        return choice
    check_choice("loop", choice, ("auto", "asyncio", "uvloop"))
    if choice != "asyncio":
        try:
            import uvloop
        except ImportError as error:
            if choice == "uvloop":
                raise MissingExtra(
                    "loop='uvloop' needs uvloop, which is not installed; "
                    "install aioconc[uvloop], or pass loop='auto'"
                ) from error
        else:
            new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
            return new_event_loop
    if sys.platform == "win32":  # pragma: no cover - the tests run on POSIX systems
        return asyncio.ProactorEventLoop
    return asyncio.SelectorEventLoop


def check_main(what: str, main: Any, args: tuple[Any, ...]) -> None:
    """Refuse what is neither an async function nor a coroutine."""
    is_coroutine = isinstance(main, Coroutine)
    if not is_coroutine and not callable(main):
        raise TypeError(f"{what} expected an async function or a coroutine, got {main!r}")
    if is_coroutine and args:
        name = getattr(main, "__qualname__", "main")
        main.close()
        raise TypeError(
            f"{what} got a coroutine and arguments for it; did you mean {what}({name}, ...) "
            f"without calling it?"
        )


def _check_no_loop() -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "run cannot start an event loop where one is running; await the function instead, or "
            "use aioconc.runtime.run_sync in plain code"
        )


def _check_eager() -> None:
    if sys.version_info < (3, 12):
        raise RuntimeError(
            "eager_tasks needs Python 3.12 or newer, and this is "
            f"{sys.version_info.major}.{sys.version_info.minor}; leave it out"
        )


class _NamedTask(asyncio.Task[Any]):
    """A task whose name is not taken away: CPython 3.13.0 sets None on those that a factory made."""

    def set_name(self, value: object, /) -> None:
        if value is not None:
            super().set_name(value)


def _eager_task(
    loop: asyncio.AbstractEventLoop,
    coro: Any,
    *,
    eager_start: bool | None = None,
    **options: Any,
) -> "asyncio.Task[Any]":
    # As asyncio.eager_task_factory, which before 3.14 refuses the `eager_start` that uvloop passes.
    options["eager_start"] = eager_start is not False
    kind = _NamedTask if sys.version_info[:2] == (3, 13) else asyncio.Task
    return kind(coro, loop=loop, **options)


async def call_main(what: str, main: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    """Await what `main(*args)` gives."""
    result = main(*args)
    if not hasattr(result, "__await__"):
        name = getattr(main, "__qualname__", repr(main))
        raise TypeError(f"{name} returned {result!r}; {what} expects an async function")
    return await result
