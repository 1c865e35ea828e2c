"""Functions in pickled form: those that are found by their name are pickled once.

Such a function is sent to each worker once and called by its number from then on. All others
(lambdas, closures, bound methods, partials) are pickled with the arguments of every call, since
what they carry may change in between.
"""

import itertools
import sys
from collections import OrderedDict
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final

from aioconc._wire._body import dump

# Functions that are remembered; more than a program calls in turn, and few kilobytes.
_MOST: Final = 256


class Functions:
    """The functions of one pool."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        # (function, label) -> its number and record. Holds the function, so that no other can
        # come to have its identity.
        self._known: OrderedDict[tuple[int, str], tuple[Any, int, bytes]] = OrderedDict()

    def find(self, fn: Callable[..., Any], label: str) -> tuple[int, bytes] | None:
        """Number and record of `fn`; None if it must be pickled with every call."""
        key = (id(fn), label)
        found = self._known.get(key)
        if found is None:
            if not _is_found_by_name(fn):
                return None
            record = b"".join(dump((fn, label)))
            found = self._known[key] = (fn, next(self._numbers), record)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found[1], found[2]


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
