"""Worker processes for `concurrent.futures` that never import the user's main module.

`multiprocessing` imports the script of the parent again in every worker, which runs a script
without an `if __name__ == "__main__"` guard once more. Functions of `__main__` are sent by value
here, so the workers do not need it. The processes are also remembered, so that they can be killed.
"""

import multiprocessing
import multiprocessing.context
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from multiprocessing.process import BaseProcess
from typing import Any, Literal, ParamSpec, TypeVar

from aioconc.worker._entry import quiet

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()


@contextmanager
def _main_kept_out() -> Generator[None]:
    """While a process starts, let `__main__` look like one that needs no import.

    `multiprocessing.spawn` does not import a main module whose spec is named `__main__`, as
    those of frozen programs are. Nothing else about the module changes, so pickling in other
    threads is not disturbed.
    """
    main: Any = sys.modules["__main__"]
    with _lock:
        spec = getattr(main, "__spec__", None)
        main.__spec__ = ModuleSpec("__main__", None)
        try:
            yield
        finally:
            main.__spec__ = spec


class SpawnWorker(multiprocessing.context.SpawnProcess):
    def start(self) -> None:
        with _main_kept_out():
            super().start()


if sys.platform != "win32":

    class ForkServerWorker(multiprocessing.context.ForkServerProcess):
        def start(self) -> None:
            with _main_kept_out():
                super().start()


class WorkerPool(ProcessPoolExecutor):
    """A `ProcessPoolExecutor`, by forkserver or spawn, whose workers can be killed."""

    def __init__(self, max_workers: int, start: Literal["forkserver", "spawn"]) -> None:
        context = multiprocessing.get_context(start)
        made = self._made = weakref.WeakSet[BaseProcess]()
        kind: Any = SpawnWorker if start == "spawn" else ForkServerWorker

        class Context(type(context)):  # type: ignore[misc]  # the class of the context, whichever
            @staticmethod
            def Process(*args: Any, **kwargs: Any) -> Any:  # noqa: N802  # overrides
                process = kind(*args, **kwargs)
                made.add(process)
                return process

        super().__init__(max_workers, mp_context=Context(), initializer=quiet)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """As usual, and the death of a worker that this call has started will be noticed."""
        before = len(self._made)
        future = super().submit(fn, *args, **kwargs)
        if len(self._made) > before:
            # The standard library wakes its manager thread before it starts the worker, so the
            # manager goes back to watching only the older ones; a crash of the new one would then
            # hang its call. Wake it once more. Private names, hence the care.
            wakeup = getattr(self, "_executor_manager_thread_wakeup", None)
            lock = getattr(self, "_shutdown_lock", None)
            if wakeup is not None and lock is not None:
                with lock:
                    wakeup.wakeup()
        return future

    def kill_workers(self) -> None:
        """End every worker now, whatever it does."""
        for process in tuple(self._made):
            try:
                process.kill()
            except (ValueError, AttributeError, OSError):
                pass  # not started yet, or ended and closed already

    def dead_workers(self) -> list[tuple[int, int]]:
        """Process id and exit status of every worker that ended badly."""
        return [
            (each.pid, each.exitcode) for each in tuple(self._made) if each.pid and each.exitcode
        ]
