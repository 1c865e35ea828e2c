"""aioconc's simulation loop, under each kind of schedule."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from aioconc.testing import Schedule, explore, loop_factory, run
from compare.simulation import seconds_of
from compare.simulation.asyncio_loop import many_sleeps

virtual = loop_factory(max_steps=None)
usual = loop_factory(Schedule(), max_steps=None)
demotions = loop_factory(Schedule(demotions=(5, 6, 7)), max_steps=None)
uniform = loop_factory(Schedule(random=1), max_steps=None)
priorities = loop_factory(Schedule(pct=1), max_steps=None)


def explores(body: Callable[[], Coroutine[Any, Any, None]], count: int) -> int:
    return explore(body, budget=count).schedules


def sleeps(count: int) -> float:
    return run(partial(many_sleeps, count, seconds_of))
