"""Two things that the process pools of `concurrent.futures` do not do themselves.

Before 3.14 they cannot end their workers, and a worker that dies just after it was started may go
unnoticed. Both are done here, for the pool of the standard library, its subclasses, and others that
offer a way to kill. Private names of the standard library are read with care: where they are
missing, nothing is done.
"""

import concurrent.futures
import inspect
from collections.abc import Callable
from typing import Any


def submit_noticed(
    executor: Any, fn: Callable[..., Any], *args: Any
) -> "concurrent.futures.Future[Any]":
    """As `executor.submit(fn, *args)`, and the death of a worker that it starts is noticed.

    The standard library wakes its manager thread before it starts the worker, so that the manager
    goes back to watching only the older ones: a crash of the new one would hang its call. It is
    woken once more.
    """
    before = set(_processes(executor))
    future: concurrent.futures.Future[Any] = executor.submit(fn, *args)
    if set(_processes(executor)) - before:
        wakeup = getattr(executor, "_executor_manager_thread_wakeup", None)
        lock = getattr(executor, "_shutdown_lock", None)
        if wakeup is not None and lock is not None:
            with lock:
                wakeup.wakeup()
    return future


def kill_workers(executor: Any) -> bool:
    """End every worker of the pool now, whatever it does; False if that cannot be done."""
    if "kill_workers" in inspect.signature(executor.shutdown).parameters:  # loky
        executor.shutdown(wait=False, kill_workers=True)
        return True
    if processes := _processes(executor):
        for process in tuple(processes.values()):
            try:
                process.kill()
            except (ValueError, AttributeError, OSError):
                pass  # not started yet, or ended and closed already
        return True
    if hasattr(executor, "kill_workers"):  # 3.14, or a pool that is like it
        executor.kill_workers()
        return True
    return False


def _processes(executor: Any) -> dict[Any, Any]:
    """The workers of a pool made as that of the standard library, by process id."""
    processes = getattr(executor, "_processes", None)
    return processes if isinstance(processes, dict) else {}
