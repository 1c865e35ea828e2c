"""How a worker's end is seen, and what becomes of the call that it had.

The service sees the process end; whoever has the worker in hand then buries it: reads what it sent
before, ends or repeats its call, and forgets it. Which worker is next is the pool's business, and
what a crash means for the start of others that of its starts.
"""

import asyncio
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aioconc._bridge._service import service
from aioconc._internal import _hooks
from aioconc.errors import WorkerCrashed
from aioconc.executors.process._child import how_ended
from aioconc.executors.process._jobs import ProcessCall
from aioconc.executors.process._memory import OutOfMemory

if TYPE_CHECKING:
    from aioconc.executors.process._pool import ProcessPool
    from aioconc.executors.process._worker import WorkerProcess

# Seconds that a worker may live on after its socket has ended: nearly always it is just dying.
_SILENT: Final = 0.5

# Workers that a call is sent to if they die before they have begun with it: one may die while it is
# idle, and more are no coincidence.
_MOST_SENT: Final = 3

# Seconds between two looks at a dying process, where the system does not tell of its end.
_LOOK: Final = 0.002


class Deaths:
    """Sees to the dead workers of one pool.

    Args:
        pool: whose.
    """

    def __init__(self, pool: "ProcessPool") -> None:
        self._pool = pool
        self._memory = OutOfMemory()

    def fell_silent(self, worker: "WorkerProcess") -> None:
        """In the worker's loop: its socket has ended."""
        service().call(self._expect_end_of_silent, worker)
        self.expect_end(worker)

    def _expect_end_of_silent(self, worker: "WorkerProcess") -> None:
        def insist() -> None:
            if not worker.dead:
                worker.process.kill()  # a crash: it has closed what it is reached through

        service().loop.call_later(_SILENT, insist)

    def expect_end(self, worker: "WorkerProcess") -> None:
        """It is to end soon. Any thread may call it."""
        if worker.process.pidfd < 0 and not worker.dead:
            service().call(self._look, worker)

    def _look(self, worker: "WorkerProcess") -> None:
        """In the service, where the system does not tell of an end."""
        if not worker.dead and not self.see_end(worker):
            service().loop.call_later(_LOOK, self._look, worker)

    def see_end(self, worker: "WorkerProcess") -> bool:
        """In the service: has it ended? Then see to its burial."""
        pool = self._pool
        process = worker.process
        if worker.dead:
            return True
        if not process.has_ended():
            return False
        process.unwatch()
        with pool.lock:
            worker.dead = True
            in_hand = worker in pool.idle
            if in_hand:
                pool.idle.remove(worker)
        if in_hand:
            self.bury(worker)
        else:
            self._have_buried(worker)
        return True

    def _have_buried(self, worker: "WorkerProcess") -> None:
        """In the service: whoever has the dead worker is to bury it."""
        loop, mailbox = worker.loop, worker.mailbox
        if loop is None and worker.job is None:
            return  # it is in somebody's hands, who will look at `dead`
        if loop is service().loop:
            self.bury(worker)
        elif (
            loop is None
            or mailbox is None
            or not mailbox.post(loop, partial(self._come_for, worker))
        ):
            self.bury(worker)  # no thread runs the loop any more

    def _come_for(self, worker: "WorkerProcess") -> None:
        """In the loop that had the worker when it died."""
        if worker.job is not None and worker.loop is asyncio._get_running_loop():
            self.bury(worker)
        # Else it was freed in the meantime, and buried by whoever freed it.

    def bury(self, worker: "WorkerProcess") -> None:
        """By whoever has it in hand: see what becomes of its job, and forget it."""
        pool = self._pool
        if not worker.take_grave():
            return
        job: Any = worker.read_out()
        exitcode = worker.process.exitcode
        begun = job is not None and worker.has_begun(worker.number)
        if job is not None:
            job.take_journal(worker.journal)
        last_words = worker.clear_away()
        worker.process.close()
        with pool.lock:
            pool.workers.discard(worker)
        if _hooks.listeners:
            _hooks.emit("worker.ended", executor=pool.name, pid=worker.pid, exitcode=exitcode)
        if not worker.ready and not worker.killed:
            told = worker.start_error_text() if worker.start_error is not None else ""
            why = told or last_words.strip() or how_ended(exitcode)
            pool.starts.failed(why, exitcode, worker.pid)
        elif job is not None:
            job.worker = None
            self._lost(worker, job, begun, last_words)
        pool.provide()
        pool.check_over()

    def _lost(self, worker: "WorkerProcess", job: Any, begun: bool, last_words: str) -> None:
        """The job of a dead worker."""
        pool = self._pool
        closed = job.loop.is_closed()
        unwanted = closed or getattr(job, "asked", False) or job.abandoned
        if not begun and not unwanted and not worker.killed and job.sent < _MOST_SENT:
            self._send_again(job)
            return
        good: bool | None = None
        if not (worker.killed and (unwanted or job.refusal is not None)):
            good = False
            exitcode = worker.process.exitcode
            job.error = WorkerCrashed(
                f"the worker that ran {job.label} {how_ended(exitcode)} (pid {worker.pid})",
                pid=worker.pid,
                exitcode=exitcode,
                stderr_tail=last_words,
                oom_suspected=not worker.killed
                and exitcode == -signal.SIGKILL
                and self._memory.ran_out(),
            )
            if not worker.killed:
                pool.starts.crashed(job)
        follower = pool.finish(job, good)
        if follower is not None:
            pool.launch(follower)
        if not closed:
            job.deliver()

    def _send_again(self, job: Any) -> None:
        """Its worker died before it had begun, as an idle one may: it costs the call nothing."""
        pool = self._pool
        if isinstance(job, ProcessCall):
            job.stop_clock()
        job.unclaim()
        with pool.lock:
            pool.need[job] = None
            pool.need.move_to_end(job, last=False)
