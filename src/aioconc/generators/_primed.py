"""`primed`: consumers that are ready for `send` as soon as they are made.

Also tells whether a consumer has begun, which `feed` has to know. Pushing items is left to `_feed`.
"""

import dis
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Y = TypeVar("Y")
S = TypeVar("S")
R = TypeVar("R")


def primed(fn: Callable[P, Generator[Y, S, R]], /) -> Callable[P, Generator[Y, S, R]]:
    """A generator function whose generators take `send` from the start.

    Equals `consumer = fn(...); next(consumer)` at each call. What the first `yield` gives is
    dropped.

    Args:
        fn: generator function with any arguments.

    Returns:
        The function, with the same arguments and name.

    Raises:
        TypeError: `fn` is not a generator function. Async ones need no priming: `feed` does it.
        RuntimeError: when it is called: it ended before its first `yield`, so it can take nothing.

    Example:
        >>> @primed
        ... def printer(prefix):
        ...     while True:
        ...         print(prefix, (yield))
        >>> printer("got").send(1)
        got 1
    """
    name = getattr(fn, "__qualname__", repr(fn))
    if inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"primed is for plain generators, and {name} is async; give {name}(...) to feed, which "
            "starts it"
        )
    if inspect.iscoroutinefunction(fn) or not callable(fn):
        raise TypeError(f"primed expected a generator function, got {fn!r}")

    @functools.wraps(fn)
    def start(*args: P.args, **kwargs: P.kwargs) -> Generator[Y, S, R]:
        consumer = fn(*args, **kwargs)
        if not isinstance(consumer, Generator):
            raise TypeError(f"primed expected a generator function, but {name} gave {consumer!r}")
        try:
            next(consumer)
        except StopIteration:
            raise RuntimeError(
                f"{name} ended before its first yield, so it can take nothing"
            ) from None
        return consumer

    return start


def is_new(consumer: "Generator[Any, Any, Any] | AsyncGenerator[Any, Any]") -> bool:
    """Whether it waits to be advanced to its first `yield`."""
    if inspect.isgenerator(consumer):
        return inspect.getgeneratorstate(consumer) == inspect.GEN_CREATED
    if not inspect.isasyncgen(consumer):
        return False  # hand-written, or from Cython: it does not tell
    if sys.version_info >= (3, 12):
        return inspect.getasyncgenstate(consumer) == inspect.AGEN_CREATED
    frame: Any = consumer.ag_frame
    # The instruction at which a call leaves a generator that has not begun.
    return frame is not None and (
        dis.opname[frame.f_code.co_code[frame.f_lasti]] == "RETURN_GENERATOR"
    )
