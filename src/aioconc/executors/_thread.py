"""`ThreadExecutor`: calls run in threads of its own.

Threads start on demand, are reused, and are daemons, so that a hanging call never holds up the
end of the program. Each call sees the context variables of its caller. A running thread cannot be
stopped from outside: a cancelled call is asked to stop and then waited for or abandoned.
"""

import concurrent.futures
import itertools
import threading
from typing import ClassVar

from aioconc._internal._check import check_count
from aioconc.executors._base import Capabilities, Kind, usable_cores
from aioconc.executors._call import Job
from aioconc.executors._futures_face import FuturesFace
from aioconc.executors._options import CallOptions
from aioconc.executors._pool import Pool
from aioconc.executors._stream import StreamingExecutor

_names = itertools.count(1)

# Seconds after which an idle thread ends, so that a forgotten executor costs nothing for long;
# as long as loky and others keep idle workers.
_IDLE = 60.0

THREADS = Capabilities(
    wait=True,
    abandon=True,
    stream=True,
    by_reference=True,
    context=True,
    report=True,
    check_cancelled=True,
    call_in_loop=True,
)


class _Worker:
    """One thread, and the job it is woken with."""

    __slots__ = ("job", "thread", "wake")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.wake = threading.Lock()  # held; released once to wake the thread
        self.wake.acquire()
        self.thread: threading.Thread | None = None


class ThreadPool(Pool):
    """Threads, of which the one that went idle last is woken first."""

    # Worker life:  starting -> busy <-> idle -> gone
    # Rule 4: an idle worker is in `idle`; whoever takes it out sets `job` and releases `wake` once.
    # Rule 5: a worker whose job was abandoned is surplus, and ends with that job.

    def __init__(self, kind: str, name: str | None, max_workers: int) -> None:
        super().__init__(kind, name or f"aioconc-{next(_names)}", max_workers)
        self.idle: list[_Worker] = []
        self.workers: set[_Worker] = set()
        self.ending: set[threading.Thread] = set()
        self._numbers = itertools.count(1)

    def count_workers(self) -> int:
        return len(self.workers)

    def launch(self, job: Job) -> None:
        with self.lock:
            if self.idle:
                worker = self.idle.pop()
            else:
                worker = _Worker()
                self.workers.add(worker)
        worker.job = job
        if worker.thread is not None:
            worker.wake.release()
            return
        worker.thread = threading.Thread(
            target=_work,
            args=(self, worker),
            name=f"{self.name} {next(self._numbers)}",
            daemon=True,
        )
        try:
            worker.thread.start()
        except BaseException:
            with self.lock:
                self.workers.discard(worker)
                self.running.discard(job)
            raise

    def rest(self, worker: _Worker) -> bool:
        """The worker has nothing to do: park it, or False if it is to end."""
        with self.lock:
            if self.closing:
                return False
            self.idle.append(worker)
            return True

    def retire(self, worker: _Worker) -> bool:
        """The worker was idle for long: True if it may end, False if it was just taken."""
        with self.lock:
            if worker not in self.idle:
                return False
            self.idle.remove(worker)
            return True

    def gone(self, worker: _Worker) -> None:
        with self.lock:
            self.workers.discard(worker)
            if self.closing and worker.thread is not None:
                self.ending.add(worker.thread)
        self.check_over()

    def join_threads(self) -> None:
        with self.lock:
            ending, self.ending = self.ending, set()
        for thread in ending - {threading.current_thread()}:
            thread.join()

    def wind_up(self) -> None:
        with self.lock:
            idle, self.idle = self.idle, []
        for worker in idle:
            worker.job = None
            worker.wake.release()
        with self.lock:
            left = [each for each in self.workers if not _is_stuck(each, self)]
        if not left:
            self.set_over()


def _is_stuck(worker: _Worker, pool: ThreadPool) -> bool:
    """Does this worker run an abandoned job?"""
    return worker.job is not None and worker.job in pool.abandoned


def _work(pool: ThreadPool, worker: _Worker) -> None:
    """The life of one thread."""
    while True:
        resting = False
        job = worker.job
        while job is not None:
            good = job.execute()
            follower = pool.finish(job, good)
            surplus = job.abandoned
            if surplus and follower is not None:
                # The place of the abandoned job was given away already; this is another one's.
                pool.launch(follower)
                follower = None
            worker.job = follower
            # Parked before the outcome is told, so that the next call finds this thread.
            resting = follower is None and not surplus and pool.rest(worker)
            if good is not None:
                job.post()
            job = follower
        if not resting:
            break
        while not worker.wake.acquire(timeout=_IDLE) and not pool.retire(worker):
            pass  # taken in the instant it gave up waiting: the wake-up is about to come
        if worker.job is None:
            break
    pool.gone(worker)


class ThreadExecutor(StreamingExecutor):
    """Runs calls in up to `max_workers` threads of its own.

    Equals `asyncio.to_thread` with a pool of one's own, whose cancelled calls have a known fate.
    The call's context variables are carried. `aioconc.worker.check_cancelled()` raises in the
    function once its caller is cancelled or timed out, whatever `on_cancel` says; "kill" and
    "soft" are refused, since no thread can be killed.

    Args:
        max_workers: most threads at a time, int >= 1; by default cores + 4, at most 32, as in
            `concurrent.futures`.
        name: begins the names of the threads.

    Raises:
        ValueError: `max_workers` is below 1.

    Cancellation:
        With `on_cancel="wait"` (the default) a cancelled call returns when its function has
        ended. With "abandon" it returns at once; the thread runs on, is counted in
        `statistics().abandoned`, and another takes its place.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with ThreadExecutor(max_workers=2) as pool:
        ...         return await pool.run(sorted, [2, 1])
        >>> asyncio.run(main())
        [1, 2]
    """

    capabilities = THREADS
    kinds: tuple[Kind, ...] = ("io",)
    _refusals: ClassVar[dict[str, str]] = {
        "kill": "no thread can be killed",
        "soft": "no thread can be killed after the grace, and asking comes with every word",
    }

    def __init__(self, max_workers: int | None = None, *, name: str | None = None) -> None:
        if max_workers is None:
            max_workers = min(32, usable_cores() + 4)
        check_count("max_workers", max_workers)
        self._options = CallOptions()
        self._threads = ThreadPool(type(self).__name__, name, max_workers)
        self._futures = FuturesFace(self._threads)

    @property
    def _pool(self) -> Pool:
        return self._threads

    @property
    def futures(self) -> concurrent.futures.Executor:
        """The same threads as a `concurrent.futures.Executor`."""
        return self._futures
