"""What the service does for a pool from time to time, while it has calls or idle workers.

Ends workers that have been idle for too long, gives back memory that was kept for large buffers
once nothing has run for a while, and takes over what a loop has left that was closed
with a call in it: nobody tells of that, and nobody waits for such a call, but its slot does. All
of it runs in the service's thread.
"""

import time
from typing import TYPE_CHECKING, Any, Final

from aioconc._bridge._service import service

if TYPE_CHECKING:
    from aioconc.executors.process._pool import ProcessPool
    from aioconc.executors.process._worker import WorkerProcess

# Seconds between two rounds. What waits for one is a slot, never a caller.
_ROUND: Final = 0.5


# Seconds after the last call for which memory for large buffers is kept.
_KEPT_FOR: Final = 5.0


def start_patrol(pool: "ProcessPool") -> None:
    """Go round from now on, until there is nothing to look after. Any thread may call it."""
    pool.is_patrolled = True
    service().call(_go_later, pool)


def _go_later(pool: "ProcessPool") -> None:
    wait = _ROUND
    if pool.idle_timeout is not None:
        wait = min(wait, max(pool.idle_timeout / 2, 0.01))
    service().loop.call_later(wait, _go_round, pool)


def _go_round(pool: "ProcessPool") -> None:
    now = time.monotonic()
    with pool.lock:
        old = []
        if pool.idle_timeout is not None:
            # The oldest are first.
            while pool.idle and now - pool.idle[0].idle_since >= pool.idle_timeout:
                old.append(pool.idle.pop(0))
        shrinks = pool.idle_timeout is not None and bool(pool.idle)
        pool.is_patrolled = shrinks or bool(pool.running) or keeps_memory(pool)
        workers = list(pool.workers)
    for worker in old:
        pool._let_go(worker)
    for worker in workers:
        if worker.process.pidfd < 0:
            pool.deaths.see_end(worker)
        _look_after(pool, worker)
    _drop_lost_jobs(pool)
    _trim(pool, now)
    if pool.is_patrolled:
        _go_later(pool)


def keeps_memory(pool: "ProcessPool") -> bool:
    """With the lock: is there memory for large buffers that nobody may be using?"""
    return bool(pool.arenas.bytes_free) or any(each.freight.keeps_memory for each in pool.idle)


def _trim(pool: "ProcessPool", now: float) -> None:
    """Give back what was kept for large buffers, if nothing has run for a while."""
    with pool.lock:
        if pool.running or any(now - each.idle_since < _KEPT_FOR for each in pool.idle):
            return
        # In our hands until they are offered again.
        workers = [each for each in pool.idle if each.freight.keeps_memory]
        for worker in workers:
            pool.idle.remove(worker)
    pool.arenas.trim()
    home = service()
    for worker in workers:
        worker.attach(home.loop, home.mailbox)
        worker.freight.trim()
        pool._offer(worker)


def _look_after(pool: "ProcessPool", worker: "WorkerProcess") -> None:
    """Is it with a loop that was closed?"""
    offered: Any = worker.offered
    job: Any = worker.job
    if offered is not None and offered.loop.is_closed():
        # Nobody will come for it.
        worker.offered = None
        pool._drop(offered)
        pool._offer(worker)
    elif job is not None and job.loop.is_closed() and worker.loop is not service().loop:
        if worker.dead:
            pool.deaths.bury(worker)
            return
        home = service()
        worker.attach(home.loop, home.mailbox)
        if not job.abandoned:  # what was abandoned may end
            worker.kill()


def _drop_lost_jobs(pool: "ProcessPool") -> None:
    """Jobs that were on their way to a loop when it was closed."""
    with pool.lock:
        running: list[Any] = [*pool.running]
        lost = [
            each
            for each in running
            if each.loop.is_closed() and each.worker is None and not each.finished
        ]
        for job in lost:
            pool.need.pop(job, None)
    for job in lost:
        pool._drop(job)
