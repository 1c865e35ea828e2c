"""`FuturesExecutor`: any executor of `concurrent.futures` behind the aioconc interface.

Adds what those lack: a queue from which cancelled calls vanish, known fates, lambdas and
`__main__` functions, errors that cannot break the pool, a new pool after a crash. No more calls
are handed on than there are workers, so that a crash concerns those alone. Running calls cannot
be killed one by one, since the pool underneath cannot.
"""

import concurrent.futures
import functools
import importlib
import itertools
import logging
import os
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ClassVar, Literal, Self

from aioconc._internal import _hooks
from aioconc._internal._check import check_choice, check_count
from aioconc._wire._pickled import pickled
from aioconc.errors import ExecutorClosed, SerializationError, WorkerCrashed
from aioconc.executors._base import Capabilities, Kind, usable_cores
from aioconc.executors._call import Call, Job
from aioconc.executors._futures_face import FutureJob, FuturesFace, at_exit, finish_all
from aioconc.executors._options import CallOptions
from aioconc.executors._pool import Pool
from aioconc.executors._process_pools import kill_workers, submit_noticed
from aioconc.executors._remote import take_error, take_value
from aioconc.executors._stream import StreamingExecutor
from aioconc.executors._thread import THREADS
from aioconc.worker._entry import run_pickled
from aioconc.worker._failures import Reply

_log = logging.getLogger("aioconc.executors")
_names = itertools.count(1)

Factory = Callable[[], concurrent.futures.Executor]


def pack(job: Job) -> None:
    """Pickle what the job is made of, before it is submitted, so that a failure costs nothing."""
    try:
        job.data = pickled((job.fn, job.args, job.kwargs))
    except Exception as error:
        raise SerializationError(
            f"{job.label} or its arguments cannot be pickled: {type(error).__name__}: {error}",
            where="args",
            side="parent",
        ) from error
    del job.fn, job.args, job.kwargs


def unpack(job: Job, reply: Reply) -> bool:
    """Take the worker's reply apart; True for a value. Never raises."""
    good, data, text, frames = reply
    if good:
        return take_value(job, pickle.loads, data)
    take_error(job, data, text, frames)
    return False


