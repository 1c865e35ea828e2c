"""What becomes of an exception in a map: whose failure it is, which one is raised, who hears of it.

Nothing here decides what a failure does to the map: that is the window's part, by its policy. Each
exception is given its final form once, the first one is kept to be raised, and those that come
after it are noted on it and emitted as events, so that none vanishes.
"""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final

from aioconc._internal import _hooks
from aioconc.errors import TaskCancelled

# At most so many further failures are added to the first one as notes; all are emitted as events.
MOST_NOTES: Final = 20

# Stands for what a call returned, before it has returned anything.
UNCALLED: Final = object()


def call_text(label: str, *item: Any) -> str:
    """The call as errors name it: the user's function and the item, if it was for one."""
    try:
        return f"{label}({item[0]!r:.80})" if item else label
    except Exception:  # a repr that fails must not replace the failure it describes
        return f"{label}(...)"


def as_failure(error: BaseException, label: str, *item: Any) -> BaseException:
    """The error to report for one that nobody asked for.

    Args:
        error: what was raised, while nobody was cancelling it.
        label: what raised it: the user's function, or the source.
        item: the item that the function was called with.
    """
    failure: Exception
    if isinstance(error, asyncio.CancelledError):
        failure = TaskCancelled(f"{call_text(label, *item)} was cancelled")
    elif isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit)):
        # Would end the reader's loop, or an iterator on the way, instead of being an error.
        failure = RuntimeError(f"{call_text(label, *item)} raised {type(error).__name__}")
    else:
        return error
    failure.__cause__ = error
    return failure


def is_exit(error: BaseException) -> bool:
    """Whether `error` is KeyboardInterrupt or its kin, which are raised before anything else."""
    return not isinstance(error, (Exception, asyncio.CancelledError))


class Misuse:
    """Tells the error of a call that returned nothing awaitable from an error inside a call.

    Args:
        explain: makes the error for such a value; shows the line that would be right.
    """

    __slots__ = ("_explain", "error")

    def __init__(self, explain: Callable[[Any], TypeError]) -> None:
        self._explain = explain
        # The explanation, if there was one: an error of the program, covered by no policy.
        self.error: TypeError | None = None

    def explained(self, error: BaseException, aw: Any) -> BaseException:
        """`error`, or the explanation if it says no more than that `aw` cannot be awaited.

        To be called where `error` was caught, in the frame that awaited `aw`.
        """
        if not isinstance(error, TypeError) or aw is UNCALLED or inspect.isawaitable(aw):
            return error
        traceback = error.__traceback__
        if traceback is None or traceback.tb_next is not None:
            return error
        self.error = self._explain(aw)
        return self.error

    def check(self, error: TypeError, aw: Any) -> None:
        """Raise the explanation, if there is one."""
        if self.explained(error, aw) is not error:
            assert self.error is not None
            raise self.error from None


class Failures:
    """The exception that a map will raise, and what is known of those that came after it.

    Args:
        label: the user's function, as events name it.
        raises: whether the failure of one item is raised; it is its result, or nothing, otherwise.
    """

    __slots__ = ("_label", "_later", "_raises", "first")

    def __init__(self, label: str, *, raises: bool) -> None:
        self._label = label
        self._raises = raises
        self._later = 0
        self.first: BaseException | None = None

    def add(self, error: BaseException, index: int | None = None) -> None:
        """Keep a failure that came while the map was already ending.

        Args:
            error: the failure.
            index: the item that failed; None: the source, or something else of the map's own.
        """
        if _hooks.listeners:
            _hooks.emit("map.late_failure", label=self._label, index=index, error=error)
        if index is not None and not self._raises and isinstance(error, Exception):
            return  # was to become a result, of which there are no more
        first = self.first
        if first is error:
            return
        if first is None:
            self.first = error
            return
        if not isinstance(error, Exception) and not is_exit(first):
            self.first, first, error = error, error, first
            where = "before it"
        else:
            where = "in the source" if index is None else f"at item {index}"
        self._later += 1
        if self._later <= MOST_NOTES:
            first.add_note(f"also failed, {where}: {error!r}")
        elif self._later == MOST_NOTES + 1:
            first.add_note("and more; every failure is emitted as an event")
