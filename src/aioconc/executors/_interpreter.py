"""`InterpreterExecutor`: calls run in subinterpreters of this process, each with a lock of its own.

Threads that compute at the same time, since no two share an interpreter. What crosses is pickled, as
for processes. The interpreters are those of `concurrent.futures` from Python 3.14 on, and on 3.13
those of anyio; queue, fates and errors are those of `FuturesExecutor`.
"""

import concurrent.futures
import sys
from collections.abc import Callable
from typing import ClassVar

from aioconc._internal._check import check_count
from aioconc.executors._base import Capabilities, Kind, usable_cores
from aioconc.executors._call import Job
from aioconc.executors._futures import FuturesExecutor, FuturesPool

_PYTHON = tuple(sys.version_info[:3])
_FIRST = (3, 13, 0)

# How CPython refuses an extension module that was not made for subinterpreters.
_REFUSED = "does not support loading in subinterpreters"


class _Feeder(FuturesPool):
    """Says what to do about a module that refuses to be loaded."""

    def finish(self, job: Job, good: bool | None) -> Job | None:
        error = job.error
        if error is not None and (_REFUSED in str(error) or _REFUSED in str(error.__cause__)):
            error.add_note(
                f"{job.label} needs an extension module that cannot be loaded in a subinterpreter; "
                "run it in a ProcessExecutor, or in a ThreadExecutor if it releases the lock"
            )
        return super().finish(job, good)


class InterpreterExecutor(FuturesExecutor):
    """Runs calls in up to `max_workers` subinterpreters, in threads of this process.

    For computing in pure Python without worker processes: an interpreter starts faster than a
    process and needs less memory. Arguments and results are pickled, as for a process; lambdas,
    closures and functions of `__main__` are sent by value.

    Needs Python 3.13 or newer. On 3.13 Python has no public interface to subinterpreters, and
    anyio's use of the private one is used; 3.14 has one, `InterpreterPoolExecutor`, which has not
    been tried with this class. Extension modules have to be made for subinterpreters: many, NumPy
    among them, refuse to be loaded, and such a call fails with `ImportError`, or with
    `SerializationError` if it was an argument that needed the module.

    No call can be killed, so `on_cancel="kill"` and "soft" are refused, and one that never ends
    holds up the end of the program. What ends a process (`os._exit`, a crash in C) ends this one.
    Of `aioconc.worker` only `info` works.

    Args:
        max_workers: most interpreters, int >= 1; by default the usable cores.
        name: what it is called in events and logs.

    Raises:
        RuntimeError: this Python is older than 3.13.
        ValueError: `max_workers` is below 1.

    Cancellation:
        With `on_cancel="wait"` (the default) a cancelled call returns when its function has
        ended. With "abandon" it returns at once, but keeps its interpreter busy until it ends.

    Example:
        >>> import asyncio
        >>> from aioconc.executors import InterpreterExecutor
        >>> async def main():
        ...     async with InterpreterExecutor(max_workers=2) as pool:
        ...         return await pool.map(abs, [-1, 2, -3])
        >>> asyncio.run(main()) if sys.version_info >= (3, 13) else [1, 2, 3]
        [1, 2, 3]
    """

    capabilities = Capabilities(wait=True, abandon=True)
    kinds: tuple[Kind, ...] = ("cpu",)
    _refusals: ClassVar[dict[str, str]] = {
        "kill": "no interpreter can be ended while it runs",
        "soft": "no interpreter can be ended while it runs",
    }
    _feeder_type = _Feeder

    def __init__(self, max_workers: int | None = None, *, name: str | None = None) -> None:
        if _PYTHON < _FIRST:
            raise RuntimeError(
                "InterpreterExecutor needs Python 3.13 or newer, this is "
                f"{'.'.join(map(str, _PYTHON))}; use ProcessExecutor"
            )
        workers = usable_cores() if max_workers is None else check_count("max_workers", max_workers)
        super().__init__(
            lambda: _make_pool(workers), max_workers=workers, name=name, by_reference=False
        )
        self.capabilities = type(self).capabilities


def _make_pool(max_workers: int) -> concurrent.futures.Executor:
    theirs: Callable[[int], concurrent.futures.Executor] | None = getattr(
        concurrent.futures, "InterpreterPoolExecutor", None
    )
    if theirs is not None:  # from Python 3.14 on
        return theirs(max_workers)
    from aioconc.executors._interpreter_pool import InterpreterPool

    return InterpreterPool(max_workers)
