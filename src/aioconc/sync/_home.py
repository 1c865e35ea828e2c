"""Refuses primitives of the parent in a forked child.

At the fork any of them may have been half changed, or held, by a thread that does not exist in the
child. Each primitive keeps the `Home` in which it was made; in the child that one is marked, and
what is made there belongs to a new one. Costs one attribute look-up a call.
"""

import os
from typing import NoReturn


class Home:
    """One process, as its primitives know it."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        # True in a child that was forked after this home was made.
        self.left = False


_home = Home()


def home() -> Home:
    """The home of what is made now."""
    return _home


def refuse(primitive: object) -> NoReturn:
    """Raise: the primitive was made before this process was forked."""
    name = type(primitive).__name__
    raise RuntimeError(
        f"this {name} was made in the parent of this forked process, where another thread may "
        f"have been using it; make a new {name} in the child"
    )


def _move() -> None:
    global _home
    _home.left = True
    _home = Home()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_move)
