"""A clock that jumps: an asyncio loop on which sleeping takes no time.

When nothing is ready, the selector moves the clock to the next timer instead of waiting. Sockets
are still looked at, but never waited for, so tests on it use timers only. A loop that has neither
a timer nor anything ready would wait for ever; that is reported instead.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector loop whose `time()` starts at `start` and passes only while all tasks wait."""

    def __init__(self, start: float = 0.0) -> None:
        self._virtual_now = start
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._virtual_now

    def advance(self, seconds: float) -> None:
        """Let time pass during a step, as a step that blocks the loop would."""
        self._virtual_now += seconds

    def jump_to_next_timer(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]  # asyncio's own heap
        self._virtual_now = max(self._virtual_now, scheduled[0]._when)


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("deadlock: no task can run, and no timer is set")
        if not ready and timeout:
            self._loop.jump_to_next_timer()
        return ready


def run_virtual(main: Coroutine[Any, Any, T], *, start: float = 0.0) -> T:
    """`asyncio.run(main)` on a virtual clock."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start)) as runner:
        return runner.run(main)
