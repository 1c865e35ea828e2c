"""looptime: asyncio's loop on a clock that jumps; it chooses no order."""

import asyncio

import looptime

from compare.simulation import seconds_of
from compare.simulation.asyncio_loop import many_sleeps


def virtual() -> asyncio.AbstractEventLoop:
    return looptime.new_event_loop(start=0)


def sleeps(count: int) -> float:
    with asyncio.Runner(loop_factory=virtual) as runner:
        return runner.run(many_sleeps(count, seconds_of))
