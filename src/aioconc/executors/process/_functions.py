"""Functions in pickled form: those that are found by their name are pickled once.

Such a function is sent to each worker once and called by its number from then on. All others
(lambdas, closures, bound methods, partials) are pickled with the arguments of every call, since
what they carry may change in between.
"""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final

from aioconc._wire._body import dump
from aioconc._wire._call import CALL_HEAD, KEEP

# Functions that are remembered; more than a program calls in turn, and few kilobytes.
_MOST: Final = 256


class Function:
    """What is sent for a function: the number of one that is found by its name, or its label.

    Args:
        fn: held, so that no other function can come to have its identity; None: it is pickled with
            every call.
        number: from 1; 0: it has none.
        record: function and label, which a worker keeps under the number; else the label alone.
    """

    __slots__ = ("_fn", "head", "number", "record")

    def __init__(self, fn: Callable[..., Any] | None, number: int, record: bytes) -> None:
        self._fn = fn
        self.number = number
        self.record = record
        # What nearly every call of it begins with, once its worker has the record.
        self.head = CALL_HEAD.pack(KEEP, 1, number, 0, 0)


class Functions:
    """The functions of one pool."""

    # Rule: a number stands for one function at a time, and is used again; whether a worker has
    #       what it stands for now is told by the record it was sent, not by the number.
    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Identity of a function and its label -> what is sent for it.
        self._known: OrderedDict[tuple[int, str], Function] = OrderedDict()

    def find(self, fn: Callable[..., Any], label: str) -> Function | None:
        """What is sent for `fn`; None if it must be pickled with every call."""
        key = (id(fn), label)
        found = self._known.get(key)
        if found is None:
            if not _is_found_by_name(fn):
                return None
            record = b"".join(dump((fn, label)))
            with self._lock:
                if key in self._known:  # another thread was faster
                    return self._known[key]
                if len(self._known) < _MOST:
                    number = len(self._known) + 1
                else:
                    number = self._known.popitem(last=False)[1].number
                found = self._known[key] = Function(fn, number, record)
        return found


def _is_found_by_name(fn: Any) -> bool:
    if not isinstance(fn, (FunctionType, BuiltinFunctionType, type)):
        return False
    module = getattr(fn, "__module__", None)
    if not module or module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for part in fn.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is fn
