"""Measures how long an event loop was held up: the lateness of a task that wants to run often.

The worst stall is what a user of a server feels: while the loop is held up, nobody is answered.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Short against the stalls that matter (tens of milliseconds), long against its own cost.
_BEAT = 0.005


class Heartbeat:
    """The stalls seen so far, in seconds."""

    def __init__(self) -> None:
        self.worst = 0.0
        # The worst of each slice of time, as (when it ended, seconds); feeds the chart.
        self.stalls: list[tuple[float, float]] = []

    async def beat(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_BEAT)
            now = time.monotonic()
            late = max(0.0, now - before - _BEAT)
            self.worst = max(self.worst, late)
            if not self.stalls or now - self.stalls[-1][0] > 0.1:
                self.stalls.append((now, late))
            elif late > self.stalls[-1][1]:
                self.stalls[-1] = (self.stalls[-1][0], late)


@asynccontextmanager
async def heartbeat(heart: Heartbeat) -> AsyncIterator[None]:
    """Measure the running loop for the length of a block."""
    task = asyncio.create_task(heart.beat(), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))  # unlike `await task`, not mistaken for our own cancellation