class FuturesPool(Pool):
    """Feeds a `concurrent.futures` executor, from a thread of its own.

    Submitting may start processes and closing waits for them; both would hold up the loop.
    """

    # Rule 4: `executor` belongs to the keeper thread. Others only put an executor into `broken`,
    #         and the keeper makes a new one before the next job.
    # Rule 5: what comes into `orders` after None is never looked at; None comes when all is over.
    replaces_abandoned = False

    def __init__(
        self,
        kind: str,
        name: str | None,
        max_workers: int,
        executor: concurrent.futures.Executor | None,
        factory: Factory | None,
    ) -> None:
        super().__init__(kind, name or f"aioconc-futures-{next(_names)}", max_workers)
        self.executor = executor
        self.factory = factory
        self.broken: concurrent.futures.Executor | None = None
        self.orders: SimpleQueue[Job | None] = SimpleQueue()
        self.keeper: threading.Thread | None = None

    def launch(self, job: Job) -> None:
        with self.lock:
            if self.keeper is None:
                _live.add(self)
                self.keeper = threading.Thread(
                    target=self._keep, name=f"{self.name} keeper", daemon=True
                )
                self.keeper.start()
        self.orders.put(job)

    def withdraw(self, job: Job) -> bool:
        if super().withdraw(job):
            return True
        future = job.future  # the pool underneath may be serving others and not have begun
        if future is None or not future.cancel():
            return False
        job.error = None
        with self.lock:
            self.cancelled += 1
        return True

    def wind_up(self) -> None:
        if self.keeper is None:
            self.set_over()
        else:
            self.orders.put(None)

    def force(self) -> None:
        self.end_by_force()

    def join_threads(self) -> None:
        if self.keeper is not None and self.keeper is not threading.current_thread():
            self.keeper.join()

    def end_by_force(self) -> bool:
        """Kill all workers, if they are ours and the pool can do it; False if not."""
        executor = self.executor
        return self.factory is not None and executor is not None and kill_workers(executor)

    # -- in the keeper thread -----------------------------------------------------------------

    def _keep(self) -> None:
        while (job := self.orders.get()) is not None:
            try:
                self._send(job)
            except BaseException as error:
                self._failed(job, self.executor, error)
            del job
        if self.factory is not None and self.executor is not None:
            # An abandoned call would hold up `shutdown`: its workers are killed, or, where that
            # cannot be done, left to themselves.
            patient = not self.abandoned or self.end_by_force()
            self.executor.shutdown(wait=patient)
            self.executor = None
        _live.discard(self)
        self.set_over()

    def _send(self, job: Job) -> None:
        if job.data is not None and not job.start():
            self._proceed(self.finish(job, None))
            return
        data, job.data = job.data, None
        fresh = self._renew()
        try:
            future = self._submit(job, data)
        except RuntimeError:  # broken or shut down since the last job; this one has not started
            self.broken = self.executor  # whatever it is, it is not to be trusted with another
            if fresh or self.factory is None or _exiting:
                raise
            self._renew()
            future = self._submit(job, data)
        executor = self.executor
        job.future = future
        future.add_done_callback(lambda future: self._done(job, executor, future))

    def _submit(self, job: Job, data: bytes | None) -> "concurrent.futures.Future[Any]":
        assert self.executor is not None
        if data is None:
            future = self.executor.submit(job.execute)
        else:
            future = submit_noticed(self.executor, run_pickled, data, job.describe())
        _end_all_at_exit(type(self.executor).__module__, "used")
        return future

    def _renew(self) -> bool:
        """Make the executor if there is none or it is broken; True if it is a new one."""
        factory = self.factory
        if self.executor is not None and self.executor is self.broken and factory is not None:
            self.executor.shutdown(wait=False)
            self.executor = None
        if self.executor is not None:
            return False
        assert factory is not None
        made: Any = factory()
        if not isinstance(made, concurrent.futures.Executor):
            raise TypeError(
                f"the factory of {self.kind} {self.name!r} must return a "
                f"concurrent.futures.Executor, got {made!r}"
            )
        self.executor = made
        return True

    # -- in whichever thread the executor completes a future -----------------------------------

    def _done(self, job: Job, executor: Any, future: "concurrent.futures.Future[Any]") -> None:
        if future.cancelled():  # by `withdraw`, or by somebody who shut the executor down
            self._failed(job, executor, concurrent.futures.CancelledError())
            return
        error = future.exception()
        if error is not None:
            self._failed(job, executor, error)
            return
        reply = future.result()
        good = unpack(job, reply) if isinstance(reply, tuple) else reply
        follower = self.finish(job, good)
        if good is not None:
            job.post()
        self._proceed(follower)

    def _failed(self, job: Job, executor: Any, error: BaseException) -> None:
        """The executor itself failed the job."""
        job.claim()
        if isinstance(error, concurrent.futures.BrokenExecutor):
            self.broken = executor
            job.error = self._crashed(job, executor)
        elif isinstance(error, (concurrent.futures.CancelledError, RuntimeError)):
            job.error = ExecutorClosed(
                f"{type(executor).__name__} under {self.kind} {self.name!r} does not run "
                f"{job.label}: {str(error) or 'it was shut down'}"
            )
        else:
            job.error = error
        if job.error is not error:
            job.error.__cause__ = error
        follower = self.finish(job, False)
        job.post()
        self._proceed(follower)

    def _crashed(self, job: Job, executor: Any) -> WorkerCrashed:
        dead: list[tuple[int, int]] = getattr(executor, "dead_workers", list)()
        pid, exitcode = dead[0] if len(dead) == 1 else (None, None)
        which = f"worker process {pid} died ({describe_exit(exitcode)})" if pid else "a worker died"
        with self.lock:
            others = len(self.running) - 1
        remedy = (
            ""
            if self.factory is not None
            else "; give FuturesExecutor a function that makes the executor, and it will make a "
            "new one after a crash"
        )
        if _hooks.listeners:
            _hooks.emit(
                "worker.crashed", executor=self.name, name=job.label, pid=pid, exitcode=exitcode
            )
        return WorkerCrashed(
            f"{which} while {job.label} was in flight; this kind of pool cannot tell which call "
            f"it ran, and {others} other calls in flight failed with it{remedy}",
            pid=pid,
            exitcode=exitcode,
        )

    def _proceed(self, follower: Job | None) -> None:
        if follower is not None:
            self.launch(follower)
        else:
            self.check_over()


