"""Where threads, processes, sockets and coroutines were created, while somebody wants to know.

While at least one `recording()` is open, the functions of the standard library through which they
come into being note the line of the user's code that called them. What others patched meanwhile is
left alone; after the last block the originals are back.
"""

import functools
import os
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from socket import socket
from typing import Any, Final

from aioconc._internal._sites import Place, Site, current_site

Note = Callable[[Any, Site | None], None]


# Recording life:  off -> on (1 user) <-> on (n users) -> off
# Rule 1: `_users` and what is patched change under `_lock`.
# Rule 2: a wrapper that somebody else has wrapped in turn cannot be taken out; it stays, and
#         notes nothing while `_users` is 0.
class _Births:
    """What was created since recording began; read from any thread."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._users = 0
        self._patched: list[tuple[Any, str, Any, Any]] = []
        # Thread -> its users, and how far its coroutines' origins were tracked before.
        self._tracking: dict[int, tuple[int, int]] = {}
        self.clear()

    def clear(self) -> None:
        self.threads: weakref.WeakKeyDictionary[threading.Thread, Site | None] = (
            weakref.WeakKeyDictionary()
        )
        # Process id -> what started it, and where.
        self.processes: dict[int, tuple[Callable[[], Any], Site | None]] = {}
        # Descriptor -> inode of the socket that it was then, and where that was made.
        self.sockets: dict[int, tuple[int, Site | None]] = {}
        self.socket_objects: weakref.WeakSet[socket] = weakref.WeakSet()
        self.pools: weakref.WeakSet[ProcessPoolExecutor] = weakref.WeakSet()
        # Coroutines that were dropped and had never been awaited: name, and where created.
        self.unawaited: list[tuple[str, Site]] = []

    @contextmanager
    def recording(self) -> Generator[None]:
        """Note what is created meanwhile, in any thread."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """One more user."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self.clear()
                self._patch(threading.Thread, "start", self._thread)
                self._patch(subprocess.Popen, "__init__", self._process)
                self._patch(BaseProcess, "start", self._process)
                self._patch(socket, "__init__", self._socket)
                self._patch(ProcessPoolExecutor, "__init__", self._pool)
                # Private since 3.7, and called for each coroutine that is dropped unawaited.
                self._patch(warnings, "_warn_unawaited_coroutine", self._coroutine)
            self._track(+1)

    def end(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            self._track(-1)
            if self._users:
                return
            for owner, name, original, ours in self._patched:
                if vars(owner).get(name) is ours:
                    setattr(owner, name, original)
            self._patched.clear()

    def _patch(self, owner: Any, name: str, note: Note) -> None:
        original = vars(owner)[name]

        @functools.wraps(original)
        def wrapper(self_: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(self_, *args, **kwargs)
            finally:
                if self._users:
                    note(self_, current_site())

        setattr(owner, name, wrapper)
        self._patched.append((owner, name, original, wrapper))

    def _track(self, change: int) -> None:
        """Have the coroutines of this thread know where they were created, as long as needed."""
        thread = threading.get_ident()
        users, before = self._tracking.pop(thread, (0, sys.get_coroutine_origin_tracking_depth()))
        if users + change:
            self._tracking[thread] = (users + change, before)
            sys.set_coroutine_origin_tracking_depth(max(before, 1))
        else:
            sys.set_coroutine_origin_tracking_depth(before)

    # -- what is noted ------------------------------------------------------------------------

    def _thread(self, thread: threading.Thread, site: Site | None) -> None:
        self.threads[thread] = site

    def _process(self, process: Any, site: Site | None) -> None:
        pid = getattr(process, "pid", None)
        if pid is not None:  # None: it could not be started
            self.note_process(pid, process, site)

    def _socket(self, made: socket, site: Site | None) -> None:
        self.socket_objects.add(made)
        self.note_socket(made.fileno(), site)

    def _pool(self, pool: ProcessPoolExecutor, site: Site | None) -> None:
        self.pools.add(pool)

    def _coroutine(self, coroutine: Any, _: Site | None) -> None:
        # Only what began while it was tracked has an origin.
        if coroutine.cr_origin:
            place = Place(*coroutine.cr_origin[0])
            self.unawaited.append((coroutine.__qualname__, Site(place)))

    def note_process(self, pid: int, process: Any, site: Site | None) -> None:
        """A process began; `process` is what stands for it, or None."""
        reference = (lambda: None) if process is None else weakref.ref(process)
        self.processes[pid] = (reference, site)

    def note_socket(self, fd: int, site: Site | None) -> None:
        """A socket was opened, or an object made for one that is open already."""
        try:
            inode = os.fstat(fd).st_ino
            if self.sockets.get(fd, (None, None))[0] != inode:
                self.sockets[fd] = (inode, site)
        except OSError:  # it could not be made, or was closed at once
            pass


births: Final = _Births()
