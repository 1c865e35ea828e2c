"""Greenlets: plain code that awaits, and code that was written for gevent.

`greenlet_run` runs plain code in the awaiting task (`aioconc[greenlet]`), `GeventExecutor` runs
calls in a gevent hub (`aioconc[gevent]`). Neither package is loaded before it is used.
"""

from aioconc._internal._public import publish
from aioconc.executors.greenlets._gevent_executor import GeventExecutor
from aioconc.executors.greenlets._greenlet import await_, greenlet_run

__all__ = ["GeventExecutor", "await_", "greenlet_run"]

publish(globals())
