"""What a test may leave behind: nothing, but for the process-wide things named here.

A snapshot is taken before each test and compared after it. Threads, children and descriptors end
a little after the call that ended them returns, so the comparison waits for them, for
`PATIENCE` seconds at most.
"""

import asyncio
import contextlib
import gc
import logging
import sys
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

# Seconds. Only a test that leaks, or that is about to fail, waits this long.
PATIENCE = 3.0

_FDS = Path("/proc/self/fd")


# Processes that serve the whole interpreter and stay until it exits, by design: they start with the
# first use of `multiprocessing`, and cannot be ended through its interface. Of each: the module, its
# one object, and where that keeps the process id and the descriptor that holds the process.
_STOCK = (
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid", "_fd"),
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid", "_forkserver_alive_fd"),
)


def _stock() -> Iterator[tuple[int | None, int | None]]:
    """The process id and the descriptor of each that has been loaded; None until it has started."""
    for module, name, pid, fd in _STOCK:
        if module in sys.modules:
            owner = getattr(sys.modules[module], name)
            yield getattr(owner, pid, None), getattr(owner, fd, None)


def stock_pids() -> set[int]:
    """The processes that stay by design."""
    return {pid for pid, _ in _stock() if pid is not None}


def stock_fds() -> set[int]:
    """The descriptors that hold the processes of `stock_pids`, one each."""
    return {fd for _, fd in _stock() if fd is not None}


@dataclass(frozen=True)
class Snapshot:
    """The threads, children and descriptors of this process at one moment."""

    threads: frozenset[threading.Thread]
    children: frozenset[int]
    fds: dict[int, str]

    @classmethod
    def take(cls) -> "Snapshot":
        threads = frozenset(each for each in threading.enumerate() if not each.daemon)
        return cls(threads, frozenset(_children() - stock_pids()), _fds())

    def what_is_new(self, *, allowed: Collection[str] = ()) -> list[str]:
        """One line for each thing that exists now and did not then, once it had time to end."""
        deadline = time.monotonic() + PATIENCE
        while (left := self._compare(Snapshot.take(), allowed)) and time.monotonic() < deadline:
            time.sleep(0.01)
            gc.collect()
        return left

    def _compare(self, now: "Snapshot", allowed: Collection[str]) -> list[str]:
        left = []
        if "threads" not in allowed:
            left += [f"thread {each.name!r}" for each in now.threads - self.threads]
        if "children" not in allowed:
            left += [f"child process {_describe(pid)}" for pid in now.children - self.children]
        # Counted, not compared one by one: a thing that was replaced is not a leak.
        if "fds" not in allowed and len(now.fds) > len(self.fds):
            new = {fd: to for fd, to in now.fds.items() if self.fds.get(fd) != to}
            left += [f"descriptor {fd} -> {to}" for fd, to in sorted(new.items())]
        return left


def tasks_of_this_loop() -> list[str]:
    """A line for each unfinished task of the running loop, but the one that asks."""
    return [repr(each) for each in asyncio.all_tasks() - {asyncio.current_task()}]


@contextlib.contextmanager
def asyncio_errors(found: list[str]) -> Iterator[None]:
    """Append what any loop reports meanwhile: exceptions never retrieved, callbacks that raise."""

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(self.format(record))

    logger = logging.getLogger("asyncio")
    recorder = Recorder(level=logging.ERROR)
    logger.addHandler(recorder)
    try:
        yield
    finally:
        logger.removeHandler(recorder)


def _children() -> set[int]:
    """Process ids of the children of this process, dead ones that nobody waited for included."""
    try:
        lists = [(each / "children").read_text() for each in Path("/proc/self/task").iterdir()]
    except OSError:  # not on Linux, or built without it, or a thread ended just now
        return {each.pid for each in psutil.Process().children()}
    return {int(pid) for each in lists for pid in each.split()}


def _fds() -> dict[int, str]:
    """Open descriptors and what they are, without the stock ones; empty where not told."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for fd in {int(each.name) for each in _FDS.iterdir()} - stock_fds():
            with contextlib.suppress(OSError):  # the one that listed the folder is gone
                found[fd] = str((_FDS / str(fd)).readlink())
    return found


def _describe(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return f"{pid} ({process.status()}): {' '.join(process.cmdline())[:200]}"
    return str(pid)
