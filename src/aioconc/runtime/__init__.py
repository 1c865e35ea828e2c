"""Starting a program: the event loop, signals, an orderly end, and what holds the loop up.

`run` does what `asyncio.run` does and hears SIGTERM too; nothing that it may need is loaded before
it is called.
"""

from aioconc._internal._public import publish
from aioconc.runtime._run import run
from aioconc.runtime._stall import LoopStall
from aioconc.runtime._stall_report import WatchStatistics
from aioconc.runtime._watch_loop import watch_loop

__all__ = ["LoopStall", "WatchStatistics", "run", "watch_loop"]

publish(globals())
