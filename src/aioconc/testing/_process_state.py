"""The threads, child processes and descriptors of this process, at one moment.

Two moments are compared by `what_is_new`. What stays by design is left out, as `_standing` tells
it; where a thing was created is added, if `_births` has seen it.
"""

import _socket
import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal

from aioconc._internal._sites import Site, site_of
from aioconc.testing._births import births
from aioconc.testing._standing import Standing, is_idle, libuv_fds, loop_fds, process_fds

Kind = Literal[
    "task",
    "exception",
    "coroutine",
    "thread",
    "child process",
    "socket",
    "descriptor",
    "async generator",
]

_PROC: Final = Path("/proc/self")


@dataclass(frozen=True)
class Leak:
    """One thing that a block left.

    Attributes:
        kind: what kind of thing: "task", "exception", "coroutine", "thread", "child process",
            "socket", "descriptor" or "async generator".
        what: its name, and what is known of it.
        created: where in the user's code it was created, or None where that is not known.
    """

    kind: Kind
    what: str
    created: Site | None = None

    def __str__(self) -> str:
        where = "" if self.created is None else f", created at {self.created}"
        return f"{self.kind} {self.what}{where}"


@dataclass(frozen=True)
class ProcessState:
    """The busy threads, the children and the descriptors of this process at one moment."""

    threads: frozenset[threading.Thread]
    children: frozenset[int]
    # Descriptor -> what it leads to; with its inode where that is a socket or a pipe.
    fds: dict[int, str]
    has_uvloop: bool
    # When this was; `time.monotonic`.
    at: float = field(default_factory=monotonic, compare=False)

    @classmethod
    def now(
        cls, *, threads: bool = True, children: bool = True, fds: bool = True
    ) -> "ProcessState":
        """What there is now, of the kinds asked for; idle workers do not count."""
        return cls(
            frozenset(_busy_threads()) if threads else frozenset(),
            frozenset(_children()) if children else frozenset(),
            _descriptors() if fds else {},
            "uvloop" in sys.modules,
        )

    def what_is_new(
        self, now: "ProcessState", loop: Any = None, *, born: Container[Any] | None = None
    ) -> Iterator[Leak]:
        """A leak for each thing that is in `now` and not here, nor there by design.

        Args:
            now: a later moment.
            loop: the event loop that runs, or None.
            born: process pools that were made in between; by default as `births` has seen it.
        """
        threads, children = now.threads - self.threads, now.children - self.children
        new = self._new_descriptors(now)
        if not (threads or children or new):
            return
        standing = Standing.now(births.pools if born is None else born, since=self.at)
        for thread in threads - standing.threads:
            yield _thread_leak(thread)
        children -= standing.pids
        for pid in sorted(children):
            yield _child_leak(pid)
        new = {fd: to for fd, to in new.items() if fd not in standing.fds | loop_fds(loop)}
        late = now.has_uvloop and not self.has_uvloop
        for fd in [*libuv_fds(loop, new, late=late)]:
            del new[fd]
        for fd, leads_to in sorted(new.items()):
            yield _descriptor_leak(fd, leads_to, children)

    def _new_descriptors(self, now: "ProcessState") -> dict[int, str]:
        new = {fd: to for fd, to in now.fds.items() if self.fds.get(fd) != to}
        if new:
            # What was replaced by one of its kind, as by a reconnect, is no leak: only where
            # there are more of a kind than before are the new ones named.
            gone = [_kind_of(to) for fd, to in self.fds.items() if now.fds.get(fd) != to]
            for kind in {_kind_of(to) for to in new.values()}:
                of_kind = [fd for fd, to in new.items() if _kind_of(to) == kind]
                if len(of_kind) <= gone.count(kind):
                    for fd in of_kind:
                        del new[fd]
        return new


# -- threads ----------------------------------------------------------------------------------


def _busy_threads() -> Iterator[threading.Thread]:
    found = [each for each in threading.enumerate() if not isinstance(each, threading._DummyThread)]
    if len(found) == 1:
        return iter(found)
    frames = sys._current_frames()
    return (each for each in found if not is_idle(each, frames.get(each.ident or 0)))


