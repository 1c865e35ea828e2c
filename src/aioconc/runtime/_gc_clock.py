"""How long the garbage collector has run, and when: it holds every thread up.

One clock for the process, kept as long as somebody uses it. Which collections fall into a stall is
asked afterwards, from another thread.
"""

import gc
from collections import deque
from time import perf_counter
from typing import Any, Final

# Collections that are remembered. Those of a stall are asked for soon after it, and small ones take
# too little to matter.
_REMEMBERED: Final = 256


class GcClock:
    """Begin and end of the last collections. `begin` and `end` are called from one thread each."""

    def __init__(self) -> None:
        self._users = 0
        self._began: float | None = None
        self._ran: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def begin(self) -> None:
        """One more user."""
        self._users += 1
        if self._users == 1:
            gc.callbacks.append(self._note)

    def end(self) -> None:
        """One user less."""
        self._users -= 1
        if not self._users:
            gc.callbacks.remove(self._note)
            self._began = None
            self._ran.clear()

    def within(self, since: float, until: float) -> float:
        """Seconds of collections between two readings of `perf_counter`. Any thread may ask."""
        ran = [*self._ran]
        if (began := self._began) is not None:
            ran.append((began, until))
        return sum(max(0.0, min(end, until) - max(start, since)) for start, end in ran)

    def _note(self, phase: str, info: dict[str, Any]) -> None:
        # Collections do not overlap: the collector is not entered while it runs.
        if phase == "start":
            self._began = perf_counter()
        elif self._began is not None:
            self._ran.append((self._began, perf_counter()))
            self._began = None


gc_clock: Final = GcClock()
