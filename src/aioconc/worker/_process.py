"""Worker processes for `concurrent.futures` that never import the user's main module.

`multiprocessing` imports the script of the parent again in every worker, which runs a script
without an `if __name__ == "__main__"` guard once more. Functions of `__main__` are sent by value
here, so the workers do not need it. The processes are also remembered, so that one that dies can
be told from those that are ended because of it.
"""

import multiprocessing
import multiprocessing.context
import sys
import threading
import weakref
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from aioconc.worker._entry import quiet

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
    """A `ProcessPoolExecutor`, by forkserver or spawn, that knows which worker died."""

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

    def dead_workers(self) -> list[tuple[int, int]]:
        """Process id and exit status of every worker that ended badly."""
        return [
            (each.pid, each.exitcode) for each in tuple(self._made) if each.pid and each.exitcode
        ]
