"""Starting a program: the event loop, signals, an orderly end.

`run` does what `asyncio.run` does and hears SIGTERM too; nothing that it may need is loaded before
it is called.
"""

from aioconc._internal._public import publish
from aioconc.runtime._run import run

__all__ = ["run"]

publish(globals())
