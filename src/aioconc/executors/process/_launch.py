"""Starting a worker process: an exec of the same interpreter that loads next to nothing.

Never a fork of this process, whose threads and locks a child could not use. What the worker needs
to know comes in its first frame; descriptors are handed on by number. All of it happens in the
service's thread, since it may take milliseconds.
"""

import contextlib
import itertools
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aioconc._wire as wire_package
from aioconc._wire import _frames as wire
from aioconc._wire._body import dump
from aioconc._wire._call import JOURNAL_SIZE, STARTED
from aioconc.executors.process._log_relay import levels

_ROOT = str(Path(wire_package.__file__).parent.parent.parent)

_BOOT = (
    "import sys; sys.path.insert(0, {root!r}); from aioconc.worker._boot import main; main({fds})"
)

# Libraries that compute with threads of their own read these when they are loaded. With as many
# workers as cores, each having as many threads as cores makes all of them slower.
BLAS_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# How deep in worker processes this process is; a worker's own pools count one more.
DEPTH_VARIABLE = "AIOCONC_DEPTH"

# Import systems that a worker has as well, or that it need not have.
_PLAIN_FINDERS = ("_frozen_importlib", "_pytest", "six")

# Set where a measurement starts in every process through `site`.
_NEEDS_SITE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")

numbers = itertools.count(1)


@dataclass(frozen=True)
class Recipe:
    """What every worker of a pool is made from."""

    executor: str
    initializer: bytes | None = None
    env: Mapping[str, str] | None = None
    blas_threads: int | None = None
    forward_logs: bool = True


class Process:
    """A child process: its id, a descriptor of it where the system has them, and its end."""

    # Rule: a signal is sent, and the process waited for, under `_lock`: its id may mean another
    #       process as soon as it was waited for.
    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self._lock = threading.Lock()
        self._over = False
        self.pid = popen.pid
        # None while it runs, and if somebody else waited for it.
        self.exitcode: int | None = None
        # Readable once it has ended; -1 on an old kernel, or in a sandbox.
        self.pidfd = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.pidfd = os.pidfd_open(self.pid)

    def has_ended(self) -> bool:
        """Look, without waiting; one that has ended leaves no zombie."""
        with self._lock:
            if self._over:
                return True
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pass  # the program waits for children that are not its own, or ignores SIGCHLD
            else:
                if not pid:
                    return False
                self.exitcode = os.waitstatus_to_exitcode(status)
            self._over = True
            self._popen.returncode = self.exitcode or 0  # else it would complain when it is deleted
            return True

    def kill(self) -> None:
        """Send SIGKILL, if it has not ended. Any thread may call it."""
        with self._lock:
            if self._over:
                return
            with contextlib.suppress(ProcessLookupError):
                if self.pidfd >= 0:
                    signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                else:
                    os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the descriptor; once it has ended."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@dataclass
class Launched:
    """A worker process that was just started, and this side of what connects it."""

    process: Process
    sock: socket.socket
    journal: mmap.mmap | None
    blackbox: int
    # What is to be sent first.
    setup: "list[bytes | memoryview]"


def launch(recipe: Recipe) -> Launched:
    """Start a worker.

    Raises:
        OSError: the process or its descriptors cannot be made.
    """
    ours, theirs = socket.socketpair()
    opened: list[int] = []
    journal = None
    shared = blackbox = -1
    try:
        if hasattr(os, "memfd_create"):
            shared = os.memfd_create("aioconc journal")
            opened.append(shared)
            os.ftruncate(shared, JOURNAL_SIZE + STARTED.size)
            journal = mmap.mmap(shared, JOURNAL_SIZE + STARTED.size)
            blackbox = os.memfd_create("aioconc blackbox")
        life = life_pipe()
        passed = [theirs.fileno(), life, shared, blackbox]
        setup = {
            "path": [each or str(Path.cwd()) for each in sys.path],
            "prefixes": (sys.prefix, sys.exec_prefix),
            "argv": sys.argv,
            "executor": recipe.executor,
            "initializer": recipe.initializer,
            "levels": levels() if recipe.forward_logs else None,
        }
        # Sent by a loop: a worker that dies at once reads nothing, and nobody may wait for it.
        first = wire.encode(wire.READY, 0, *dump(setup))
        ours.setblocking(False)
        # Last, since a process that was started must not be forgotten.
        process = subprocess.Popen(
            [
                sys.executable,
                *_flags(),
                "-c",
                _BOOT.format(root=_ROOT, fds=", ".join(map(str, passed))),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[fd for fd in passed if fd >= 0],
            env=_environment(recipe),
        )
    except BaseException:
        ours.close()
        if blackbox >= 0:
            os.close(blackbox)
        if journal is not None:
            journal.close()
        raise
    finally:
        theirs.close()
        for fd in opened:
            os.close(fd)
    return Launched(Process(process), ours, journal, blackbox, first)


def _flags() -> list[str]:
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # Without `site` a worker starts in half the time: its path comes from us anyway. But what
    # other import systems, or a measurement, put in place there, it must put in place itself.
    plain = all(
        getattr(each, "__module__", type(each).__module__).startswith(_PLAIN_FINDERS)
        for each in sys.meta_path
    )
    if plain and not any(each in os.environ for each in _NEEDS_SITE) and "-S" not in flags:
        flags.append("-S")
    return flags


def _environment(recipe: Recipe) -> dict[str, str]:
    env = dict(os.environ)
    if recipe.blas_threads is not None:
        for variable in BLAS_VARIABLES:
            env.setdefault(variable, str(recipe.blas_threads))
    env.update(recipe.env or {})
    env[DEPTH_VARIABLE] = str(int(os.environ.get(DEPTH_VARIABLE, "0")) + 1)
    return env


# The pipe whose end tells every worker that this process has died. Only this process holds its
# writing end: it is not inherited by an exec, and a forked child closes it.
_life: tuple[int, int] | None = None


def life_pipe() -> int:
    """The end of the pipe that workers watch."""
    global _life
    if _life is None:
        _life = os.pipe()
    return _life[0]


def shared_memory_descriptors() -> set[int]:
    """Those of this process that lead to memory of ours; none where the system does not tell."""
    found = set()
    with contextlib.suppress(OSError):
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # the one that lists the folder
                if str(each.readlink()).startswith("/memfd:aioconc"):
                    found.add(int(each.name))
    return found


def life_ends() -> tuple[int, ...]:
    """Both ends of that pipe, once it was made."""
    return _life or ()


def _close_life() -> None:
    global _life
    if _life is not None:
        for fd in _life:
            os.close(fd)
        _life = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_life)
