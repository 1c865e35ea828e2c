"""Our futures faces in place of the executors of the standard library, for its own tests.

Only spelling is added: the arguments of its constructors, and the private names that its tests
look at. Also used by the scripts that those tests run in interpreters of their own.
"""

import concurrent.futures
import concurrent.futures.process
import concurrent.futures.thread
import functools
import os
import signal
import threading
import time
from typing import Any

from aioconc.errors import WorkerCrashed
from aioconc.executors import ProcessExecutor, ThreadExecutor
from aioconc.executors.process import _pool as process_pool
from tests.contracts.executor_work import is_alive

# Seconds after which something that is to end counts as not ended.
PATIENCE = 5.0

# Every executor that was made, for those who tidy up after a test that fails.
MADE: list[Any] = []


class BrokenCall(WorkerCrashed, concurrent.futures.process.BrokenProcessPool):
    """A crash breaks one call, not the pool; these tests ask for the class."""


class Shim(concurrent.futures.Executor):
    """Hands on to the face of one of our executors."""

    _made: Any
    _broken = False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return self._made.futures.submit(fn, *args, **kwargs)

    def map(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        return self._made.futures.map(*args, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._made.futures.shutdown(wait, cancel_futures=cancel_futures)

    @property
    def _max_workers(self) -> int:
        return self._made.max_workers  # type: ignore[no-any-return]


class Process:
    """A worker process, as `multiprocessing.Process` looks."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def join(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while is_alive(self.pid):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} has not ended")
            time.sleep(0.001)


class Awaited:
    """Joined once the pool is over."""

    def __init__(self, made: Any) -> None:
        self._over = threading.Event()
        made._pool.when_over(self._over.set)

    def join(self) -> None:
        if not self._over.wait(PATIENCE):
            raise TimeoutError("the executor has not ended")

    join_thread = join


class Thread:
    """A worker thread, which is not waited for without end."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread
        self.name = thread.name

    def join(self) -> None:
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise TimeoutError(f"{self.name} has not ended")


class ProcessPoolExecutor(Shim):
    """`ProcessExecutor.futures`, made as its namesake is."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Any = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._made = ProcessExecutor(
            max_workers,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_worker=max_tasks_per_child,
        )
        MADE.append(self._made)

    @property
    def _processes(self) -> dict[int, Any]:
        pool = self._made._processes
        deadline = time.monotonic() + 10
        while pool.starting and time.monotonic() < deadline:
            time.sleep(0.001)  # theirs are started before `submit` returns
        return {each.pid: Process(each.pid) for each in tuple(pool.workers)}

    @property
    def _executor_manager_thread(self) -> "Awaited":
        return Awaited(self._made)

    _call_queue = _executor_manager_thread


class ThreadPoolExecutor(Shim):
    """`ThreadExecutor.futures`, made as its namesake is."""

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Any = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None:
            raise TypeError("ThreadExecutor has no initializer")
        self._made = ThreadExecutor(max_workers, name=thread_name_prefix or None)
        MADE.append(self._made)

    @property
    def _threads(self) -> set[Any]:
        return {Thread(each.thread) for each in tuple(self._made._threads.workers)}


BY_NAME = {each.__name__: each for each in (ProcessPoolExecutor, ThreadPoolExecutor)}


def install(put: Any = setattr) -> None:
    """Have `concurrent.futures` give ours; `put` sets an attribute, for a while or for good."""
    for module in (concurrent.futures, concurrent.futures.process, concurrent.futures.thread):
        for name, shim in BY_NAME.items():
            if hasattr(module, name):
                put(module, name, shim)
    put(process_pool, "WorkerCrashed", BrokenCall)


@functools.cache
def preamble() -> str:
    """What a script begins with that is to use ours."""
    from pathlib import Path

    return (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        f"from {__name__} import install; install()\n"
    )
