"""Tests of async code: virtual time, explored schedules, cancellation at every await, leaks.

The loop is asyncio's own on a clock that jumps, so sockets, threads and subprocesses work as ever.
Only what asyncio leaves open is reordered, so what is found is a bug. The errors that these tools
raise are in `aioconc.errors`.
"""

from aioconc._internal._public import publish
from aioconc.testing._explore import Exploration, explore
from aioconc.testing._loop import loop_factory
from aioconc.testing._run import external, run, settle
from aioconc.testing._schedule import Schedule
from aioconc.testing._strategies import schedules
from aioconc.testing._wait_graph import WaitGraph, wait_graph

__all__ = [
    "Exploration",
    "Schedule",
    "WaitGraph",
    "explore",
    "external",
    "loop_factory",
    "run",
    "schedules",
    "settle",
    "wait_graph",
]

publish(globals())
