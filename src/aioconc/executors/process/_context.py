"""Context variables that go with each call.

A variable cannot be pickled, so it is known by the module and the name under which both processes
find it.
"""

import sys
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

_MISSING: Any = object()


class Carried:
    """The variables whose values are sent.

    Args:
        variables: each a global of a module other than `__main__`.

    Raises:
        TypeError: one is not a context variable.
        ValueError: one is not found by name.
    """

    def __init__(self, variables: Iterable[ContextVar[Any]]) -> None:
        self.variables = [(each, _name_of(each)) for each in variables]

    def values(self) -> tuple[tuple[tuple[str, str], Any], ...]:
        """`((module, name), value)` of those that have a value here."""
        found = [(name, each.get(_MISSING)) for each, name in self.variables]
        return tuple(each for each in found if each[1] is not _MISSING)


def _name_of(variable: Any) -> tuple[str, str]:
    if not isinstance(variable, ContextVar):
        raise TypeError(
            f"context must be context variables, got {variable!r}; "
            "pass contextvars.ContextVar objects, as in context=(request_id,)"
        )
    in_main = False
    for name, module in [*sys.modules.items()]:
        for key, value in [*getattr(module, "__dict__", {}).items()]:
            if value is variable:
                if name != "__main__":
                    return name, key
                in_main = True
    if in_main:
        raise ValueError(
            f"the context variable {variable.name!r} is a global of __main__, which workers do not "
            "have; move it to a module of its own and import it from there"
        )
    raise ValueError(
        f"the context variable {variable.name!r} is not a global of any module that is loaded, so "
        "a worker could not find it; make it one"
    )