def describe_exit(exitcode: int | None) -> str:
    """How a process ended, for people."""
    if exitcode is not None and exitcode < 0:
        try:
            return f"killed by {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"killed by signal {-exitcode}"
    return f"exit status {exitcode}"


# Pools whose executor may have processes to end.
_live: "weakref.WeakSet[FuturesPool]" = weakref.WeakSet()
_exiting = False


@functools.cache
def _end_all_at_exit(module: str, now: Literal["loaded", "used"]) -> None:
    """Arrange that calls are finished, and workers ended, before `module` ends its executors.

    To be called when the module has arranged its own end, since the latest comes first: the
    standard library does so when it is loaded, loky when an executor of it is used first.
    """
    at_exit(_end_all)


def _end_all() -> None:
    global _exiting
    finish_all()
    _exiting = True
    for pool in tuple(_live):
        # A forked child leaves its parent's workers alone, and idle ones end by themselves.
        executor = pool.executor
        if pool.pid != os.getpid() or not pool.running or executor is None:
            continue
        if pool.end_by_force():
            # The standard library's own exit, which comes next, must not meet a manager thread
            # that is just closing what it is about to write to. Bounded, as nothing may hang here;
            # not through `shutdown`, which cannot be bounded without a new thread, and none can
            # be started here on 3.12.0 and 3.12.1.
            manager = getattr(executor, "_executor_manager_thread", None)
            if manager is not None:
                manager.join(5.0)


