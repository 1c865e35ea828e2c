"""Starting a program: the event loop, signals, an orderly end; what holds the loop up; and ways
into a loop from threads and plain code.

`run` does what `asyncio.run` does and hears SIGTERM too; nothing that it may need is loaded before
it is called.
"""

from aioconc._internal._public import publish
from aioconc.runtime._graceful import Shutdown, graceful
from aioconc.runtime._iterate_blocking import BlockingIteration, iterate_blocking
from aioconc.runtime._open_signals import open_signals
from aioconc.runtime._portal import Portal, open_portal
from aioconc.runtime._run import run
from aioconc.runtime._stall import LoopStall
from aioconc.runtime._stall_report import WatchStatistics
from aioconc.runtime._watch_loop import watch_loop

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
    "watch_loop",
]

publish(globals())
