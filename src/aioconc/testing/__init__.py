"""Tests of async code: virtual time, explored schedules, cancellation at every await, leaks.

The loop is asyncio's own on a clock that jumps, so sockets, threads and subprocesses work as ever.
Only what asyncio leaves open is reordered, so what is found is a bug. The errors that these tools
raise are in `aioconc.errors`.
"""

# Names are loaded when they are first touched, as those of the root: pytest loads `_plugin` from
# here in every run of everybody who has aioconc installed, and that must cost next to nothing.
from aioconc._internal._public import publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aioconc._internal._sites import Place as Place, Site as Site
    from aioconc.testing._blocking import (
        BlockReport as BlockReport,
        Stall as Stall,
        no_blocking as no_blocking,
    )
    from aioconc.testing._cancel_everywhere import cancel_everywhere as cancel_everywhere
    from aioconc.testing._cancel_report import (
        CancelPoint as CancelPoint,
        CancelReport as CancelReport,
    )
    from aioconc.testing._explore import Exploration as Exploration, explore as explore
    from aioconc.testing._faults import hang_worker as hang_worker, kill_worker as kill_worker
    from aioconc.testing._leaks import LeakReport as LeakReport, no_leaks as no_leaks
    from aioconc.testing._loop import loop_factory as loop_factory
    from aioconc.testing._process_state import Leak as Leak
    from aioconc.testing._run import external as external, run as run, settle as settle
    from aioconc.testing._schedule import Schedule as Schedule
    from aioconc.testing._strategies import schedules as schedules
    from aioconc.testing._wait_graph import WaitGraph as WaitGraph, wait_graph as wait_graph

# Every public name -> the file of this folder, or the module, that defines it.
_EXPORTS = {
    "BlockReport": "_blocking",
    "CancelPoint": "_cancel_report",
    "CancelReport": "_cancel_report",
    "Exploration": "_explore",
    "Leak": "_process_state",
    "LeakReport": "_leaks",
    "Place": "aioconc._internal._sites",
    "Schedule": "_schedule",
    "Site": "aioconc._internal._sites",
    "Stall": "_blocking",
    "WaitGraph": "_wait_graph",
    "cancel_everywhere": "_cancel_everywhere",
    "explore": "_explore",
    "external": "_run",
    "hang_worker": "_faults",
    "kill_worker": "_faults",
    "loop_factory": "_loop",
    "no_blocking": "_blocking",
    "no_leaks": "_leaks",
    "run": "_run",
    "schedules": "_strategies",
    "settle": "_run",
    "wait_graph": "_wait_graph",
}

__all__ = [
    "BlockReport",
    "CancelPoint",
    "CancelReport",
    "Exploration",
    "Leak",
    "LeakReport",
    "Place",
    "Schedule",
    "Site",
    "Stall",
    "WaitGraph",
    "cancel_everywhere",
    "explore",
    "external",
    "hang_worker",
    "kill_worker",
    "loop_factory",
    "no_blocking",
    "no_leaks",
    "run",
    "schedules",
    "settle",
    "wait_graph",
]

publish(globals(), _EXPORTS)
