"""Starting a program: the event loop, signals, an orderly end; what holds the loop up; and ways
into a loop from threads and plain code.

`run` does what `asyncio.run` does and hears SIGTERM too. A name is loaded when it is first touched,
so that who only runs a program loads nothing else.
"""

from typing import TYPE_CHECKING

from aioconc._internal._public import publish

if TYPE_CHECKING:
    from aioconc.runtime._graceful import Shutdown as Shutdown, graceful as graceful
    from aioconc.runtime._iterate_blocking import (
        BlockingIteration as BlockingIteration,
        iterate_blocking as iterate_blocking,
    )
    from aioconc.runtime._open_signals import open_signals as open_signals
    from aioconc.runtime._portal import Portal as Portal, open_portal as open_portal
    from aioconc.runtime._run import run as run
    from aioconc.runtime._run_sync import run_sync as run_sync
    from aioconc.runtime._stall import LoopStall as LoopStall
    from aioconc.runtime._stall_report import WatchStatistics as WatchStatistics
    from aioconc.runtime._watch_loop import watch_loop as watch_loop

# Every public name -> the file of this folder that defines it.
_EXPORTS = {
    "BlockingIteration": "_iterate_blocking",
    "LoopStall": "_stall",
    "Portal": "_portal",
    "Shutdown": "_graceful",
    "WatchStatistics": "_stall_report",
    "graceful": "_graceful",
    "iterate_blocking": "_iterate_blocking",
    "open_portal": "_portal",
    "open_signals": "_open_signals",
    "run": "_run",
    "run_sync": "_run_sync",
    "watch_loop": "_watch_loop",
}

__all__ = [
    "BlockingIteration",
    "LoopStall",
    "Portal",
    "Shutdown",
    "WatchStatistics",
    "graceful",
    "iterate_blocking",
    "open_portal",
    "open_signals",
    "run",
    "run_sync",
    "watch_loop",
]

publish(globals(), _EXPORTS)
