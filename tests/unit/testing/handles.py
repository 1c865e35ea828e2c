"""Real handles for tests of the queue of what is ready, without a loop that runs."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from aioconc.testing._loop import SimulationLoop


class Handles:
    """Makes handles as asyncio would put into its queue: plain ones, timers, steps of tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, steps: list[Any]) -> None:
        self._loop = loop
        self._steps = steps

    def plain(self) -> asyncio.Handle:
        return asyncio.Handle(len, ((),), self._loop)

    def timer(self, when: float) -> asyncio.TimerHandle:
        return asyncio.TimerHandle(when, len, ((),), self._loop)

    def step(self, task: int) -> asyncio.Handle:
        """One more step of the task of that number."""
        return asyncio.Handle(self._steps[task], (), self._loop)


async def _waits() -> None:
    await asyncio.get_running_loop().create_future()


@contextlib.contextmanager
def handles(tasks: int = 6) -> Iterator[Handles]:
    """Handles of so many real tasks."""
    loop = SimulationLoop()
    made = [loop.create_task(_waits()) for _ in range(tasks)]
    # The step that each task has queued; in half of them the one that wakes it from a wait.
    steps = [handle._callback for handle in loop._ready]
    for number, task in enumerate(made):
        if number % 2:
            loop.call_soon(loop.stop)
            loop.run_forever()
            waits_for: Any = task._fut_waiter  # type: ignore[attr-defined]
            steps[number] = waits_for._callbacks[0][0]
    try:
        yield Handles(loop, steps)
    finally:
        for task in made:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*made, return_exceptions=True))
        loop.close()
