"""A chunk: items of a map that travel together, and what came of those that have ended.

A chunk keeps its outcomes in the order of its items, so that its reader may take the first ones
while the rest is worked on. Who cuts the chunks is left to `_chunk_feed`, who works on them to the
executor, who reads them to `_chunked_map`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from aioconc._internal import _hooks

OnError = Literal["raise", "return", "skip"]


# Rule 1: items end in their order; `done` of them have, and `values` has what the reader gets.
# Rule 2: `over` comes once, after the last item has ended; not if the map was stopped before.
class Chunk:
    """Some items of a map that follow one another.

    Args:
        first: number of the first item.
        items: the items.
        on_error: what the failure of one of them does.
        label: the user's function, as events name it.
        news: called when there are values, or when it is over.
    """

    __slots__ = (
        "_items",
        "_label",
        "_news",
        "_on_error",
        "done",
        "failure",
        "first",
        "over",
        "taken",
        "values",
    )

    def __init__(
        self,
        first: int,
        items: list[Any],
        on_error: OnError,
        label: str,
        news: "Callable[[Chunk], object]",
    ) -> None:
        self.first = first
        self._items = items
        self._on_error = on_error
        self._label = label
        self._news = news
        # Items that have an outcome.
        self.done = 0
        # What the reader gets for them.
        self.values: list[Any] = []
        # How many of those the reader has taken.
        self.taken = 0
        # The failure that ends the map.
        self.failure: Exception | None = None
        self.over = False

    def left(self) -> list[Any]:
        """Items that have no outcome."""
        return self._items[self.done :] if self.failure is None else []

    def add(self, values: list[Any], failed: Sequence[int] = ()) -> None:
        """The next items have these outcomes.

        Args:
            values: what came of each.
            failed: places in `values` that hold exceptions.
        """
        if self.failure is not None:
            return
        before, self.done = self.done, self.done + len(values)
        for place in failed:
            error: Exception = values[place]
            if self._on_error == "raise":
                self.done = before + place
                self.failure = error
                del values[place:]
                break
            if _hooks.listeners:
                index = self.first + before + place
                _hooks.emit("map.item_failed", label=self._label, index=index, error=error)
        if failed and self._on_error == "skip":
            values = [value for place, value in enumerate(values) if place not in failed]
        self.values += values
        self._news(self)

    def fail(self, error: Exception) -> None:
        """The next item ends with this error."""
        self.add([error], (0,))

    def fail_all(self, error: Exception) -> None:
        """No item that is left can be run."""
        count = len(self.left())
        self.add([error] * count, range(count))

    def end(self) -> None:
        """All items have ended."""
        self.over = True
        self._items = []
        self._news(self)

    def current(self) -> tuple[int, Any]:
        """Number and item of the next one that is to end."""
        left = self.left()
        return self.first + self.done, left[0] if left else None

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<chunk of {len(self._items)} items from {self.first}>"
