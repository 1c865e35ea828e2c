"""What a user passes as the function of a call: its name, and whether it will do.

The common slips (a coroutine, an async function, a result in place of the function) get an error
that shows the line which was probably meant.
"""

import functools
import inspect
from collections.abc import Coroutine
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NoReturn

_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_ASYNC = _COROUTINE | inspect.CO_ASYNC_GENERATOR


def is_plain(fn: Any) -> bool:
    """Whether it is a plain function, as nearly all are: there is nothing to refuse."""
    kind = type(fn)
    return kind is BuiltinFunctionType or (
        kind is FunctionType and not fn.__code__.co_flags & _ASYNC
    )


def check_function(
    fn: Any, caller: str, *, coroutines: bool = False, async_generators: bool = False
) -> None:
    """Refuse what is not a plain function, with the line that was probably meant.

    Args:
        fn: what was passed.
        caller: to whom.
        coroutines: an async function will do as well.
        async_generators: an async generator function will do as well.
    """
    if is_plain(fn):
        return
    inner = fn
    while isinstance(inner, (functools.partial, MethodType)):
        inner = inner.func if isinstance(inner, functools.partial) else inner.__func__
    if isinstance(inner, FunctionType):
        flags = inner.__code__.co_flags
        if flags & inspect.CO_ASYNC_GENERATOR:
            if not async_generators:
                _refuse_async_generator(name_of(fn), caller)
        elif flags & _COROUTINE and not coroutines:
            _refuse_async_function(name_of(fn), caller, async_generators)
        return
    if isinstance(fn, Coroutine):
        name = name_of(fn)
        fn.close()
        raise TypeError(
            f"{caller} expected a plain function, got coroutine {name}(...); "
            f"did you mean `await {name}(...)`, or {caller}(fn, arg) with a plain function?"
        )
    if callable(fn):
        if not coroutines and inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004  # its kind
            raise TypeError(
                f"{caller} expected a plain function, got {name_of(fn)}, whose calls give "
                "coroutines; await it itself, or pass the part of it that blocks"
            )
    else:
        shown = repr(fn)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise TypeError(
            f"{caller} expected a function and its arguments, got {shown}; "
            f"did you mean {caller}(fn, arg) instead of {caller}(fn(arg))?"
        )


def _refuse_async_function(name: str, caller: str, generators: bool) -> NoReturn:
    if generators:
        raise TypeError(
            f"{caller} expected a generator function, got the async function {name}, which gives "
            "one value; await run() with it instead"
        )
    raise TypeError(
        f"{caller} expected a plain function, got the async function {name}; await {name}(...) "
        "itself, or pass the part of it that blocks; only ProcessExecutor.run takes async "
        "functions, and runs them in a loop of the worker"
    )


def _refuse_async_generator(name: str, caller: str) -> NoReturn:
    raise TypeError(
        f"{caller} expected a plain function, got the async generator function {name}; iterate "
        f"it itself, or iterate it in a worker with ProcessExecutor.stream"
    )


def name_of(fn: Any) -> str:
    """The name by which a user knows `fn`."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__