def _thread_leak(thread: threading.Thread) -> Leak:
    at = site_of(sys._current_frames().get(thread.ident or 0))
    daemon = " (daemon)" if thread.daemon else ""
    where = "" if at is None else f", now at {at}"
    return Leak("thread", f"{thread.name!r}{daemon}{where}", births.threads.get(thread))


# -- children ---------------------------------------------------------------------------------


def _children() -> set[int]:
    """Ids of the child processes, those included that have ended and nobody has waited for."""
    found: set[int] = set()
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        # Also waits for those that have ended, as multiprocessing does now and then. It knows the
        # processes of a fork server, which are no children of ours.
        found = {each.pid for each in processes.active_children()}
    subprocess._cleanup()  # type: ignore[attr-defined]  # those whose Popen was dropped
    listed = _listed_children()
    if listed is None:
        listed = {
            pid
            for pid, (process, _) in [*births.processes.items()]
            if getattr(process(), "returncode", 0) is None
        }
    return found | listed


def _listed_children() -> set[int] | None:
    """As the kernel lists them; None where it does not."""
    for _ in range(3):  # a thread that ends meanwhile hands its children to another one
        try:
            lists = [(each / "children").read_text() for each in (_PROC / "task").iterdir()]
        except OSError:
            continue
        return {int(pid) for each in lists for pid in each.split()}
    return None


def _child_leak(pid: int) -> Leak:
    what = str(pid)
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            what += " (has ended, and nobody waited for it)"
        elif words := Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            what += f": {' '.join(words).strip()[:200]}"
    _, site = births.processes.get(pid, (None, None))
    return Leak("child process", what, site)


# -- descriptors ------------------------------------------------------------------------------


def _descriptors() -> dict[int, str]:
    """Descriptor -> what it leads to. Where the kernel does not tell: the sockets seen made."""
    found = {}
    folder = _PROC / "fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208  # at both ends of each block: paths cost twice
    except OSError:
        opened = [each.fileno() for each in [*births.socket_objects]]
        return {fd: f"socket:[{os.fstat(fd).st_ino}]" for fd in opened if fd >= 0}
    for name in names:
        with contextlib.suppress(OSError):  # the one that listed the folder is gone
            found[int(name)] = os.readlink(f"{folder}/{name}")  # noqa: PTH115
    return found


def _kind_of(leads_to: str) -> str:
    return re.sub(r"\[\d+\]", "", leads_to)


def _descriptor_leak(fd: int, leads_to: str, children: Collection[int]) -> Leak:
    if leads_to.startswith("socket:"):
        inode, site = births.sockets.get(fd, (None, None))
        known = site if leads_to == f"socket:[{inode}]" else None
        return Leak("socket", f"{fd}{_describe_socket(fd)}", known)
    for pid in children:
        process, site = births.processes.get(pid, (None, None))
        if process is not None and fd in _held_by(process()):
            return Leak("descriptor", f"{fd} -> {leads_to}, held by child process {pid}", site)
    return Leak("descriptor", f"{fd} -> {leads_to}")


def _held_by(process: Any) -> set[int]:
    """The descriptors that serve a child process."""
    pipes = [getattr(process, each, None) for each in ("stdin", "stdout", "stderr")]
    return process_fds(process) | {
        each.fileno() for each in pipes if each is not None and not each.closed
    }


def _describe_socket(fd: int) -> str:
    """Its two ends, as far as the kernel tells them."""
    try:
        copy = _socket.socket(fileno=os.dup(fd))
    except OSError:
        return ""
    try:
        here = _address(copy.getsockname())
        try:
            there = _address(copy.getpeername())
            return f" {here} -> {there}"
        except OSError:
            listens = copy.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
            return f" {here} ({'listening' if listens else 'not connected'})"
    except OSError:
        return ""
    finally:
        copy.close()


def _address(address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}:{address[1]}"
    return str(address or "unnamed")
