"""The worker processes of one executor: who is idle, who is started, who gets which call.

A call is sent in the thread of its own loop, to a worker that is attached there or is taken from
another loop. The service starts workers, has them until they are ready, and sees them die. What a
call is and how it travels is left to the jobs and the workers.
"""

import asyncio
import atexit
import os
import time
import weakref
from collections import OrderedDict
from functools import partial
from typing import Any

from aioconc._bridge._service import service
from aioconc._internal import _hooks
from aioconc._wire._arenas import Arenas
from aioconc.errors import ExecutorClosed, WorkerCrashed
from aioconc.executors._call import Job
from aioconc.executors._options import CallOptions
from aioconc.executors._pool import Pool
from aioconc.executors.process._deaths import Deaths
from aioconc.executors.process._functions import Functions
from aioconc.executors.process._jobs import ProcessCall
from aioconc.executors.process._launch import Launched, Recipe, shared_memory_descriptors
from aioconc.executors.process._patrol import start_patrol
from aioconc.executors.process._starts import Starts
from aioconc.executors.process._worker import WorkerProcess

# Seconds that a worker may take to end by itself once it is let go.
_LAST_STEPS = 2.0


# In place of a job: this worker gets none.
_UNUSABLE: Any = object()


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

    # Rule 4: a worker is starting, or in `idle`, or offered to a job, or has a job, or is being let
    #         go, or is in the hands of one thread that moves it on.
    # Rule 5: `need` holds jobs that are in `running` and have no worker yet; each worker that
    #         becomes free goes to the first of them. So nothing is idle while somebody needs it.
    # Rule 6: `starting` counts workers asked of the service that are not in `workers` yet.
    # Rule 7: a dead worker is never in `idle`: the service marks it with the lock, and whoever
    #         parks one, or has just given it a job, looks at the mark.
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
        self.made_at = time.monotonic()
        self.functions = Functions()
        self.arenas = Arenas()
        self.spares = spares
        self.idle_timeout = idle_timeout
        self.max_tasks = max_tasks
        self.memory_limit = memory_limit
        self.workers: set[WorkerProcess] = set()
        self.idle: list[WorkerProcess] = []
        self.need: OrderedDict[Any, None] = OrderedDict()
        self.starting = 0
        self.starts = Starts(self)
        # Whether the service looks after this pool from time to time; see `_patrol`.
        self.is_patrolled = False
        # Closed with cancel=True: what has not begun does not begin.
        self._cancelling = False
        self.deaths = Deaths(self)

    def count_workers(self) -> int:
        return len(self.workers)

    def standing(self) -> tuple[set[int], set[int]]:
        """Process ids and descriptors that idle workers hold by design; for leak checks."""
        with self.lock:
            workers = list(self.workers)
        pids, fds = self.starts.launcher.standing()
        fds |= {fd for worker in workers for fd in worker.descriptors() if fd >= 0}
        return pids | {worker.pid for worker in workers}, fds | shared_memory_descriptors()

    # -- a job looks for a worker ---------------------------------------------------------------

    def submit(self, job: Any) -> None:
        if not self.is_patrolled or asyncio._get_running_loop() is not job.loop:
            super().submit(job)
            return
        # The same, with the lock taken once.
        with self.lock:
            if not self._admit(job):
                return
            worker = self._take_idle(job)
        if worker is None:
            self.provide()
        elif worker.mailbox is job.mailbox:
            self._run(worker, job)
        else:
            self._give(worker, job)

    def launch(self, job: Any) -> None:
        if asyncio._get_running_loop() is job.loop:
            self._begin(job)
        elif not job.mailbox.post(job.loop, lambda: self._begin(job)):
            self._drop(job)

    def _begin(self, job: Any) -> None:
        """In the job's loop: give it a worker, or have it wait for one."""
        if not self.is_patrolled:
            start_patrol(self)
        with self.lock:
            worker = self._take_idle(job)
        if worker is None:
            self.provide()
        else:
            self._give(worker, job)

    def _take_idle(self, job: Any) -> WorkerProcess | None:
        """With the lock: the idle worker that suits this job best; without one the job waits."""
        idle, mailbox = self.idle, job.mailbox  # there is one for each loop
        if not idle:
            self.need[job] = None
            return None
        if idle[-1].mailbox is mailbox:  # as nearly always
            return idle.pop()
        for at in range(len(idle) - 2, -1, -1):
            if idle[at].mailbox is mailbox:
                return idle.pop(at)
        return idle.pop()

    def _give(self, worker: WorkerProcess, job: Any) -> None:
        """In the job's loop: have a worker that is in our hands run it."""
        if worker.mailbox is not job.mailbox:
            try:
                worker.attach(job.loop, job.mailbox)
            except Exception as error:
                self._cannot_attach(worker, job, error)
                return
        self._run(worker, job)

    def _cannot_attach(self, worker: WorkerProcess, job: Any, error: Exception) -> None:
        worker.kill()
        if job.claim():
            refusal = WorkerCrashed(f"no worker can be watched by {job.loop!r}: {error}")
            refusal.__cause__ = error
            follower = self.finish(job, False)
            job.refuse(refusal)
        else:
            follower = self.finish(job, None)
        self._free(worker, follower)
        self.check_over()

    def _run(self, worker: WorkerProcess, job: Any) -> None:
        """In the loop of both."""
        if self._cancelling and job.claim():
            job.refuse(self._closed_before(job))
        elif job.start():
            worker.run(job)
            if worker.dead:
                self.deaths.bury(worker)
            elif self.spares:
                self._replenish()
            return
        # Withdrawn in the meantime.
        follower = self.finish(job, None)
        self._free(worker, follower)
        self.check_over()

    def _closed_before(self, job: Job) -> ExecutorClosed:
        return ExecutorClosed(
            f"{self.kind} {self.name!r} was closed with cancel=True before {job.label} started"
        )

    def provide(self) -> None:
        """Have a worker started, if somebody needs one that is not on its way."""
        with self.lock:
            coming = self.starting + sum(
                not (each.ready or each.killed or each.dead) for each in self.workers
            )
            if len(self.need) <= coming or self._alive() >= self.max_workers + self.spares:
                return  # one comes, or is being freed, or is dying; all look at `need`
            self.starting += 1
        service().call(self.starts.start)

    def _offer(self, worker: WorkerProcess) -> None:
        """A worker that is in our hands: to who waits longest, or to the idle ones."""
        while True:
            with self.lock:
                job = self._place(worker, None)
                if job is not None and job is not _UNUSABLE:
                    worker.offered = job
            if job is _UNUSABLE:
                self._discard(worker)
                return
            if job is None:
                self.check_over()
                return
            if job.mailbox.post(job.loop, partial(self._accept, worker, job)):
                return
            worker.offered = None
            self._drop(job)

    def _accept(self, worker: WorkerProcess, job: Any) -> None:
        """In the job's loop: take the worker that was offered."""
        worker.offered = None
        self._give(worker, job)

    def _discard(self, worker: WorkerProcess) -> None:
        """A worker that is in our hands and gets no further call."""
        if worker.dead:
            self.deaths.bury(worker)
        else:  # the service has it in hand when it dies, also if it was killed already
            self._let_go(worker)
        self.provide()

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
        self.starts.call_ended()
        if self.max_tasks is not None and worker.calls >= self.max_tasks:
            worker.retiring = True
        if self.memory_limit is not None and worker.memory() > self.memory_limit:
            worker.retiring = True
        with self.lock:
            follower = self._place(worker, self._count(job, job.good))
        if job.abandoned:
            self._tell_late(job, job.good)
        if follower is not None:
            self._go_on(worker, follower)
        job.deliver()
        if self.closing:
            self.check_over()

    def count_as_failed(self) -> None:
        """A call that was counted as completed has a value that cannot be unpickled."""
        with self.lock:
            self.completed -= 1
            self.failed += 1

    def _free(self, worker: WorkerProcess, follower: Any) -> None:
        """In the worker's loop: it has no call now; `follower` has a slot and no worker."""
        with self.lock:
            follower = self._place(worker, follower)
        if follower is not None:
            self._go_on(worker, follower)

    def _place(self, worker: WorkerProcess, follower: Any) -> Any:
        """With the lock: the job that a free worker gets; None: it is idle now."""
        if worker.dead or worker.killed or worker.retiring:
            if follower is not None:
                self.need[follower] = None
            return _UNUSABLE
        if follower is None:
            if not self.need:
                worker.idle_since = time.monotonic()
                self.idle.append(worker)
                return None
            follower = self.need.popitem(last=False)[0]
        return follower

    def _go_on(self, worker: WorkerProcess, follower: Any) -> None:
        """A free worker with what `_place` has given it."""
        if follower is _UNUSABLE:
            self._discard(worker)
        elif follower.mailbox is worker.mailbox:
            self._run(worker, follower)
        else:
            with self.lock:
                self.need[follower] = None
                self.need.move_to_end(follower, last=False)
            self._offer(worker)

    # -- starting: all of it in the service -----------------------------------------------------

    def take_new(self, launched: Launched) -> None:
        """A worker that was asked for was started."""
        worker = WorkerProcess(self, launched)
        with self.lock:
            self.starting -= 1
            self.workers.add(worker)
        pools.add(self)
        if _hooks.listeners:
            _hooks.emit("worker.started", executor=self.name, pid=worker.pid)
        home = service()
        worker.process.watch(partial(self.deaths.see_end, worker))
        worker.attach(home.loop, home.mailbox)
        laden = self.recipe.laden
        worker.send(launched.setup, () if laden is None else laden.carried)
        self.check_over()

    def worker_ready(self, worker: WorkerProcess) -> None:
        """It has loaded what it needs."""
        self._offer(worker)

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
        service().call(self.starts.start)

    def _alive(self) -> int:
        """With the lock: workers that are not about to end, those being started included."""
        ending = sum(each.killed or each.retiring for each in self.workers)
        return len(self.workers) - ending + self.starting

    def close(self, *, cancel: bool) -> None:
        with self.lock:
            self._cancelling |= cancel
            running = [*self.running] if cancel else []
        super().close(cancel=cancel)
        if cancel:
            self._drop_needs()
        for job in running:
            if isinstance(job, ProcessCall):
                job.mailbox.post(job.loop, partial(self._close_call, job))
        self.check_over()

    def _drop_needs(self) -> None:
        """What waits for a worker shall not begin."""
        with self.lock:
            waiting, self.need = list(self.need), OrderedDict()
        for job in waiting:
            if job.claim():
                job.refuse(self._closed_before(job))
            self.finish(job, None)  # the queue is empty: nobody follows

    def _close_call(self, call: ProcessCall) -> None:
        """In the call's loop: the executor is being closed, with cancel=True."""
        if call.worker is not None and not call.killed:
            call.refuse(
                ExecutorClosed(
                    f"{self.kind} {self.name!r} was closed with cancel=True while {call.label} ran"
                )
            )
            self.kill(call)

    # -- a worker is let go -------------------------------------------------------------------------

    def _let_go(self, worker: WorkerProcess) -> None:
        """A worker that is in our hands is to end by itself."""
        worker.retiring = True
        worker.detach()
        service().call(self._see_off, worker)
        if self.spares:
            self._replenish()

    def _see_off(self, worker: WorkerProcess) -> None:
        """In the service: tell it, and see that it ends."""
        home = service()
        if not worker.dead:
            worker.attach(home.loop, home.mailbox)
            if not worker.killed:
                worker.say_goodbye()
            self.deaths.expect_end(worker)
            home.loop.call_later(_LAST_STEPS, self._insist, worker)
        if worker.dead:
            self.deaths.bury(worker)

    def _insist(self, worker: WorkerProcess) -> None:
        if not worker.dead:
            worker.kill()

    def wind_up(self) -> None:
        with self.lock:
            idle, self.idle = self.idle, []
            abandoned: set[Any] = self.abandoned
            unwanted = [each for each in self.workers if not each.ready or each.job in abandoned]
        for worker in idle:
            self._let_go(worker)
        for worker in unwanted:
            # What was abandoned ends with the executor that can end it.
            if not worker.killed:
                worker.kill()
        with self.lock:
            left, starting = len(self.workers) + self.starting, self.starting
        if starting:
            service().call(self.starts.hurry)
        elif not left and not self.over:
            self.starts.launcher.close(self._end)

    def _end(self) -> None:
        """Its workers are gone, and with them what has started them."""
        self.arenas.close()
        self.set_over()

    def force(self) -> None:
        self._drop_needs()
        with self.lock:
            workers = list(self.workers)
        for worker in workers:
            worker.kill()
        self.starts.launcher.kill()


def close_unowned(pool: ProcessPool) -> None:
    """Nobody has its executor any more: its workers end once they have nothing to do.

    Called by the garbage collector, at any moment in any thread.
    """
    if pool.pid == os.getpid() and not pool.closing:
        service().call(partial(pool.close, cancel=False))


# Pools that have had workers: those still alive are killed at interpreter exit, after the futures
# face has finished what was submitted there.
pools: "weakref.WeakSet[ProcessPool]" = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    pid = os.getpid()
    for pool in tuple(pools):
        if pool.pid == pid:
            pool.force()
