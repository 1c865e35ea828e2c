"""`greenlet_run` and `await_`: plain code that awaits, without being rewritten as async.

The code runs in a greenlet inside the task that calls it. `await_` leaves the greenlet with an
awaitable, the task awaits it, and the greenlet goes on with what came of it: a value, an error or
the task's cancellation. Nothing runs in parallel and no thread is involved.
"""

import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

from aioconc.errors import MissingExtra
from aioconc.executors._callables import check_function, name_of
from aioconc.tasks._scope import raise_if_cancelled

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _Visit:
    """One `greenlet_run`, as its greenlet knows it: whether its task still awaits for it."""

    # Visit life:  driven <-> parked (in `await_`) -> over
    #                            \-> left: the coroutine was thrown away; nothing is awaited any more
    # Rule 1: the parent of the greenlet is whoever drives it just now. It may change between two steps: an
    #         eager task starts in the greenlet that made it and is resumed by the loop. Where it
    #         ends or awaits, the greenlet goes to its parent.
    # Rule 2: a greenlet can be entered only by its own thread.
    # Rule 3: nothing in here leads to the greenlet, which ends when its last reference goes.
    __slots__ = ("error", "label", "left", "thread")

    def __init__(self, label: str) -> None:
        self.label = label
        self.left = False
        # What the awaitable raised, for the `await_` that is entered next. Raised there instead of
        # by `greenlet.throw`, which leaves out the context: the error that was being handled.
        self.error: BaseException | None = None
        self.thread = threading.get_ident()


async def greenlet_run(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of `fn(*args, **kwargs)`, in which `await_` awaits in this task.

    Equals `fn(*args, **kwargs)`, but that the loop goes on wherever `fn`, or anything that it
    calls, says `await_(awaitable)`. For plain code that is called back by plain code, in whose
    middle something has to be awaited: a parser that asks for more, an ORM, a template.

    It runs in the task itself: `asyncio.current_task()`, context variables (also those that `fn`
    sets), scopes and time-outs are those of the task. What blocks in `fn` blocks the loop; for that
    there is `offload_io`. Calls may be nested, each of them in a greenlet of its own.

    Needs `aioconc[greenlet]`.

    Args:
        fn: a plain function.
        *args: passed to `fn`.
        **kwargs: passed to `fn`.

    Returns:
        What `fn` returned.

    Raises:
        MissingExtra: greenlet is not installed.
        TypeError: `fn` is not a plain function.
        RuntimeError: the coroutine is resumed by another thread than the one that began it.
        Exception: whatever `fn` raised.

    Cancellation:
        `CancelledError` is raised in `fn`, by the `await_` that waits; its `finally` blocks run,
        and may await. If `fn` catches it and returns, so does this call. A coroutine that is thrown
        away raises `GeneratorExit` there instead, and nothing can be awaited any more; if another
        thread collects it as garbage, `GreenletExit`, the next time that the greenlet's own thread
        switches greenlets.

    Example:
        >>> import asyncio
        >>> def total(numbers):  # plain code, which knows nothing of tasks
        ...     return sum(numbers)
        >>> async def fetch(number):
        ...     await asyncio.sleep(0)
        ...     return number
        >>> async def main():
        ...     return await greenlet_run(lambda: total(await_(fetch(n)) for n in (1, 2, 3)))
        >>> asyncio.run(main())
        6
    """
    check_function(fn, "greenlet_run")
    engine = _engine()
    raise_if_cancelled()
    getcurrent, get_ident = engine.getcurrent, threading.get_ident
    driver = getcurrent()
    made = engine.greenlet(fn, driver)
    # The very context of the task, not a copy: the two never run at the same time.
    made.gr_context = driver.gr_context
    visit = _Visit(name_of(fn))
    made._aioconc_visit = visit  # where await_ finds it
    found: Any = made.switch(*args, **kwargs)
    while not made.dead:
        try:
            value = await found
        except GeneratorExit:
            visit.left = True
            if visit.thread == get_ident():
                made.parent = getcurrent()
                visit.error = GeneratorExit()
                made.switch()
            # Else the collector of another thread has found it. The greenlet cannot be entered from
            # there; once its last reference is gone, its own thread ends it with GreenletExit.
            raise
        except BaseException as error:
            if visit.thread != get_ident():
                raise _wrong_thread(visit) from None
            made.parent = getcurrent()
            visit.error = error
            found = made.switch()
        else:
            if visit.thread != get_ident():
                raise _wrong_thread(visit)
            made.parent = getcurrent()
            found = made.switch(value)
            del value
    if isinstance(found, engine.GreenletExit):  # greenlet gives it back instead of raising it
        raise found
    result: R = found
    return result


def await_(awaitable: Awaitable[T], /) -> T:
    """What `await awaitable` gives, in plain code that runs in `greenlet_run`.

    Args:
        awaitable: a coroutine, a future, or anything else that can be awaited.

    Returns:
        What it gave.

    Raises:
        MissingExtra: greenlet is not installed.
        RuntimeError: not called from code that `greenlet_run` runs, in its own thread and greenlet;
            or the coroutine of `greenlet_run` was thrown away. A coroutine is then closed.
        TypeError: `awaitable` cannot be awaited.
        Exception: whatever it raised.

    Cancellation:
        `asyncio.CancelledError` is raised here when the task is cancelled.

    Example:
        >>> import asyncio
        >>> asyncio.run(greenlet_run(lambda: await_(asyncio.sleep(0, "slept"))))
        'slept'
    """
    try:
        current = (_loaded or _engine()).getcurrent()
    except MissingExtra:
        _close(awaitable)
        raise
    visit: _Visit | None = getattr(current, "_aioconc_visit", None)
    if visit is None or visit.left:
        _close(awaitable)
        raise RuntimeError(_refusal(visit))
    if type(awaitable) is not CoroutineType and not inspect.isawaitable(awaitable):
        raise TypeError(
            f"await_ expected an awaitable, got {awaitable!r}; pass what an async function gives, "
            "as in await_(fetch(url))"
        )
    # The stack of a waiting greenlet is to hold no reference to it, which no collector would find.
    parent = current.parent
    del current
    value: T = parent.switch(awaitable)
    if visit.error is not None:
        error, visit.error = visit.error, None
        try:
            raise error
        finally:
            del error
    return value


def _refusal(visit: _Visit | None) -> str:
    if visit is not None:
        return (
            f"the task that ran {visit.label} is gone, its coroutine was closed; nothing can be "
            "awaited in the clean-up any more"
        )
    return (
        "await_() was called outside greenlet_run, in thread "
        f"{threading.current_thread().name!r}; in an async function write `await x`, and run plain "
        "code that is to await with `await greenlet_run(fn)`, in the same thread and greenlet"
    )


def _close(awaitable: object) -> None:
    """Nobody will await it: no complaint about that."""
    if isinstance(awaitable, Coroutine):  # one step of an async generator is one, too
        awaitable.close()


def _wrong_thread(visit: _Visit) -> RuntimeError:
    visit.left = True
    return RuntimeError(
        f"greenlet_run({visit.label}) was begun by another thread than "
        f"{threading.current_thread().name!r}, which resumes it; a greenlet stays in its thread"
    )


_loaded: Any = None


def _engine() -> Any:
    """The package greenlet, loaded when it is first needed."""
    global _loaded
    if _loaded is None:
        try:
            import greenlet
        except ImportError as error:
            raise MissingExtra(
                "greenlet_run needs greenlet, which is not installed; install aioconc[greenlet]"
            ) from error
        _loaded = greenlet
    return _loaded
