"""Places where calls can run away from the event loop, behind one interface.

`offload_io` and `offload_cpu` are all that most programs need; `ThreadExecutor`,
`ProcessExecutor` and `FuturesExecutor` are places of one's own, and `use` makes one the default for a block. Loads
neither multiprocessing nor cloudpickle before a process is needed.
"""

from aioconc._internal._public import publish
from aioconc.executors._base import Capabilities, Executor, ExecutorStatistics, Fate
from aioconc.executors._futures import FuturesExecutor
from aioconc.executors._inline import InlineExecutor
from aioconc.executors._interpreter import InterpreterExecutor
from aioconc.executors._iterate import iterate_in_thread
from aioconc.executors._offload import offload_cpu, offload_io, use
from aioconc.executors._thread import ThreadExecutor
from aioconc.executors.process import ProcessExecutor

__all__ = [
    "Capabilities",
    "Executor",
    "ExecutorStatistics",
    "Fate",
    "FuturesExecutor",
    "InlineExecutor",
    "InterpreterExecutor",
    "ProcessExecutor",
    "ThreadExecutor",
    "iterate_in_thread",
    "offload_cpu",
    "offload_io",
    "use",
]

publish(globals())
