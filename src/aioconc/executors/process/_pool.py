"""The worker processes of one executor: who is idle, who is started, who gets which call.

A call is sent in the thread of its own loop, to a worker that is attached there. One that is idle
at another loop is handed over; one that nobody has is started by the service. What a call is and
how it travels is left to the jobs and the workers.
"""

import asyncio
import atexit
import logging
import os
import time
import weakref
from collections import OrderedDict
from typing import Any

from aioconc._bridge._service import service
from aioconc._internal import _hooks
from aioconc.errors import ExecutorClosed, WorkerCrashed
from aioconc.executors._base import CallOptions
from aioconc.executors._call import Job
from aioconc.executors._pool import Pool
from aioconc.executors.process._functions import Functions
from aioconc.executors.process._jobs import ProcessCall
from aioconc.executors.process._launch import Launched, Recipe, launch
from aioconc.executors.process._worker import WorkerProcess

_log = logging.getLogger("aioconc.executors")

# Workers that may die before they are ready, one after the other, before those who wait for one
# are told that none can be started.
MOST_FAILED_STARTS = 3

# Seconds that a worker may take to end by itself once it is let go.
_LAST_STEPS = 2.0


class ProcessPool(Pool):
    """Worker processes, of which the one that went idle last is used first.

    Args:
        kind: class name of the executor.
        name: what it is called in events and logs.
        max_workers: most calls that run at a time.
        recipe: what workers are made from.
        spares: workers kept ready beside those, for when one is killed.
        idle_timeout: seconds after which an idle worker ends; None: never.
        max_tasks: calls after which a worker is replaced; None: never.
        memory_limit: bytes of memory beyond which a worker is replaced after its call.
    """

    # Rule 4: a worker is in `idle`, or has a job, or is in the hands of one thread that moves it.
    # Rule 5: `need` holds jobs that are in `running` and have no worker yet; each worker that
    #         becomes free is offered to the first of them.
    # Rule 6: `starting` counts workers asked of the service that are not in `workers` yet.
    replaces_abandoned = False

    def __init__(
        self,
        kind: str,
        name: str | None,
        max_workers: int,
        recipe: Recipe,
        *,
        spares: int,
        idle_timeout: float | None,
        max_tasks: int | None,
        memory_limit: int | None,
    ) -> None:
        super().__init__(kind, name or f"aioconc-processes-{id(self):x}", max_workers)
        self.recipe = recipe
        self.functions = Functions()
        self.spares = spares
        self.idle_timeout = idle_timeout
        self.max_tasks = max_tasks
        self.memory_limit = memory_limit
        self.workers: set[WorkerProcess] = set()
        self.idle: list[WorkerProcess] = []
        self.need: OrderedDict[Any, None] = OrderedDict()
        self.starting = 0
        self._failed_starts = 0
        self._sweeping = False

    def count_workers(self) -> int:
        return len(self.workers)

    # -- a job looks for a worker ---------------------------------------------------------------

    def launch(self, job: Any) -> None:
        if asyncio._get_running_loop() is job.loop:
            self._begin(job)
        elif not job.mailbox.post(job.loop, lambda: self._begin(job)):
            self._drop(job)

    def _begin(self, job: Any) -> None:
        """In the job's loop: give it a worker, or have it wait for one."""
        loop = job.loop
        with self.lock:
            worker = self._take_idle(loop)
            if worker is None:
                self.need[job] = None
        if worker is None:
            self._provide()
            return
        if worker.loop is not loop:
            worker.attach(loop, job.mailbox)
        self._run(worker, job)

    def _take_idle(self, loop: asyncio.AbstractEventLoop) -> WorkerProcess | None:
        """With the lock: an idle worker that is attached to `loop` or can be."""
        idle = self.idle
        for at in range(len(idle) - 1, -1, -1):
            worker = idle[at]
            if worker.loop is loop or worker.loop is None:
                del idle[at]
                return worker
            if worker.loop.is_closed():
                del idle[at]
                worker.detach()
                return worker
        return None

    def _run(self, worker: WorkerProcess, job: Any) -> None:
        if job.start():
            worker.run(job)
            if self.spares:
                self._replenish()
            return
        # Withdrawn in the meantime.
        follower = self.finish(job, None)
        self._free(worker, follower)
        self.check_over()

    def _provide(self) -> None:
        """Somebody needs a worker: have one handed over from another loop, or started."""
        with self.lock:
            if not self.need:
                return
            if self.idle:
                worker = self.idle.pop(0)
            elif self._alive() < self.max_workers + self.spares:
                self.starting += 1
                worker = None
            else:
                return  # one is being freed, or is dying; both look at `need`
        if worker is None:
            service().call(self._start)
        else:
            self._hand_over(worker)

    def _hand_over(self, worker: WorkerProcess) -> None:
        """Detach a worker that is in our hands from its loop, and offer it."""
        loop, mailbox = worker.loop, worker.mailbox

        def let_go() -> None:
            worker.detach()
            self._offer(worker)

        if loop is None or mailbox is None or loop is asyncio._get_running_loop():
            let_go()
        elif not mailbox.post(loop, let_go):
            let_go()  # the loop is closed

    def _offer(self, worker: WorkerProcess) -> None:
        """A worker that is attached to no loop: to who waits longest, or to the idle ones."""
        with self.lock:
            job = self.need.popitem(last=False)[0] if self.need else None
            if job is None:
                self._park(worker)
        if job is None:
            self.check_over()
        elif not job.mailbox.post(job.loop, lambda: self._accept(worker, job)):
            self._drop(job)
            self._offer(worker)

    def _accept(self, worker: WorkerProcess, job: Any) -> None:
        """In the job's loop: take the worker that was offered."""
        worker.attach(job.loop, job.mailbox)
        self._run(worker, job)

    def _drop(self, job: Any) -> None:
        """The job's loop is closed: nobody waits for it."""
        job.claim()
        follower = self.finish(job, None)
        if follower is not None:
            self.launch(follower)
        self.check_over()

    def withdraw(self, job: Job) -> bool:
        if not super().withdraw(job):
            return False
        with self.lock:
            waits = job in self.need
            self.need.pop(job, None)
        if waits:
            follower = self.finish(job, None)
            if follower is not None:
                self.launch(follower)
            self.check_over()
        return True

    # -- a worker becomes free ------------------------------------------------------------------

    def call_ended(self, worker: WorkerProcess, job: Any) -> None:
        """In the worker's loop: the outcome of its job is in the job."""
        self._failed_starts = 0
        follower = self.finish(job, job.good)
        if self.max_tasks is not None and worker.calls >= self.max_tasks:
            worker.retiring = True
        if self.memory_limit is not None and worker.memory() > self.memory_limit:
            worker.retiring = True
        self._free(worker, follower)
        job.deliver()
        if self.closing:
            self.check_over()

    def _free(self, worker: WorkerProcess, follower: Any) -> None:
        """In the worker's loop: it has no call now; `follower` has a slot and no worker."""
        if worker.retiring:
            if follower is not None:
                with self.lock:
                    self.need[follower] = None
            self._let_go(worker)
            self._provide()
            return
        if follower is None:
            with self.lock:
                if self.need:
                    follower = self.need.popitem(last=False)[0]
                else:
                    self._park(worker)
                    return
        if follower.loop is worker.loop:
            self._run(worker, follower)
        else:
            with self.lock:
                self.need[follower] = None
                self.need.move_to_end(follower, last=False)
            worker.detach()
            self._offer(worker)

    def _park(self, worker: WorkerProcess) -> None:
        """With the lock: nobody needs this worker now."""
        worker.idle_since = time.monotonic()
        self.idle.append(worker)
        if self.idle_timeout is not None and not self._sweeping and not self.closing:
            self._sweeping = True
            service().call(self._sweep_later)

    # -- starting -------------------------------------------------------------------------------

    def _start(self) -> None:
        """In the service: start a worker and offer it."""
        try:
            launched = launch(self.recipe)
        except BaseException as error:
            with self.lock:
                self.starting -= 1
            self._start_failed(f"{type(error).__name__}: {error}", None, None)
            return
        self._take_in(launched)

    def _take_in(self, launched: Launched) -> None:
        worker = WorkerProcess(self, launched)
        with self.lock:
            self.starting -= 1
            self.workers.add(worker)
        _pools.add(self)
        if _hooks.listeners:
            _hooks.emit("worker.started", executor=self.name, pid=worker.pid)
        self._offer(worker)

    def worker_ready(self, worker: WorkerProcess) -> None:
        """It has loaded what it needs."""

    def _start_failed(self, why: str, exitcode: int | None, pid: int | None) -> None:
        """A worker died before it was ready: another try, or the news to those who wait."""
        self._failed_starts += 1
        if self._failed_starts < MOST_FAILED_STARTS:
            self._provide()
            return
        self._failed_starts = 0
        with self.lock:
            waiting, self.need = list(self.need), OrderedDict()
        for job in waiting:
            if job.claim():
                follower = self.finish(job, False)
                job.refuse(
                    WorkerCrashed(
                        f"no worker could be started for {job.label}; the last of "
                        f"{MOST_FAILED_STARTS} tries said: {why}",
                        pid=pid,
                        exitcode=exitcode,
                    )
                )
                if follower is not None:
                    self.launch(follower)
        self.check_over()

    # -- ending ---------------------------------------------------------------------------------

    def stop(self, call: Any, options: CallOptions) -> asyncio.TimerHandle | None:
        if options.on_cancel == "kill":
            self.kill(call)
        elif options.on_cancel == "soft":
            return call.loop.call_later(options.grace or 0.0, self.kill, call)  # type: ignore[no-any-return]
        return None

    def kill(self, call: Any) -> None:
        """In the call's loop: end its worker, and so the call. Nothing if it has just ended."""
        worker: WorkerProcess | None = call.worker
        if worker is not None:
            call.killed = True
            worker.kill()
            self._replenish()

    def _replenish(self) -> None:
        """Have as many workers as there are calls and spares: one may be dying."""
        with self.lock:
            wanted = len(self.running) + self.spares
            if self.closing or self._alive() >= wanted:
                return
            self.starting += 1
        service().call(self._start)

    def _alive(self) -> int:
        """With the lock: workers that are not about to end, those being started included."""
        ending = sum(each.killed or each.retiring for each in self.workers)
        return len(self.workers) - ending + self.starting

    def close(self, *, cancel: bool) -> None:
        with self.lock:
            running = [*self.running] if cancel else []
        super().close(cancel=cancel)
        for job in running:
            if isinstance(job, ProcessCall):
                job.mailbox.post(job.loop, lambda job=job: self._close_call(job))  # type: ignore[misc]  # mypy cannot infer a lambda's default

    def _close_call(self, call: ProcessCall) -> None:
        """In the call's loop: the executor is being closed, with cancel=True."""
        if call.worker is not None and not call.killed:
            call.refuse(
                ExecutorClosed(
                    f"{self.kind} {self.name!r} was closed with cancel=True while {call.label} ran"
                )
            )
            self.kill(call)

    def worker_gone(self, worker: WorkerProcess, job: Any, exitcode: int, last_words: str) -> None:
        """Its process has ended; `job` was with it."""
        with self.lock:
            self.workers.discard(worker)
            if worker in self.idle:
                self.idle.remove(worker)
        if _hooks.listeners:
            _hooks.emit("worker.ended", executor=self.name, pid=worker.pid, exitcode=exitcode)
        if not worker.ready and not worker.killed:
            self._died_starting(worker, job, exitcode, last_words)
        elif job is not None:
            self._lost(worker, job, exitcode, last_words)
        self._provide()
        self.check_over()
        if self.closing:
            self.wind_up()

    def _lost(self, worker: WorkerProcess, job: Any, exitcode: int, last_words: str) -> None:
        job.worker = None
        good: bool | None = None
        if not worker.killed:
            good = False
            how = _how(exitcode)
            job.error = WorkerCrashed(
                f"the worker that ran {job.label} {how} (pid {worker.pid})",
                pid=worker.pid,
                exitcode=exitcode,
                stderr_tail=last_words,
            )
        follower = self.finish(job, good)
        if follower is not None:
            self.launch(follower)
        job.deliver()

    def _died_starting(
        self, worker: WorkerProcess, job: Any, exitcode: int, last_words: str
    ) -> None:
        why = last_words.strip() or _how(exitcode)
        if worker.start_error is not None:
            why = worker.start_error_text()
        if job is not None:
            # It has not begun, so it may be given to another.
            job.worker = None
            job.unclaim()
            with self.lock:
                self.need[job] = None
                self.need.move_to_end(job, last=False)
        self._start_failed(why, exitcode, worker.pid)

    def _let_go(self, worker: WorkerProcess) -> None:
        """In the worker's loop, or with no loop: it is to end by itself."""
        worker.retiring = True
        worker.detach()
        service().call(self._bury, worker)

    def _bury(self, worker: WorkerProcess) -> None:
        """In the service: close the worker's socket, and see that it ends."""
        home = service()
        worker.attach(home.loop, home.mailbox)
        worker.close_socket()
        home.loop.call_later(_LAST_STEPS, self._insist, worker)

    def _insist(self, worker: WorkerProcess) -> None:
        if worker in self.workers:
            worker.kill()

    def wind_up(self) -> None:
        with self.lock:
            idle, self.idle = self.idle, []
            abandoned: set[Any] = self.abandoned
            busy_abandoned = [each for each in self.workers if each.job in abandoned]
        for worker in idle:
            self._end_idle(worker)
        for worker in busy_abandoned:
            worker.kill()  # what was abandoned ends with the executor that can end it
        with self.lock:
            left = len(self.workers) + self.starting
        if not left and not self.over:
            self.set_over()

    def _end_idle(self, worker: WorkerProcess) -> None:
        """A worker that is in our hands is to end; wherever it is attached."""
        loop, mailbox = worker.loop, worker.mailbox
        if (
            loop is None
            or mailbox is None
            or loop is asyncio._get_running_loop()
            or not mailbox.post(loop, lambda: self._let_go(worker))
        ):
            self._let_go(worker)

    def force(self) -> None:
        with self.lock:
            workers = list(self.workers)
        for worker in workers:
            worker.kill()

    # -- idle workers ---------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        assert self.idle_timeout is not None
        service().loop.call_later(max(self.idle_timeout / 2, 0.01), self._sweep)

    def _sweep(self) -> None:
        """In the service: end workers that have been idle for too long."""
        assert self.idle_timeout is not None
        now = time.monotonic()
        with self.lock:
            # The oldest are first.
            old = []
            while self.idle and now - self.idle[0].idle_since >= self.idle_timeout:
                old.append(self.idle.pop(0))
            self._sweeping = bool(self.idle)
        for worker in old:
            self._end_idle(worker)
        if self._sweeping:
            self._sweep_later()


def _how(exitcode: int) -> str:
    """How a process ended, in words."""
    if exitcode < 0:
        import signal

        try:
            name = signal.Signals(-exitcode).name
        except ValueError:
            name = f"signal {-exitcode}"
        return f"was killed by {name}"
    return f"ended with exit status {exitcode}"


# Pools that have had workers: those still alive are killed at interpreter exit, after the futures
# face has finished what was submitted there.
_pools: "weakref.WeakSet[ProcessPool]" = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    pid = os.getpid()
    for pool in tuple(_pools):
        if pool.pid == pid:
            pool.force()
