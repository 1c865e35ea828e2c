"""aioconc: in a greenlet of a gevent hub."""

from collections.abc import Callable

import gevent  # noqa: F401  # named as missing where it is not installed

from aioconc.executors.greenlets import GeventExecutor

_pool = GeventExecutor(100)


async def in_greenlet(fn: Callable[[int], int], argument: int) -> int:
    return await _pool.run(fn, argument)
