"""Starting a worker process: an exec of the same interpreter that loads next to nothing.

Never a fork of this process, whose threads and locks a child could not use. What the worker needs
to know comes in its first frame; descriptors are handed on by number. All of it happens in the
service's thread, since it may take milliseconds. Workers that are forked from a template, which is
exec'd the same way, are in `_template`.
"""

import contextlib
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aioconc._wire as wire_package
from aioconc._wire import _frames as wire
from aioconc._wire._body import Laden, dump
from aioconc._wire._call import JOURNAL_SIZE, STARTED
from aioconc.executors.process._child import ChildProcess, Process
from aioconc.executors.process._log_relay import levels

_ROOT = str(Path(wire_package.__file__).parent.parent.parent)

_BOOT = "import sys; sys.path.insert(0, {root!r}); from {module} import main; main({fds})"

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
_PLAIN_FINDERS = ("_frozen_importlib", "_pytest", "six", "aioconc.worker")

# Set where a measurement starts in every process through `site`.
_NEEDS_SITE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


@dataclass(frozen=True)
class Recipe:
    """What every worker of a pool is made from."""

    executor: str
    initializer: bytes | None = None
    env: Mapping[str, str] | None = None
    blas_threads: int | None = None
    forward_logs: bool = True
    # Whether workers are forked from a template, and the modules that it imports.
    forked: bool = False
    preload: tuple[str, ...] = ()

    @property
    def laden(self) -> Laden | None:
        """What has the descriptors that the initializer takes along; None: it takes none."""
        return self.initializer if isinstance(self.initializer, Laden) else None


@dataclass
class Launched:
    """A worker process that was just started, and this side of what connects it."""

    process: Process
    sock: socket.socket
    journal: mmap.mmap | None
    blackbox: int
    # What is to be sent first.
    setup: "list[bytes | memoryview]"


class Ends:
    """The descriptors of a worker that is about to be started, on both sides.

    Raises:
        OSError: they cannot be made.
    """

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.journal: mmap.mmap | None = None
        self._shared = self.blackbox = -1
        try:
            if hasattr(os, "memfd_create"):
                size = JOURNAL_SIZE + STARTED.size
                self._shared = os.memfd_create("aioconc journal")
                os.ftruncate(self._shared, size)
                self.journal = mmap.mmap(self._shared, size)
                self.blackbox = os.memfd_create("aioconc blackbox")
            self.ours.setblocking(False)
        except BaseException:
            self.close()
            raise

    def theirs(self) -> tuple[int, int, int]:
        """What the worker gets: its end of the socket, the journal, and the black box; -1: none."""
        return self._theirs.fileno(), self._shared, self.blackbox

    def close_theirs(self) -> None:
        """The worker has its own, or gets none."""
        self._theirs.close()
        if self._shared >= 0:
            os.close(self._shared)
            self._shared = -1

    def close(self) -> None:
        """There is no worker."""
        self.close_theirs()
        self.ours.close()
        if self.journal is not None:
            self.journal.close()
        if self.blackbox >= 0:
            os.close(self.blackbox)
            self.blackbox = -1

    def launched(self, process: Process, setup: "list[bytes | memoryview]") -> Launched:
        """The worker was started with them."""
        self.close_theirs()
        return Launched(process, self.ours, self.journal, self.blackbox, setup)


class NoTemplate(Exception):
    """No worker can be forked, and another try would be in vain."""


Done = Callable[[Launched | BaseException], object]


class Launcher:
    """Starts workers, each by an exec of its own. All but `kill` is for the service's thread."""

    def launch(self, recipe: Recipe, done: Done) -> None:
        """Start a worker.

        Args:
            recipe: what it is made from.
            done: called in the service, now or later, with the worker, or with the error if it
                cannot be started.
        """
        try:
            ends = Ends()
            try:
                setup = encode_setup(recipe)
                sock, shared, blackbox = ends.theirs()
                # Last, since a process that was started must not be forgotten.
                process = start_python(
                    recipe, "aioconc.worker._boot", (sock, life_pipe(), shared, blackbox)
                )
            except BaseException:
                ends.close()
                raise
        except BaseException as error:
            done(error)
            return
        done(ends.launched(process, setup))

    def hurry(self) -> None:
        """Nobody wants the workers that are being started any more."""

    def close(self, then: Callable[[], object]) -> None:
        """The pool is over; call `then` once nothing is left. May be called more than once."""
        then()

    def kill(self) -> None:
        """End at once what helps to start workers. Any thread may call it."""

    def standing(self) -> tuple[set[int], set[int]]:
        """Process ids and descriptors that it holds while the pool is there."""
        return set(), set()


def start_python(recipe: Recipe, module: str, passed: tuple[int, ...]) -> ChildProcess:
    """Start `main(*passed)` of a module of ours in an interpreter of its own.

    Args:
        recipe: gives its environment.
        module: its name.
        passed: descriptors that it inherits; -1: none.

    Raises:
        OSError: it cannot be started.
    """
    fds = ", ".join(map(str, passed))
    return ChildProcess(
        subprocess.Popen(
            [sys.executable, *_flags(), "-c", _BOOT.format(root=_ROOT, module=module, fds=fds)],
            stdin=subprocess.DEVNULL,
            pass_fds=[fd for fd in passed if fd >= 0],
            env=_environment(recipe),
        )
    )


def surroundings() -> dict[str, Any]:
    """Where this interpreter finds modules, and what it was started with."""
    return {
        "path": [each or str(Path.cwd()) for each in sys.path],
        "prefixes": (sys.prefix, sys.exec_prefix),
        "argv": sys.argv,
    }


def encode_setup(recipe: Recipe) -> "list[bytes | memoryview]":
    """The first frame for a worker.

    Sent by a loop: a worker that dies at once reads nothing, and nobody may wait for it.
    """
    from multiprocessing.process import current_process

    setup = {
        **surroundings(),
        "executor": recipe.executor,
        "initializer": None if recipe.initializer is None else bytes(recipe.initializer),
        "levels": levels() if recipe.forward_logs else None,
        # Of the program, so that what is behind the proxies of its managers knows the workers.
        "authkey": bytes(current_process().authkey),
    }
    return wire.encode(wire.READY, 0, *dump(setup), laden=recipe.laden)


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
