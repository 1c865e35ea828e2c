"""What keeps a function that crashes every worker from using up the machine.

A crash costs one call, and the next call gets a new worker, however often that happens. But when
nothing but crashes has come of several calls in a row, each further worker starts a little later
than it could. No call is refused for it.
"""

import time
from collections.abc import Callable
from typing import Final

from aioconc._bridge._service import service

# Crashes in a row that cost no time: a bad minute of a few calls is no loop.
FREE: Final = 5

# Seconds before the start of the next worker: at first, and at most. They double in between. Starting
# a worker takes a twentieth of a second or so of the processor.
_FIRST: Final = 0.1
_LONGEST: Final = 1.0


class CrashLoop:
    """Counts crashes in a row, and holds back starts."""

    # Rule: `count` is set by any thread, and read for what it is worth; all else is the service's.
    def __init__(self) -> None:
        # Calls in a row whose worker has crashed. 0 is set by whoever sees a call end.
        self.count = 0
        self._not_before = 0.0
        self._held: dict[object, Callable[[], object]] = {}

    def crashed(self) -> float:
        """A call has lost its worker; returns how long the next start will wait."""
        self.count = count = self.count + 1
        if count < FREE:
            return 0.0
        pause: float = min(_FIRST * 2 ** min(count - FREE, 10), _LONGEST)
        self._not_before = time.monotonic() + pause
        return pause

    def holds(self, start: Callable[[], object]) -> bool:
        """In the service: whether this start has to wait. It is called when it need not any more."""
        wait = self._not_before - time.monotonic()
        if self.count < FREE or wait <= 0:
            return False
        key = object()
        timer = service().loop.call_later(wait, self._go, key)

        def go() -> None:
            timer.cancel()
            start()

        self._held[key] = go
        return True

    def _go(self, key: object) -> None:
        go = self._held.pop(key, None)
        if go is not None:
            go()

    def release(self) -> None:
        """In the service: hold back nothing any more."""
        self.count = 0
        for key in [*self._held]:
            self._go(key)
