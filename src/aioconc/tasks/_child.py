"""How the child of a task group begins: its coroutine, its name, its report that it is ready.

A function that a group runs is called inside the child, so that an error of the call is the
child's error. Only coroutine functions are called beforehand, which nobody can notice: it saves
a coroutine in between, and the child shows as itself in tracebacks and task lists.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from inspect import CO_COROUTINE
from typing import Any, Generic, TypeVar

from aioconc.tasks._handle import TaskHandle

T = TypeVar("T")


class TaskStatus(Generic[T]):
    """Given to a function that `TaskGroup.start` starts; it calls `started` once it is ready."""

    __slots__ = ("_ready",)

    def __init__(self, ready: "asyncio.Future[T]") -> None:
        self._ready = ready

    def started(self, value: T = None) -> None:  # type: ignore[assignment]  # None is for T=None
        """Let `TaskGroup.start` return `value`.

        Raises:
            RuntimeError: called a second time.
        """
        if self._ready.done():
            raise RuntimeError("started() was already called, or the starter is gone")
        self._ready.set_result(value)


@dataclass(slots=True)
class Queued:
    """A child of `start_soon` that waits for a slot, and the context of the call."""

    handle: TaskHandle[Any]
    fn: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]
    context: Context


def coroutine_of(fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> Coroutine[Any, Any, T]:
    """A coroutine that does what `await fn(*args)` does."""
    code = getattr(fn, "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        try:
            return fn(*args)  # type: ignore[return-value]  # told by its flags
        except TypeError:
            pass  # wrong arguments: the child shall fail with it, see below
    return called(fn, args)


async def called(fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], **kwargs: Any) -> T:
    """Call `fn` and await what it returns."""
    result = fn(*args, **kwargs)
    if not hasattr(result, "__await__"):
        raise TypeError(
            f"{name_of(fn)} returned {result!r}, which cannot be awaited; "
            f"a task group runs async functions"
        )
    return await result


def check_fn(call: str, fn: object) -> None:
    """Refuse what cannot be called, and show the right line where a coroutine was given."""
    if callable(fn):
        return
    if asyncio.iscoroutine(fn):
        name = getattr(fn, "__qualname__", "fn")
        fn.close()
        raise TypeError(
            f"{call} expected an async function, got a coroutine; "
            f"did you mean {call}({name}, ...) without calling it?"
        )
    raise TypeError(f"{call} expected an async function, got {fn!r}")


def name_of(fn: object) -> str:
    """The name that a child gets from its function."""
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__
