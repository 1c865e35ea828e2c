"""The selector of a simulated loop: real where there is something real to wait for.

Most simulated programs have no socket, so the operating system's selector, and the pipe through
which other threads wake a loop, are made when the first descriptor is registered. Until then a
thread wakes the loop through a queue. When time passes is decided in `_idle`.
"""

import queue
import selectors
from collections.abc import Callable, Mapping
from typing import Any

Events = list[tuple[selectors.SelectorKey, int]]


class LazySelector(selectors.BaseSelector):
    """A selector that costs nothing until a descriptor is registered.

    Args:
        on_select: called in place of a real wait; gets the seconds that the loop would wait.
        on_first: called before the first descriptor is registered.
    """

    def __init__(
        self, on_select: Callable[[float | None], Events], on_first: Callable[[], None]
    ) -> None:
        self._on_select = on_select
        self._on_first = on_first
        self.real: selectors.BaseSelector | None = None
        # `put` is safe in a signal handler, unlike a condition.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.rung = False

    # -- as the loop sees it ------------------------------------------------------------------

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As `BaseSelector.register`."""
        return self.prepare().register(fileobj, events, data)

    def prepare(self) -> selectors.BaseSelector:
        """The real selector, made if there is none yet."""
        if self.real is None:
            self.real = selectors.DefaultSelector()
            self._on_first()
        return self.real

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As `BaseSelector.unregister`."""
        return self._made().unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As `BaseSelector.modify`."""
        return self._made().modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """As `BaseSelector.get_map`."""
        return {} if self.real is None else self.real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """As `BaseSelector.get_key`."""
        return self._made().get_key(fileobj)

    def select(self, timeout: float | None = None) -> Events:
        """What happened; `on_select` says how long that takes."""
        return self._on_select(timeout)

    def close(self) -> None:
        """As `BaseSelector.close`."""
        if self.real is not None:
            self.real.close()

    def _made(self) -> selectors.BaseSelector:
        if self.real is None:
            raise KeyError("no file descriptor is registered")
        return self.real

    # -- real waiting -------------------------------------------------------------------------

    def ring(self) -> None:
        """Wake the loop. Any thread may call it, and a signal handler."""
        if not self.rung:
            self.rung = True
            self._bell.put(None)

    def answer(self) -> bool:
        """Whether somebody rang since the last call."""
        if not self.rung:
            return False
        # The order matters: a ring that comes in between is put again, and costs one empty pass.
        self.rung = False
        while not self._bell.empty():
            self._bell.get()
        return True

    def poll(self) -> Events:
        """What has happened by now."""
        return [] if self.real is None else self.real.select(0)

    def wait(self, seconds: float) -> tuple[bool, Events]:
        """Wait in real time; whether anything happened, and the events if it was those."""
        if self.real is not None:
            events = self.real.select(seconds)
            return self.answer() or bool(events), events
        try:
            self._bell.get(timeout=seconds)
        except queue.Empty:
            return False, []
        self.rung = False
        return True, []
