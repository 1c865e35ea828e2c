"""The queue and the books of an executor whose workers take one call at a time.

`Pool` decides, under one lock, which call runs, waits, is withdrawn or abandoned, and when all is
over; `PoolExecutor` is the asyncio face over it: cancellation, time-outs, retries and closing.
How a worker is made and handed a call is left to the subclasses of `Pool`.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from aioconc._bridge._mailbox import mailbox_of
from aioconc._internal import _hooks
from aioconc._internal._check import check_timeout
from aioconc.errors import ExecutorClosed, WorkerCrashed, WorkerTimeout
from aioconc.executors._base import Executor, ExecutorStatistics, Fate
from aioconc.executors._call import Call, Job, join_call, tell_cancelled
from aioconc.executors._callables import check_function, is_plain
from aioconc.executors._options import CallOptions
from aioconc.executors._queue import JobQueue
from aioconc.tasks._join import join
from aioconc.tasks._scope import is_in_scope, raise_if_cancelled

_log = logging.getLogger("aioconc.executors")

P = ParamSpec("P")
R = TypeVar("R")

# This process; asking the system each time costs more than all else that `submit` does.
_pid = os.getpid()


def _note_fork() -> None:
    global _pid
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class Pool:
    """Who runs, who waits, who is abandoned. Any thread may call any method."""

    # Pool life:  open -> closing -> over
    # Rule 1: everything below changes under `lock` only; workers and waiters are woken outside it.
    # Rule 2: `queue` is empty or `len(running) >= max_workers`.
    # Rule 3: an abandoned job is in `abandoned`, and stays in `running` iff it keeps its worker
    #         from other jobs, that is, iff not `replaces_abandoned`.

    # Whether an abandoned job's place is given to a new worker.
    replaces_abandoned = True

    def __init__(self, kind: str, name: str | None, max_workers: int) -> None:
        self.kind = kind
        self.name = name or kind
        self.max_workers = max_workers
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.queue = JobQueue()
        self.running: set[Job] = set()
        self.abandoned: set[Job] = set()
        self.closing = False
        # Called once, when closing and nothing is queued, running or (still) working.
        self.on_over: list[Callable[[], object]] = []
        self.over = False
        self._told = False
        self.completed = 0
        self.failed = 0
        self.cancelled = 0

    # -- what a kind of worker defines --------------------------------------------------------

    def launch(self, job: Job) -> None:
        """Give `job`, which is in `running`, to a worker. Called without the lock."""
        raise NotImplementedError

    def wind_up(self) -> None:
        """All jobs are over: let the workers go. Called without the lock, until `over`."""
        raise NotImplementedError

    def count_workers(self) -> int:
        """Workers alive; called with the lock."""
        return 0

    def stop(self, call: Call, options: CallOptions) -> "asyncio.TimerHandle | None":
        """In the call's loop: see that this running call, which was asked to end, does so.

        Returns a timer to be cancelled once it has ended.
        """
        return None

    def force(self) -> None:
        """`aclose(timeout=...)` ran out: end what can be ended."""

    def join_threads(self) -> None:
        """After `over`: wait out the last steps of threads that have left their work."""

    # -- the life of a job --------------------------------------------------------------------

    def check_usable(self) -> None:
        if self.closing:
            raise ExecutorClosed(f"{self.kind} {self.name!r} is closed; make a new one")
        if self.pid != os.getpid():
            raise RuntimeError(
                f"{self.kind} {self.name!r} was made in process {self.pid} and has no workers in "
                f"its forked child {os.getpid()}; make a new one there"
            )

    def submit(self, job: Job) -> None:
        with self.lock:
            if not self._admit(job):
                return
        self.launch(job)

    def _admit(self, job: Job) -> bool:
        """With the lock: take a job; True if it runs now, False if it waits in the queue."""
        if self.closing or self.pid != _pid:
            self.check_usable()
        if len(self.running) >= self.max_workers:
            self.queue.push(job)
            return False
        self.running.add(job)
        return True

    def finish(self, job: Job, good: bool | None) -> Job | None:
        """Count a job as over; returns the one that takes its place, now in `running`."""
        with self.lock:
            follower = self._count(job, good)
        if job.abandoned:
            self._tell_late(job, good)
        return follower

    def _count(self, job: Job, good: bool | None) -> Job | None:
        """With the lock: as `finish`, but for telling."""
        job.cargo = None
        job.finished = True
        if job.abandoned:
            self.abandoned.discard(job)
        self.running.discard(job)
        if good:
            self.completed += 1
        elif good is not None:
            self.failed += 1
        return self._next() if self.queue.lanes else None

    def _next(self) -> Job | None:
        if not self.queue or len(self.running) >= self.max_workers:
            return None
        job = self.queue.pop()
        self.running.add(job)
        return job

    def withdraw(self, job: Job) -> bool:
        """Take a job back before it starts; False if it has started."""
        if not job.claim():
            return False
        job.cargo = None
        with self.lock:
            self.cancelled += 1
            # Else a worker is just being woken for it and will find it claimed.
            self.queue.discard(job)
        self.check_over()
        return True

    def abandon(self, job: Job) -> bool:
        """Wait for this running job no longer; False if it has just ended."""
        with self.lock:
            if job.finished:
                return False
            job.abandoned = True
            self.cancelled += 1
            self.abandoned.add(job)
            if self.replaces_abandoned:
                self.running.discard(job)
            follower = self._next()
        _log.warning(
            "%s %r: %s was cancelled and abandoned; it runs on", self.kind, self.name, job.label
        )
        if follower is not None:
            self.launch(follower)
        self.check_over()
        return True

    def _tell_late(self, job: Job, good: bool | None) -> None:
        _log.info("%s %r: the abandoned %s has ended", self.kind, self.name, job.label)
        if _hooks.listeners:
            _hooks.emit(
                "call.abandoned_ended",
                executor=self.name,
                name=job.label,
                error=getattr(job, "error", None),
            )

    # -- closing ------------------------------------------------------------------------------

    def close(self, *, cancel: bool) -> None:
        """Take no more; with `cancel` also drop what waits and ask what runs to stop."""
        with self.lock:
            self.closing = True
            dropped = list(self.queue) if cancel else []
            asked = list(self.running) if cancel else []
            if cancel:
                self.queue.clear()
        for job in dropped:
            if job.claim():
                job.cargo = None
                job.refuse(
                    ExecutorClosed(
                        f"{self.kind} {self.name!r} was closed with cancel=True before "
                        f"{job.label} started"
                    )
                )
        for job in asked:
            job.ask()
        self.check_over()

    def check_over(self) -> None:
        """Wind up once closing and idle."""
        if not self.closing:
            return
        with self.lock:
            busy = self.running - self.abandoned
            if busy or self.queue or self.over:
                return
            left = list(self.abandoned) if not self._told else []
            self._told = True
        for job in left:
            _log.warning(
                "%s %r is closed, but the abandoned %s runs on", self.kind, self.name, job.label
            )
        self.wind_up()

    def set_over(self) -> None:
        """The last worker is gone: tell those who wait in `aclose`."""
        with self.lock:
            self.over = True
            waiters, self.on_over = self.on_over, []
        for waiter in waiters:
            waiter()

    def when_over(self, waiter: Callable[[], object]) -> None:
        with self.lock:
            if not self.over:
                self.on_over.append(waiter)
                return
        waiter()

    def statistics(self) -> ExecutorStatistics:
        with self.lock:
            return ExecutorStatistics(
                max_workers=self.max_workers,
                workers=self.count_workers(),
                busy=len(self.running - self.abandoned),
                queued=len(self.queue),
                abandoned=len(self.abandoned),
                completed=self.completed,
                failed=self.failed,
                cancelled=self.cancelled,
            )


class PoolExecutor(Executor):
    """The asyncio face over a `Pool`."""

    @property
    def _pool(self) -> Pool:
        raise NotImplementedError

    async def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `Executor.run`."""
        if not is_plain(fn):
            check_function(
                fn, f"{type(self).__name__}.run", coroutines=self.capabilities.coroutines
            )
        if is_in_scope() is not None:
            raise_if_cancelled()
        options = self._options
        call = self._call(fn, args, kwargs, options)
        # For a further attempt, which sends what was pickled for the first one.
        cargo = call.cargo if options.retries else None
        try:
            while True:
                try:
                    result: R = await self._finish(call, options)
                except WorkerCrashed as error:
                    error.attempt = call.attempt
                    if call.attempt > options.retries:
                        raise
                else:
                    return result
                call = self._again(call, cargo, fn, args, kwargs)
        finally:
            cargo = None

    def _call(self, fn: Callable[..., Any], args: Any, kwargs: Any, options: CallOptions) -> Call:
        """The call, not yet submitted."""
        call = Call(fn, options).hold(fn, args, kwargs)
        call.pool_name = self._pool.kind
        return call

    def _again(
        self, call: Call, cargo: Any, fn: Callable[..., Any], args: Any, kwargs: Any
    ) -> Call:
        """A further attempt at a call whose worker crashed.

        Args:
            call: the last one.
            cargo: what it had to send along.
            fn: of both.
            args: of both.
            kwargs: of both.
        """
        made = self._call(fn, args, kwargs, self._options)
        made.attempt = call.attempt + 1
        return made

    async def _finish(self, call: Call, options: CallOptions) -> Any:
        """Submit the call and see it to its end, whatever happens to this task."""
        pool = self._pool
        pool.submit(call)
        call.mailbox.awaited += 1
        patience = None
        if options.queue_timeout is not None:
            patience = call.loop.call_later(options.queue_timeout, self._give_up, call)
        try:
            await call.waiter
        except asyncio.CancelledError:
            await self._stop(call, options, "cancelled")
            raise
        except GeneratorExit:  # the coroutine was closed; there is no loop to wait in
            if not self._pool.withdraw(call):
                call.ask()
                if self._pool.abandon(call) and options.on_cancel == "kill":
                    self._pool.stop(call, options)
            raise
        finally:
            call.mailbox.awaited -= 1
            if call.timer is not None:
                call.stop_clock()
            if patience is not None:
                patience.cancel()
        if call.expired:
            cancelled = await self._stop(call, options, call.reason)
            if cancelled is not None:
                try:
                    raise cancelled
                finally:
                    del cancelled
            raise call.too_late()
        if call.given_up:
            assert options.queue_timeout is not None
            tell_cancelled(call, self._pool.name, Fate.NOT_STARTED, "queue_timeout")
            raise WorkerTimeout(
                f"{call.label} found no free worker within {options.queue_timeout} s",
                phase="queue",
                seconds=options.queue_timeout,
            )
        return call.take()

    def _give_up(self, call: Call) -> None:
        """The call has waited for too long, unless it has just begun or been cancelled."""
        if not call.waiter.done() and self._pool.withdraw(call):
            call.given_up = True
            call.waiter.set_result(None)

    async def _stop(
        self, call: Call, options: CallOptions, reason: str
    ) -> asyncio.CancelledError | None:
        """Give up a call as `on_cancel` says; returns a cancellation that arrived meanwhile."""
        pool = self._pool
        cancelled = None
        if pool.withdraw(call):
            fate = Fate.NOT_STARTED
        else:
            call.ask()
            fate = Fate.STOPPED
            if not call.ended:
                if options.on_cancel == "abandon" and pool.abandon(call):
                    fate = Fate.ABANDONED
                else:
                    call.waiter = call.loop.create_future()
                    end = pool.stop(call, options)
                    cancelled = await join_call(call)
                    if end is not None:
                        end.cancel()
                    if call.killed:
                        fate = Fate.KILLED
            if fate in (Fate.STOPPED, Fate.KILLED):
                with pool.lock:
                    pool.cancelled += 1
        tell_cancelled(call, pool.name, fate, reason)
        return cancelled

    @property
    def max_workers(self) -> int:
        """Most calls that run at the same time."""
        return self._pool.max_workers

    def statistics(self) -> ExecutorStatistics:
        """The state at this moment, frozen."""
        return self._pool.statistics()

    async def aclose(self, *, cancel: bool = False, timeout: float | None = None) -> None:
        """As `Executor.aclose`."""
        timeout = check_timeout("timeout", timeout)
        pool = self._pool
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        mailbox = mailbox_of(loop)

        def settle() -> None:
            if not over.done():
                over.set_result(None)

        pool.close(cancel=cancel)
        pool.when_over(lambda: mailbox.post(loop, settle))
        cancelled: asyncio.CancelledError | None = None
        mailbox.awaited += 1
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(over)
        except TimeoutError:
            left = self._force()
            cancelled = await join(over)
            pool.join_threads()
            if cancelled is None and left:
                raise TimeoutError(
                    f"{pool.kind} {pool.name!r} was closed, but {left} of its calls had not ended "
                    f"after {timeout} s and were given up"
                ) from None
        except asyncio.CancelledError as error:
            cancelled = error
            pool.close(cancel=True)
            await join(over)
        finally:
            mailbox.awaited -= 1
        pool.join_threads()
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled

    def close(self, *, cancel: bool = False) -> None:
        """`aclose` for code outside a loop: blocks until all calls have ended."""
        over = threading.Event()
        self._pool.close(cancel=cancel)
        self._pool.when_over(over.set)
        over.wait()
        self._pool.join_threads()

    def _force(self) -> int:
        """Drop and abandon all that is left; returns how many calls ran."""
        pool = self._pool
        pool.close(cancel=True)
        with pool.lock:
            running = list(pool.running - pool.abandoned)
        left = 0
        for job in running:
            if pool.abandon(job):
                left += 1
                job.refuse(
                    ExecutorClosed(
                        f"{pool.kind} {pool.name!r} was closed while {job.label} ran; "
                        "it was given up"
                    )
                )
        pool.force()
        return left
