"""Loops whose schedule holds during the test proper, and not while fixtures come and go.

The choice points are so numbered from the test's first step, as `explore` numbers them, whatever
its fixtures did before; and a fixture's clean-up is not what a schedule is to break.
"""

import asyncio
import functools
import math
import weakref
from collections.abc import Callable
from typing import Final

from aioconc.testing._loop import RecordingLoop, ScheduledLoop
from aioconc.testing._policies import policy_of
from aioconc.testing._ready import ReadyQueue
from aioconc.testing._schedule import Schedule

# Callbacks without any progress of time after which a test is a livelock, as in `run`.
MAX_STEPS = 1_000_000

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class TestOrder:
    """Has the queue of a loop follow its schedule between `begin` and `end` only.

    Attributes:
        schedule: what it follows.
    """

    __test__ = False  # not a test, whatever its name

    def __init__(self, schedule: Schedule, queue: ReadyQueue) -> None:
        self.schedule: Final = schedule
        self._queue = queue
        self._begins = queue._begins
        queue._begins = math.inf

    @property
    def points(self) -> int:
        """Choice points met since `begin`."""
        return self._queue.points

    def begin(self) -> None:
        """The test takes its first step."""
        self._queue.points = self._queue._steps = 0
        self._queue._begins = self._begins

    def end(self) -> None:
        """The test has ended, or was given up."""
        self._queue.usual_order_from_here()


_orders: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, TestOrder] = (
    weakref.WeakKeyDictionary()
)


def order_of(loop: asyncio.AbstractEventLoop) -> TestOrder | None:
    """The order that `loop` follows; None: asyncio's own."""
    return _orders.get(loop)


# Cached, since pytest takes two parameters for the same if they are the same object: tests that
# share a loop of a wider scope would each get a new one.
@functools.cache
def factory_of(schedule: Schedule | None, *, virtual_time: bool) -> LoopFactory:
    """Makes the loops of a test."""

    def new_loop() -> asyncio.AbstractEventLoop:
        policy = None if schedule is None else policy_of(schedule)
        loop: RecordingLoop | ScheduledLoop
        if virtual_time:
            loop = RecordingLoop(policy, max_steps=MAX_STEPS)
        else:
            assert policy is not None, "nothing is asked of this loop"
            loop = ScheduledLoop(policy)
        if schedule is not None:
            _orders[loop] = TestOrder(schedule, loop._ready)
        return loop

    return new_loop


def seeded(count: int) -> list[Schedule]:
    """The usual order, then random choices and random priorities in turn."""
    found = [Schedule()]
    for number in range(1, count):
        seed = (number + 1) // 2
        found.append(Schedule(random=seed) if number % 2 else Schedule(pct=seed))
    return found
