"""How a task ended, and which ends are wrong after a cancel.

The root, cancelled itself, is to end cancelled, or as it does undisturbed. If another task is
cancelled, the program may answer as it likes, but not by what tells of a slip in its code.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

Kinds = frozenset[type[BaseException]]

_CANCELLED: Final[Kinds] = frozenset({asyncio.CancelledError})

# What tells of a slip rather than of an answer, if it is exactly one of these: a class that is
# derived from them, somebody has chosen.
_SLIPS: Final[Kinds] = frozenset(
    {
        asyncio.InvalidStateError,
        AssertionError,
        AttributeError,
        IndexError,
        KeyError,
        NameError,
        RuntimeError,
        TypeError,
        UnboundLocalError,
        ValueError,
    }
)


@dataclass(frozen=True)
class End:
    """How a task ended."""

    # Of the exception that it raised; of all those in it, where it is a group. Empty: it returned.
    kinds: Kinds
    text: str

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.kinds == _CANCELLED


@dataclass(frozen=True)
class Usual:
    """How things end undisturbed."""

    first: End
    second: End
    # Of the root and of every target.
    kinds: Kinds
    # How long the first call took.
    seconds: float

    def says_of_root(self, end: End) -> str | None:
        """What is wrong with this end of the root, when it was cancelled itself."""
        return (
            f"{end.text}, in place of the cancellation"
            if end.kinds - _CANCELLED - self.kinds
            else None
        )

    def says_of_others(self, end: End) -> str | None:
        """What is wrong with this end of the root when another task was cancelled, or of that."""
        return end.text if (end.kinds - self.kinds) & _SLIPS else None

    def says_of_second(self, end: End) -> str | None:
        """What is wrong with this end of a second call."""
        if end.kinds in (self.first.kinds, self.second.kinds):
            return None
        return f"a second call {end.text}; undisturbed it {self.second.text}"


def end_of(task: "asyncio.Future[Any]") -> tuple[End, BaseException | None]:
    """How a task that is done ended, and its exception."""
    if task.cancelled():
        return End(_CANCELLED, "was cancelled"), None
    error = task.exception()
    if error is None:
        return End(frozenset(), "returned"), None
    kinds = frozenset(type(each) for each in _leaves(error))
    return End(kinds, f"raised {type(error).__name__}: {error}"), error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
