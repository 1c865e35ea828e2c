"""What runs in a process of a `concurrent.futures` pool for each call.

Unpickles, calls, pickles the outcome. Nothing that the call does or is made of can hurt the worker:
every failure, also of pickling, becomes part of the reply. Loads no asyncio.
"""

import pickle
import signal
from typing import Any

from aioconc._wire._pickled import pickled
from aioconc.worker._failures import Reply, cannot_pickle, cannot_unpickle, failed
from aioconc.worker._link import Link
from aioconc.worker._place import set_link


class ProcessLink(Link):
    """A process of a `concurrent.futures` pool has no way back to the loop."""

    __slots__ = ("_description",)

    def __init__(self, description: tuple[str, str, int]) -> None:
        self._description = description

    def describe(self) -> tuple[str, str, int]:
        return self._description


def quiet() -> None:
    """Set up a worker: Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_pickled(data: bytes, description: tuple[str, str, int]) -> Reply:
    """Run one pickled call `(fn, args, kwargs)`."""
    before = set_link(ProcessLink(description))
    label = description[1]
    try:
        try:
            fn, args, kwargs = pickle.loads(data)
        except BaseException as error:
            return failed(cannot_unpickle(label, error), error)
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            return failed(error, error)
        del fn, args, kwargs
        try:
            return True, pickled(value), "", None
        except BaseException as error:
            return failed(cannot_pickle(f"the result of {label}", value, error), error)
    finally:
        set_link(before)


class Chunk:
    """Calls a function for each tuple of arguments that it is given, and is called like it."""

    def __init__(self, fn: Any, name: str) -> None:
        self._fn = fn
        self.__qualname__ = name

    def __call__(self, rows: list[tuple[Any, ...]]) -> list[Any]:
        """One result for each."""
        return [self._fn(*row) for row in rows]
