"""asyncio's selector loop, with the private parts that the simulation relies on named in one place.

They are the same from Python 3.11 to 3.13. `_ready` is the one that matters: whether replacing it
works is tried on each interpreter before a schedule is used.
"""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class StockLoop(asyncio.SelectorEventLoop):
        """What type checkers see."""

        # Handles that run next, in order.
        _ready: Any
        # Timers as a heap, cancelled ones included.
        _scheduled: list[Any]
        # A timer is due this many seconds early.
        _clock_resolution: float
        # Made by the first `run_in_executor(None, ...)`.
        _default_executor: object
        # Async generators that were begun and not finished.
        _asyncgens: set[object]

        # The pipe through which other threads wake the selector.
        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        def _write_to_self(self) -> None: ...

else:
    StockLoop = asyncio.SelectorEventLoop
