"""The greenlets of one gevent hub as a pool: one greenlet for each call.

The books are those of every pool, under its lock; greenlets are started and struck by letters to
the hub, so that a call that has just ended is never hit by what was meant for it.
"""

import asyncio
import functools
import itertools
import threading
from typing import Any

from aioconc.errors import ExecutorClosed
from aioconc.executors._call import Call, Job
from aioconc.executors._options import CallOptions
from aioconc.executors._pool import Pool
from aioconc.executors.greenlets._gevent import Hub, load_gevent
from aioconc.executors.greenlets._gevent_calls import GreenletCall, HubLink
from aioconc.worker._link import Cancelled
from aioconc.worker._place import set_link

_names = itertools.count(1)


class GeventPool(Pool):
    """Greenlets of one hub, which starts with the first call."""

    # Rule 4: `greenlets`, `jobs` and `struck` belong to the hub's thread. A job is in `greenlets`
    #         from its greenlet's first step to the end of its function, and `jobs` is the same the
    #         other way round. A greenlet serves one job, so that what strikes late strikes no other.
    # Rule 5: the hub ends when the pool is closing and no job is queued, running or abandoned;
    #         `over` is set then, or at once where an abandoned job may take its time.

    def __init__(self, kind: str, name: str | None, max_workers: int) -> None:
        super().__init__(kind, name or f"aioconc-gevent-{next(_names)}", max_workers)
        self.gevent = load_gevent()
        self.hub: Hub | None = None
        self._hub_guard = threading.Lock()
        self.greenlets: dict[Job, Any] = {}
        self.jobs: dict[Any, Job] = {}
        # Jobs whose greenlet was told to end.
        self.struck: set[Job] = set()

    def open_hub(self) -> Hub:
        """The hub, started if need be."""
        with self._hub_guard:
            if self.hub is None or self.hub.failed is not None:  # what failed is tried again

                def prepare() -> None:
                    set_link(HubLink(self))

                self.hub = Hub(self.gevent, self.name, prepare, self.set_over)
            return self.hub

    def count_workers(self) -> int:
        return len(self.greenlets)

    # -- the life of a job --------------------------------------------------------------------

    def launch(self, job: Job) -> None:
        try:
            hub = self.open_hub()
        except BaseException:  # no thread to be had
            with self.lock:
                self.running.discard(job)
            raise
        hub.post(functools.partial(self._begin, hub, job))

    def _begin(self, hub: Hub, job: Job) -> None:
        """In the hub; or, if there is none, in the thread that knows so."""
        if hub.failed is None:
            hub.spawn(self._work, job)
            return
        self._follow(self._refuse(job, hub.failed))
        if self.closing:
            self.check_over()

    def _refuse(self, job: Job, error: BaseException) -> Job | None:
        """The job cannot run; which one takes its place."""
        claimed = job.claim()
        follower = self.finish(job, False if claimed else None)
        if claimed:
            refusal = RuntimeError(f"{self.kind} {self.name!r} could not start its hub: {error!r}")
            refusal.__cause__ = error
            job.refuse(refusal)
        return follower

    def _follow(self, follower: Job | None) -> None:
        while follower is not None:
            try:
                self.launch(follower)
            except Exception as error:  # no thread to be had
                follower = self._refuse(follower, error)
            else:
                return

    def _work(self, job: Job) -> None:
        """The life of one greenlet. But for the job's function, nothing in here waits."""
        assert self.hub is not None
        greenlet = self.hub.current()
        self.greenlets[job] = greenlet
        self.jobs[greenlet] = job
        good = job.execute()
        del self.greenlets[job], self.jobs[greenlet]
        self._judge(job)
        follower = self.finish(job, good)
        self._follow(follower)
        if good is not None:
            # At once: collected until the hub has a moment it would cost less, but what computes
            # on without end would then keep the outcome of what has ended before.
            job.post()
        if self.closing:
            self.check_over()
            self._end_if_idle()

    def _judge(self, job: Job) -> None:
        """What gevent's own exceptions mean to who awaits."""
        assert self.hub is not None
        struck = job in self.struck
        self.struck.discard(job)
        if not isinstance(job, GreenletCall):
            return
        if struck and self.hub.is_exit(job.error):
            job.killed = True
            job.error = Cancelled(f"{job.label} was ended by GreenletExit")
        elif self.hub.is_timeout(job.error):
            made = TimeoutError(f"{job.label} raised gevent.Timeout: {job.error}")
            made.__cause__ = job.error
            job.error = made

    def job_here(self) -> Job | None:
        """In the hub's thread: the job of the greenlet that runs."""
        assert self.hub is not None
        return self.jobs.get(self.hub.current())

    # -- ending it ----------------------------------------------------------------------------

    def stop(self, call: Call, options: CallOptions) -> asyncio.TimerHandle | None:
        if options.on_cancel == "kill":
            self.kill(call)
        elif options.on_cancel == "soft":
            return call.loop.call_later(options.grace or 0.0, self.kill, call)
        return None

    def kill(self, job: Job) -> None:
        """Any thread: have GreenletExit raised in its greenlet, once."""
        assert self.hub is not None  # it runs in there
        self.hub.post(functools.partial(self._strike, job))

    def _strike(self, job: Job, *, again: bool = False) -> None:
        """In the hub."""
        assert self.hub is not None
        greenlet = self.greenlets.get(job)
        if greenlet is not None and (again or job not in self.struck):
            self.struck.add(job)
            self.hub.kill(greenlet)

    def close(self, *, cancel: bool) -> None:
        if cancel:
            with self.lock:
                running = [job for job in self.running if isinstance(job, GreenletCall)]
            for job in running:  # whatever its function makes of the GreenletExit
                job.refusal = ExecutorClosed(
                    f"{self.kind} {self.name!r} was closed with cancel=True while {job.label} ran"
                )
        super().close(cancel=cancel)
        if cancel and self.hub is not None:
            self.hub.post(self._strike_all)

    def _strike_all(self, *, again: bool = False) -> None:
        """In the hub: end every call; those of the futures face cannot be cancelled."""
        with self.lock:
            running = [*self.running, *self.abandoned]
        for job in running:
            if not isinstance(job, GreenletCall):
                continue
            if job in self.greenlets:
                self._strike(job, again=again)
            elif job.claim():  # its greenlet has not begun, and will find it claimed
                job.refuse(
                    ExecutorClosed(
                        f"{self.kind} {self.name!r} was closed with cancel=True before "
                        f"{job.label} started"
                    )
                )

    def force(self) -> None:
        if self.hub is not None:
            self.hub.post(functools.partial(self._strike_all, again=True))

    # -- closing ------------------------------------------------------------------------------

    def wind_up(self) -> None:
        hub = self.hub
        with self.lock:
            left = bool(self.abandoned)
        if hub is None or hub.failed is not None or left:
            self.set_over()
        if hub is not None:
            hub.post(self._end_if_idle)

    def _end_if_idle(self) -> None:
        """In the hub."""
        hub = self.hub
        assert hub is not None
        if hub.failed is not None:
            return
        with self.lock:
            busy = self.running or self.abandoned or self.queue
        if not (busy or self.greenlets or hub.ending):
            hub.end()

    def join_threads(self) -> None:
        hub = self.hub
        if hub is not None and hub.ending and hub.thread is not threading.current_thread():
            hub.thread.join()
