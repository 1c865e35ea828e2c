"""Plain code that awaits: in greenlets of the awaiting task.

`greenlet_run` needs `aioconc[greenlet]`, loaded when it is first called.
"""

from aioconc._internal._public import publish
from aioconc.executors.greenlets._greenlet import await_, greenlet_run

__all__ = ["await_", "greenlet_run"]

publish(globals())
