"""The limit of a task group: who holds a slot, and the line of those who wait for one.

First come, first served: children that `start_soon` has queued and callers of `spawn` stand in one
line. Slots are counted here and nothing else; starting children is left to the group.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from aioconc.tasks._child import Queued


# Rule 1: `taken` and `reserved` together never exceed the limit.
# Rule 2: a slot counts as free only while the line is empty: a newcomer overtakes nobody.
# Rule 3: who reserves gives back; in between the slot is either taken by a child or passed on.
class Slots:
    """A group's slots; at most `limit` children hold one."""

    __slots__ = ("_limit", "_line", "reserved", "taken")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.taken: set[asyncio.Task[Any]] = set()
        # Slots given to a `spawn` that has not resumed yet, or to a child that is being created:
        # an eager one runs its first step before it is in `taken`, and is to be counted once.
        self.reserved = 0
        # Children of start_soon, and the wake-ups of spawn.
        self._line: deque[Queued | asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def free(self) -> bool:
        """Whether a newcomer may have a slot now."""
        return len(self.taken) + self.reserved < self._limit and not self._line

    def promised(self) -> bool:
        """Whether somebody has been given a slot, or waits for one, and holds none yet."""
        return bool(self._line or self.reserved)

    def stand_in_line(self, who: "Queued | asyncio.Future[None]") -> None:
        """Let a child, or a caller that is woken by its future, wait for its turn."""
        self._line.append(who)

    def leave_line(self, turn: "asyncio.Future[None]") -> None:
        """Forget a caller whose wait was cancelled."""
        try:
            self._line.remove(turn)
        except ValueError:
            pass  # `advance` has already stepped over it

    def advance(self, begin: Callable[[Queued], object]) -> None:
        """Give free slots to those in line: `begin` starts a child, a caller is woken."""
        while self._line and len(self.taken) + self.reserved < self._limit:
            first = self._line.popleft()
            if isinstance(first, Queued):
                if not first.handle.done():
                    begin(first)
            elif not first.done():
                self.reserved += 1
                first.set_result(None)

    def send_away(self, why: str) -> None:
        """Empty the line: its children never start, its callers get a `RuntimeError`."""
        while self._line:
            first = self._line.popleft()
            if isinstance(first, Queued):
                first.handle._drop()
            elif not first.done():
                first.set_exception(RuntimeError(why))
