"""What stays after a block by design, and is nobody's leak.

Idle workers of thread pools, the helper processes of `multiprocessing`, the workers of aioconc's
default executors, and what an event loop opens late for its own life. Each is told by a fact that
can be seen: what a thread's innermost frames are, which object owns a process or a descriptor.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

# Modules in which a thread may be waiting when its owner has nothing for it to do.
_WAITING: Final = frozenset({"queue", "threading", "selectors", "multiprocessing.connection"})

# The function a pool's thread is in when it has nothing to do (in the middle of a call the function
# of the call is further in), and what tells whether it is about to wake up for work nevertheless.
_IDLE: Final[Mapping[tuple[str, str], Callable[[Any], object]]] = {
    ("concurrent.futures.thread", "_worker"): lambda thread: thread._args[1].qsize(),
    ("anyio._backends._asyncio", "WorkerThread.run"): lambda thread: thread.queue.qsize(),
    ("aioconc.executors._thread", "_work"): lambda thread: _is_taken(*thread._args),
    ("aioconc.executors._futures", "FuturesPool._keep"): lambda thread: (
        thread._target.__self__.orders.qsize()
    ),
    # One for the whole process, for ever.
    ("tqdm._monitor", "TMonitor.run"): lambda thread: False,
}


@dataclass
class Standing:
    """The processes, descriptors and threads that stay by design, at one moment."""

    pids: set[int] = field(default_factory=set)
    fds: set[int] = field(default_factory=set)
    threads: set[threading.Thread] = field(default_factory=set)

    @classmethod
    def now(cls, born: Container[Any] = (), since: float = 0.0) -> "Standing":
        """What stays by design now.

        Args:
            born: pools of the standard library that were made in the block in question, and so
                are to end in it.
            since: when that block began, by `time.monotonic`.
        """
        found = cls()
        found._add_helpers()
        found._add_pools(born)
        found._add_own(since)
        return found

    def _add_helpers(self) -> None:
        # They start with the first use of multiprocessing, and its interface cannot end them.
        tracker = sys.modules.get("multiprocessing.resource_tracker")
        if tracker is not None:
            self._add(tracker._resource_tracker, "_pid", "_fd")
        forkserver = sys.modules.get("multiprocessing.forkserver")
        if forkserver is not None:
            self._add(forkserver._forkserver, "_forkserver_pid", "_forkserver_alive_fd")

    def _add(self, helper: Any, pid_name: str, fd_name: str) -> None:
        pid, fd = getattr(helper, pid_name, None), getattr(helper, fd_name, None)
        if pid is not None:
            self.pids.add(pid)
        if fd is not None:
            self.fds.add(fd)

    def _add_pools(self, born: Container[Any]) -> None:
        """A pool of an earlier time may start workers late; they stay if they are idle."""
        module = sys.modules.get("concurrent.futures.process")
        defaults = _default_pools()
        for manager in [*getattr(module, "_threads_wakeups", ())]:
            pool = manager.executor_reference()
            stays = pool is not None and (pool not in born or any(pool is it for it in defaults))
            if stays and not manager.pending_work_items:
                self.threads |= {manager, getattr(manager.call_queue, "_thread", None) or manager}
                for end in (manager.call_queue, manager.result_queue, manager.thread_wakeup):
                    self.fds |= {fd for fd in map(_fileno, (end._reader, end._writer)) if fd >= 0}
                for process in [*manager.processes.values()]:
                    self.pids.add(process.pid)
                    self.fds |= process_fds(process)

    def _add_own(self, since: float) -> None:
        """aioconc's own processes: its service, and the workers of pools that stay."""
        bridge = sys.modules.get("aioconc._bridge._service")
        if bridge is not None and bridge._service is not None:
            self.threads.add(bridge._service.thread)
            self.fds |= loop_fds(bridge._service.loop)
        module = sys.modules.get("aioconc.executors.process._pool")
        if module is None:
            return
        self.fds.update(sys.modules["aioconc.executors.process._launch"].life_ends())
        defaults = _default_executors()
        for pool in [*module.pools]:
            stays = pool.made_at < since or any(pool is each for each in defaults)
            if stays and not pool.running:
                pids, fds = pool.standing()
                self.pids |= pids
                self.fds |= fds


def _default_executors() -> list[Any]:
    """The pools of aioconc's own default executors."""
    module = sys.modules.get("aioconc.executors._offload")
    if module is None:
        return []
    return [getattr(each, "_pool", None) for each in [*module._defaults.values()]]


def _default_pools() -> list[Any]:
    """The process pools under aioconc's own default executors."""
    return [getattr(each, "executor", None) for each in _default_executors()]


def is_idle(thread: threading.Thread, frame: FrameType | None) -> bool:
    """Whether the thread, with this innermost frame, is a pool's and waits for work."""
    if getattr(getattr(thread, "_target", None), "__qualname__", "") == "Service._run":
        return True  # aioconc's own: one for the whole process, for ever
    while frame is not None and frame.f_globals.get("__name__") in _WAITING:
        frame = frame.f_back
    if frame is None:
        return False
    has_work = _IDLE.get((frame.f_globals.get("__name__", ""), frame.f_code.co_qualname))
    if has_work is None:
        return False
    try:
        return not has_work(thread)
    except (AttributeError, IndexError, TypeError):  # it ends just now, and has let go of these
        return False


def _is_taken(pool: Any, worker: Any) -> bool:
    return worker not in pool.idle


def process_fds(process: Any) -> set[int]:
    """The descriptors through which this process holds a process of `multiprocessing`."""
    finalizer = getattr(getattr(process, "_popen", None), "finalizer", None)
    return {fd for fd in getattr(finalizer, "_args", None) or () if isinstance(fd, int)}


def loop_fds(loop: Any) -> set[int]:
    """Those that an asyncio loop has for itself, and may open late."""
    selector = getattr(loop, "_selector", None)
    ends = [getattr(loop, "_ssock", None), getattr(loop, "_csock", None)]
    ends += [selector, getattr(selector, "real", None)]
    return {fd for fd in map(_fileno, ends) if fd >= 0}


def _fileno(end: Any) -> int:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed meanwhile, or None
        return int(end.fileno())
    return -1


def prepare_uvloop() -> None:
    """Have libuv open now what it opens with the first loop of a process, and keeps."""
    uvloop = sys.modules.get("uvloop")
    if uvloop is not None and not _prepared:
        uvloop.new_event_loop().close()
        _prepared.append(uvloop)


_prepared: Final[list[Any]] = []


def libuv_fds(loop: Any, new: Mapping[int, str], *, late: bool) -> Iterator[int]:
    """Of new descriptors those that libuv opened for a loop of uvloop, or for the process.

    With its first stream a loop takes `/dev/null` in reserve, against running out of descriptors.

    Args:
        loop: the running loop, or None.
        new: descriptor -> what it leads to.
        late: uvloop was imported in the block, so that its pipe for the process is new too.
    """
    if loop is not None and type(loop).__module__.startswith("uvloop"):
        reserve = [fd for fd, leads_to in new.items() if leads_to == os.devnull]
        yield from reserve[:1]
    if late:
        pipes: dict[str, list[int]] = {}
        for fd, leads_to in new.items():
            if leads_to.startswith("pipe:"):
                pipes.setdefault(leads_to, []).append(fd)
        yield from next((ends for ends in pipes.values() if len(ends) == 2), ())
