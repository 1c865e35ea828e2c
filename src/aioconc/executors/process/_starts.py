"""How the workers of a pool come to be started, and what happens when that fails or is in vain.

A worker that cannot be started is tried again a few times, then those who wait for one are told.
One crash after the other slows the starts down. Who needs a worker is the pool's business. All of
it runs in the service, but where it says otherwise.
"""

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from aioconc.errors import WorkerCrashed
from aioconc.executors.process._crash_loop import FREE, CrashLoop
from aioconc.executors.process._launch import Launched, Launcher, NoTemplate

if TYPE_CHECKING:
    from aioconc.executors.process._pool import ProcessPool

_log = logging.getLogger("aioconc.executors")

# Workers that may die before they are ready, one after the other, before those who wait for one
# are told that none can be started.
MOST_FAILED: Final = 3


class Starts:
    """Starts the workers of one pool, which counts each in `starting` before it asks.

    Args:
        pool: whose.
    """

    def __init__(self, pool: "ProcessPool") -> None:
        self._pool = pool
        self._failed = 0
        self._crash_loop = CrashLoop()
        self.launcher = Launcher()
        if pool.recipe.forked:
            from aioconc.executors.process._template import ForkServer

            self.launcher = ForkServer(pool.name)

    def start(self) -> None:
        """Start a worker, unless nobody needs it any more."""
        pool = self._pool
        with pool.lock:
            wanted = bool(pool.need) or not pool.closing
            if not wanted:
                pool.starting -= 1
        if not wanted:
            pool.check_over()
        elif not self._crash_loop.holds(self.start):
            self.launcher.launch(pool.recipe, self._started)

    def _started(self, launched: Launched | BaseException) -> None:
        if isinstance(launched, Launched):
            self._pool.take_new(launched)
            return
        with self._pool.lock:
            self._pool.starting -= 1
        why = str(launched)
        if not isinstance(launched, NoTemplate):
            why = f"{type(launched).__name__}: {why}"
        self.failed(why, None, None, launched)

    def failed(
        self,
        why: str,
        exitcode: int | None,
        pid: int | None,
        cause: BaseException | None = None,
    ) -> None:
        """A worker died before it was ready: another try, or the news to those who wait.

        Args:
            why: what it said, or how it ended.
            exitcode: how it ended.
            pid: its id; None: there was none.
            cause: why there was none.
        """
        self._failed += 1
        final = isinstance(cause, NoTemplate)
        pool = self._pool
        if self._failed < MOST_FAILED and not final:
            pool.provide()
            pool.check_over()
            return
        self._failed = 0
        with pool.lock:
            waiting, pool.need = list(pool.need), OrderedDict()
        for job in waiting:
            if not job.claim():
                follower = pool.finish(job, None)
            else:
                follower = pool.finish(job, False)
                tries = "" if final else f"; the last of {MOST_FAILED} tries said"
                error = WorkerCrashed(
                    f"no worker could be started for {job.label}{tries}: {why}",
                    pid=pid,
                    exitcode=exitcode,
                )
                error.__cause__ = cause
                job.refuse(error)
            if follower is not None:
                pool.launch(follower)
        pool.check_over()

    def hurry(self) -> None:
        """Nobody needs the workers that are being started any more."""
        self._crash_loop.release()
        self.launcher.hurry()

    # -- what comes of the workers: in any thread ---------------------------------------------

    def call_ended(self) -> None:
        """One has run a call to its end."""
        self._failed = self._crash_loop.count = 0

    def crashed(self, job: Any) -> None:
        """One has crashed in the middle of this call."""
        if job.has_progressed:
            self._crash_loop.count = 0
        pause = self._crash_loop.crashed()
        if self._crash_loop.count == FREE:
            _log.warning(
                "%s %r: %d calls in a row have lost their worker, the last of them %s; until one "
                "ends, each new worker starts after a pause, at first of %s s",
                self._pool.kind,
                self._pool.name,
                FREE,
                job.label,
                pause,
            )
