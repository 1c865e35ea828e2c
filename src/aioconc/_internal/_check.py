"""Argument checks that give the value, the rule and the remedy.

Each returns the checked value or raises TypeError (wrong kind) or ValueError (wrong range)
before anything has started.
"""

import math
from collections.abc import Collection
from typing import Any


def check_count(name: str, value: Any, *, least: int = 1, remedy: str = "") -> int:
    """An int >= `least`, also of a subclass's; bool is refused, since True is a slip here."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int >= {least}, got {value!r}{_tail(remedy)}")
    if value < least:
        raise ValueError(f"{name} must be an int >= {least}, got {value!r}{_tail(remedy)}")
    return int(value)


def check_limit(name: str, value: Any) -> int | float:
    """An int >= 1, or `math.inf` for no limit."""
    if value == math.inf and isinstance(value, float):
        return math.inf
    return check_count(name, value, remedy="pass math.inf for no limit")


def check_seconds(name: str, value: Any, *, zero: bool = True, none: str = "") -> float:
    """A finite number of seconds >= 0 (> 0 if not `zero`). `none` says what None would mean."""
    rule = f"{name} must be a number of seconds {'>=' if zero else '>'} 0"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{rule}, got {value!r}{_tail(none)}")
    if not value >= 0 or (not zero and value == 0) or value == math.inf:
        raise ValueError(f"{rule}, got {value!r}{_tail(none)}")
    return float(value)


def check_timeout(name: str, value: Any) -> float | None:
    """A finite number of seconds >= 0, or None for no limit."""
    if value is None:
        return None
    return check_seconds(name, value, none="pass None for no limit")


def check_choice(name: str, value: Any, choices: Collection[str]) -> Any:
    """One of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(each) for each in choices)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}")
    return value


def _tail(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""
