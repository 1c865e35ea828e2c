"""Structured concurrency for asyncio: one API for every place where work can run.

The names below are loaded when they are first touched, so that `import aioconc` costs next to
nothing and loads neither asyncio nor any engine. `_EXPORTS` is the one table of public names:
`__all__`, the reference page and the tests are held equal to it.
"""

from importlib import import_module

# Type checkers take this name for True; importing it from `typing` would be most of the import's
# cost.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from aioconc.channels import open_channel as open_channel
    from aioconc.errors import (
        AioconcError as AioconcError,
        ExecutorClosed as ExecutorClosed,
        SerializationError as SerializationError,
        WorkerCrashed as WorkerCrashed,
    )
    from aioconc.executors import (
        ProcessExecutor as ProcessExecutor,
        ThreadExecutor as ThreadExecutor,
        offload_cpu as offload_cpu,
        offload_io as offload_io,
        use as use,
    )
    from aioconc.flow import (
        RateLimiter as RateLimiter,
        backoff as backoff,
        gather_limited as gather_limited,
        map_limited as map_limited,
        race as race,
    )
    from aioconc.runtime import run as run
    from aioconc.sync import (
        Barrier as Barrier,
        Condition as Condition,
        Event as Event,
        Lock as Lock,
        Queue as Queue,
        Semaphore as Semaphore,
    )
    from aioconc.tasks import (
        CancelScope as CancelScope,
        Supervisor as Supervisor,
        TaskGroup as TaskGroup,
        TaskHandle as TaskHandle,
        fail_after as fail_after,
        move_on_after as move_on_after,
        shielded as shielded,
    )

__version__ = "0.1.0"

# Every public name -> the public package that defines it.
_EXPORTS = {
    # structure
    "run": "aioconc.runtime",
    "TaskGroup": "aioconc.tasks",
    "TaskHandle": "aioconc.tasks",
    "Supervisor": "aioconc.tasks",
    "CancelScope": "aioconc.tasks",
    "move_on_after": "aioconc.tasks",
    "fail_after": "aioconc.tasks",
    "shielded": "aioconc.tasks",
    # many items
    "gather_limited": "aioconc.flow",
    "map_limited": "aioconc.flow",
    "race": "aioconc.flow",
    "RateLimiter": "aioconc.flow",
    "backoff": "aioconc.flow",
    # leave the loop
    "offload_io": "aioconc.executors",
    "offload_cpu": "aioconc.executors",
    "use": "aioconc.executors",
    "ThreadExecutor": "aioconc.executors",
    "ProcessExecutor": "aioconc.executors",
    # coordinate
    "Lock": "aioconc.sync",
    "Event": "aioconc.sync",
    "Condition": "aioconc.sync",
    "Semaphore": "aioconc.sync",
    "Barrier": "aioconc.sync",
    "Queue": "aioconc.sync",
    "open_channel": "aioconc.channels",
    # errors
    "AioconcError": "aioconc.errors",
    "WorkerCrashed": "aioconc.errors",
    "SerializationError": "aioconc.errors",
    "ExecutorClosed": "aioconc.errors",
}

__all__ = [
    "AioconcError",
    "Barrier",
    "CancelScope",
    "Condition",
    "Event",
    "ExecutorClosed",
    "Lock",
    "ProcessExecutor",
    "Queue",
    "RateLimiter",
    "Semaphore",
    "SerializationError",
    "Supervisor",
    "TaskGroup",
    "TaskHandle",
    "ThreadExecutor",
    "WorkerCrashed",
    "backoff",
    "fail_after",
    "gather_limited",
    "map_limited",
    "move_on_after",
    "offload_cpu",
    "offload_io",
    "open_channel",
    "race",
    "run",
    "shielded",
    "use",
]


def __getattr__(name: str) -> object:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'aioconc' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
