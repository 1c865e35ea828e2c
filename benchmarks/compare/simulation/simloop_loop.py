"""simloop: a loop written anew, in random order; needs Python 3.12."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import simloop

from compare.simulation import seconds_of
from compare.simulation.asyncio_loop import many_sleeps


def explores(body: Callable[[], Coroutine[Any, Any, None]], count: int) -> int:
    return count if simloop.explore(body, range(count)) is None else 0


def uniform() -> asyncio.AbstractEventLoop:
    return simloop.SimLoop(1)


def sleeps(count: int) -> float:
    loop = uniform()
    try:
        return loop.run_until_complete(many_sleeps(count, seconds_of))
    finally:
        loop.close()