class FuturesExecutor(StreamingExecutor):
    """Runs calls on any `concurrent.futures.Executor`: processes, threads, loky, MPI, ...

    Equals `await loop.run_in_executor(executor, ...)` with what that lacks: queued calls that
    are cancelled vanish and never start; the fate of running ones is known; lambdas, closures and
    `__main__` functions cross to processes; no argument, result or exception can break the pool;
    and after a crash a new pool is made. What cannot be added is refused: no call can be killed
    alone, so `on_cancel="kill"` and "soft" are not available.

    When a worker process dies, such a pool loses every call that is in flight, not only the one
    that ran there: up to `max_workers` calls fail with `WorkerCrashed`. Queued calls are not
    touched, since they wait on this side.

    At interpreter exit, and when an executor is closed with a call abandoned, the workers of a
    process pool that aioconc made are killed if they are still at work. An executor that is handed
    in is never killed: the standard library then waits at exit for the calls that run in it,
    however long they take. The same goes for threads of `ThreadPoolExecutor`, which nobody can
    kill. So where a call might hang, give a function that makes the pool, or `ThreadExecutor`.

    Over threads everything works that `ThreadExecutor` can do. Over processes there are no
    streams, no context variables and no way back from the worker: of `aioconc.worker` only
    `info` works.

    Args:
        executor: an executor, which is the caller's to shut down, or a function that makes one,
            which is called at the first call and after each crash; what it made is shut down
            with this executor.
        max_workers: most calls handed to the executor at a time, int >= 1; by default what the
            executor says about itself, else the number of usable cores.
        name: what it is called in events and logs.
        by_reference: True if the workers share memory with this process, so that nothing needs
            to be pickled; by default true for `ThreadPoolExecutor` and its subclasses only.

    Raises:
        TypeError: `executor` is neither.

    Cancellation:
        With `on_cancel="wait"` (the default) a cancelled call returns when its function has
        ended. With "abandon" it returns at once, but keeps its worker busy until it ends.

    Example:
        >>> import asyncio
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from aioconc.executors import FuturesExecutor
        >>> async def main():
        ...     async with FuturesExecutor(ThreadPoolExecutor) as pool:
        ...         return await pool.run(abs, -1)
        >>> asyncio.run(main())
        1
    """

    _refusals: ClassVar[dict[str, str]] = {
        "kill": "the pool underneath cannot kill one call",
        "soft": "the pool underneath cannot kill one call",
    }
    _feeder_type: ClassVar[type[FuturesPool]] = FuturesPool

    def __init__(
        self,
        executor: concurrent.futures.Executor | Factory,
        *,
        max_workers: int | None = None,
        name: str | None = None,
        by_reference: bool | None = None,
    ) -> None:
        given: concurrent.futures.Executor | None = None
        factory: Factory | None = None
        if isinstance(executor, concurrent.futures.Executor):
            given = executor
        elif callable(executor):
            factory = executor
        else:
            raise TypeError(
                "FuturesExecutor expected a concurrent.futures.Executor or a function that makes "
                f"one, got {executor!r}"
            )
        if by_reference is None:
            by_reference = _is_threads(executor)
        if max_workers is None:
            said = getattr(executor, "_max_workers", None)
            max_workers = said if isinstance(said, int) and said > 0 else usable_cores()
        check_count("max_workers", max_workers)
        self.capabilities = (
            THREADS
            if by_reference
            else Capabilities(wait=True, abandon=True, retries=factory is not None)
        )
        self.kinds: tuple[Kind, ...] = ("io",) if by_reference else ("cpu",)
        self._options = CallOptions()
        self._feeder = self._feeder_type(type(self).__name__, name, max_workers, given, factory)
        self._futures = FuturesFace(self._feeder, None if by_reference else self._packed)

    @classmethod
    def over_processes(
        cls,
        max_workers: int | None = None,
        *,
        start: Literal["forkserver", "spawn"] | None = None,
        name: str | None = None,
    ) -> Self:
        """An executor over a `ProcessPoolExecutor` of its own, made when it is first needed.

        Its workers never import the main module of the program, so that a script needs no
        `if __name__ == "__main__":` guard; functions of `__main__` are sent by value. They
        ignore SIGINT, and are killed at interpreter exit if they are still at work. `offload_cpu`
        uses one of these.

        Args:
            max_workers: processes, int >= 1; by default the number of usable cores.
            start: how they start; by default "forkserver", and "spawn" on Windows. Never by
                fork, which copies locks of other threads in any state.
            name: what it is called in events and logs.

        Example:
            >>> import asyncio
            >>> from aioconc.executors import FuturesExecutor
            >>> async def main():
            ...     async with FuturesExecutor.over_processes(1) as pool:
            ...         return await pool.run(lambda: 6 * 7)
            >>> asyncio.run(main())
            42
        """
        if start is None:
            start = "spawn" if sys.platform == "win32" else "forkserver"
        check_choice("start", start, ("forkserver", "spawn"))
        workers = usable_cores() if max_workers is None else check_count("max_workers", max_workers)

        def make() -> concurrent.futures.Executor:
            from aioconc.worker._process import WorkerPool

            return WorkerPool(workers, start)

        return cls(make, max_workers=workers, name=name)

    @property
    def _pool(self) -> Pool:
        return self._feeder

    def _call(self, fn: Callable[..., Any], args: Any, kwargs: Any, options: CallOptions) -> Call:
        call = super()._call(fn, args, kwargs, options)
        if not self.capabilities.by_reference:
            pack(call)
            call.context = None
        return call

    def _packed(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> FutureJob:
        job = FutureJob(self._feeder, fn).hold(fn, args, kwargs)
        pack(job)
        return job

    @property
    def futures(self) -> concurrent.futures.Executor:
        """The same workers, behind the same queue, as a `concurrent.futures.Executor`."""
        executor = self._feeder.executor
        if executor is not None:
            _end_all_at_exit(type(executor).__module__, "loaded")
        elif self._feeder.factory is not None:
            # What is submitted in the last line of a program must still find an executor: once
            # the exit has begun, these modules can no longer be loaded.
            for module in ("concurrent.futures.process", "concurrent.futures.thread"):
                importlib.import_module(module)
                _end_all_at_exit(module, "loaded")
        return self._futures


def _is_threads(executor: Any) -> bool:
    kind: type = executor if isinstance(executor, type) else type(executor)
    return issubclass(kind, concurrent.futures.ThreadPoolExecutor) and not any(
        base.__name__ == "InterpreterPoolExecutor" for base in kind.__mro__
    )
