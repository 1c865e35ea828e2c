"""Where a suspended coroutine is, as text for a report.

`Task.get_stack` and `Task.print_stack` give the outermost frame only; who looks for what a program
hangs in wants the innermost.
"""

import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any


def stack_of(coro: Any) -> str:
    """The stack of a suspended coroutine, outermost call first, laid out as in a traceback."""
    return "".join(traceback.StackSummary.extract(_frames(coro)).format())


def _frames(awaited: Any) -> Iterator[tuple[FrameType, int]]:
    while awaited is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
                break
        else:
            return
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
