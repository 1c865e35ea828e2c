"""`drive`: a generator whose yields are awaitables, run as an awaitable.

It guarantees what `yield from` guarantees: values sent, exceptions thrown, `close` and the return
value pass unchanged. Which task runs it is left to the caller; nothing here creates one.
"""

import inspect
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

R = TypeVar("R")


def drive(generator: Generator[Any, Any, R], /) -> Coroutine[Any, Any, R]:
    """Run a generator that yields what it waits for, as a coroutine.

    Equals `await fn()` for a generator function `fn` that had been written with `async def`, and
    `await` for each `yield`. Made for code in the style from before `async def`, of Tornado,
    Twisted or asyncio's `@coroutine`:

    - `result = yield awaitable` waits for the awaitable and gives its result;
    - `result = yield from future`, or another such generator, does the same;
    - a bare `yield` lets other tasks run.

    Args:
        generator: a new generator object, such as `fn(1)`; what `types.coroutine` gives is one too.

    Returns:
        A coroutine: await it, or give it to `create_task`. It has the generator's name.

    Raises:
        TypeError: not a generator. In the generator, at its `yield`: what it yielded cannot be
            awaited.
        RuntimeError: the generator has begun or ended already.
        Exception: whatever the generator raises.

    Cancellation:
        The `CancelledError` is raised at the `yield` where the generator waits, as at an `await`;
        it may clean up there, and yield more awaitables to do so.

    Example:
        >>> import asyncio
        >>> def total(n):
        ...     one = yield asyncio.sleep(0.001, n)
        ...     two = yield from asyncio.ensure_future(asyncio.sleep(0.001, n))
        ...     return one + two
        >>> asyncio.run(drive(total(21)))
        42
    """
    _check(generator)
    coroutine: Any = _drive(generator)
    coroutine.__name__ = getattr(generator, "__name__", "drive")
    coroutine.__qualname__ = _name(generator)
    driven: Coroutine[Any, Any, R] = coroutine
    return driven


async def _drive(generator: Generator[Any, Any, R]) -> R:
    return await _steps(generator)


# One turn: the generator yields -> what it waits for ends -> its outcome goes back in.
@types.coroutine
def _steps(generator: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
    step: Any = generator.send
    outcome: Any = None
    try:
        while True:
            try:
                wanted = step(outcome)
            except StopIteration as end:
                result: R = end.value
                return result
            outcome = None
            try:
                # A future on its way to the task that runs this, or a pass of the loop: what a
                # `yield from` inside the generator hands out, and asyncio answers to.
                if wanted is None or getattr(wanted, "_asyncio_future_blocking", None):
                    outcome = yield wanted
                else:
                    outcome = yield from _awaiting(generator, wanted)
                step = generator.send
            except GeneratorExit:
                generator.close()
                raise
            except BaseException as error:
                step, outcome = generator.throw, error
            wanted = None
    finally:
        # An exception holds this frame: do not let the frame hold it.
        outcome = wanted = step = None


def _awaiting(generator: Generator[Any, Any, Any], wanted: Any) -> Generator[Any, Any, Any]:
    if not inspect.isawaitable(wanted):
        if isinstance(wanted, Generator):
            remedy = "write `yield from` for another generator of this kind"
        elif callable(wanted):
            remedy = "call it: yield what it returns"
        elif isinstance(wanted, (list, tuple, set)):
            remedy = "yield gather_limited(items, limit=...) to wait for several"
        else:
            remedy = "a generator that is driven yields awaitables, or nothing to let others run"
        raise TypeError(f"{_name(generator)} yielded {wanted!r}, which cannot be awaited; {remedy}")
    if isinstance(wanted, Generator):  # of `types.coroutine`, which has no `__await__`
        return (yield from wanted)
    return (yield from wanted.__await__())


def _name(generator: Any) -> str:
    return getattr(generator, "__qualname__", "drive")


def _check(generator: Any) -> None:
    if isinstance(generator, types.GeneratorType):
        state = inspect.getgeneratorstate(generator)
        if state != inspect.GEN_CREATED:
            done = "ended" if state == inspect.GEN_CLOSED else "begun"
            raise RuntimeError(
                f"drive takes a new generator, and {generator.__qualname__} has {done} already; "
                "call the function again"
            )
        return
    if isinstance(generator, Generator):  # from Cython, say; it does not tell its state
        return
    rule = "drive expected a generator"
    if inspect.isgeneratorfunction(generator):
        name = generator.__qualname__
        raise TypeError(f"{rule}, got the function {name}; did you mean drive({name}(...))?")
    if isinstance(generator, Coroutine):
        generator.close()
        raise TypeError(f"{rule}, got a coroutine; await it directly")
    if inspect.isasyncgen(generator):
        raise TypeError(f"{rule}, got an async generator; use `async for`, or safe_stream")
    raise TypeError(f"{rule}, got {generator!r}")
