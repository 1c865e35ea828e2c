"""The steps of one run as text: which task went on where, and whom it overtook.

Recorded only for the run that is shown, since it costs more than the run itself.
"""

import asyncio
import linecache
from itertools import groupby
from typing import Any, Final

from aioconc.testing._await_chain import await_chain, is_library
from aioconc.testing._loop import SimulationLoop
from aioconc.testing._policies import is_step

# Steps that are shown on either side of a deviation.
_AROUND: Final = 3
_MOST_LINES: Final = 40


class Trace:
    """Listens to the choices of one loop; `watch` it before anything runs."""

    def __init__(self) -> None:
        self._names: dict[Any, str] = {}
        # What ran at each choice point, and whether it was not its turn.
        self._lines: list[tuple[str, bool]] = []

    def watch(self, loop: SimulationLoop) -> None:
        """Begin to listen."""
        choices = loop.choices
        assert choices is not None
        choices.watch_choices(self._note)

    def _note(self, handle: Any, overtakes: bool) -> None:
        self._lines.append((self._describe(handle), overtakes))

    def __str__(self) -> str:
        # Steps that follow one another and look the same are one line.
        groups = [
            (len([*same]), text, overtakes) for (text, overtakes), same in groupby(self._lines)
        ]
        near = [
            any(each for _, _, each in groups[max(0, at - _AROUND) : at + _AROUND + 1])
            for at in range(len(groups))
        ]
        shown: list[str] = []
        point = 0
        for is_near, (count, text, overtakes) in zip(near, groups, strict=True):
            if len(shown) >= _MOST_LINES:
                shown.append("     ... and more")
                break
            if is_near:
                again = f"   ({count} times)" if count > 1 else ""
                shown.append(f"{point:4d} {'>' if overtakes else ' '} {text}{again}")
            elif not shown or not shown[-1].endswith("..."):
                shown.append("     ...")
            point += count
        return "\n".join(shown)

    def _describe(self, handle: Any) -> str:
        callback = handle._callback
        if not is_step(handle):
            kind = "a timer" if isinstance(handle, asyncio.TimerHandle) else "a plain callback"
            return f"{kind}: {getattr(callback, '__qualname__', callback)}"
        task = callback.__self__
        name = self._names.get(task)
        if name is None:
            name = self._names[task] = _name(task, len(self._names))
        return f"{name}{_place(task)}"


def _name(task: "asyncio.Task[Any]", number: int) -> str:
    name = task.get_name()
    if not name.startswith("Task-"):
        return name
    coro = task.get_coro()
    # Numbers of unnamed tasks differ from run to run: count them in the order of their first step.
    return f"{getattr(coro, '__name__', coro)} #{number + 1}"


def _place(task: "asyncio.Task[Any]") -> str:
    """Where the task waits now, so where it goes on: innermost line of the user's code."""
    for link in reversed(await_chain(task).links):
        if not is_library(link.frame):
            code, line = link.frame.f_code, link.frame.f_lineno
            source = linecache.getline(code.co_filename, line).strip()
            return f"  line {line} of {code.co_name}: {source}"
    return ""
