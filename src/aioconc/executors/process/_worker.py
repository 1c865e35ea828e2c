"""The parent's end of one worker process: its socket, its calls, its death.

All of it runs in the thread of the loop that the worker is attached to. A worker is attached to
the loop whose call it runs, stays there while it is idle, and is detached to be attached to
another. Which call it gets is the pool's business.
"""

import asyncio
import mmap
import os
import signal
import socket
import subprocess
from _pickle import loads
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from aioconc._bridge._mailbox import Mailbox
from aioconc._wire import _frames as wire
from aioconc.executors.process._launch import Launched

if TYPE_CHECKING:
    from aioconc.executors.process._jobs import ProcessJob
    from aioconc.executors.process._pool import ProcessPool

# Read at a time.
_READ = 16_384

# Bytes of the end of a fatal error's traceback that are kept.
_TAIL = 8_192

# Seconds between two looks at a dying process, where the system does not tell of its end.
_LOOK = 0.002


# Worker life:   starting -> idle <-> busy -> ending -> gone
#                     \________\_______\________________/   (crashed, or killed)
# Rule 1: only the thread of `loop` touches a worker; `loop` is None while it is handed over.
# Rule 2: `job` is set from the moment the call is sent until its outcome is here; whoever clears
#         it finishes the job.
# Rule 3: `gone` comes once, after the process has ended, whatever ended it.
class WorkerProcess:
    """One worker process.

    Args:
        pool: gets what becomes of it.
        launched: the process and its descriptors.
    """

    __slots__ = (
        "_blackbox",
        "_decoder",
        "_out",
        "_pidfd",
        "_process",
        "_sock",
        "_waiting",
        "calls",
        "idle_since",
        "job",
        "journal",
        "killed",
        "known",
        "loop",
        "mailbox",
        "number",
        "pid",
        "pool",
        "ready",
        "retiring",
        "start_error",
    )

    def __init__(self, pool: "ProcessPool", launched: Launched) -> None:
        self.pool = pool
        self._process: subprocess.Popen[bytes] = launched.process
        self._sock: socket.socket = launched.sock
        self.journal = launched.journal
        self._blackbox = launched.blackbox
        self.pid = launched.process.pid
        self._pidfd = -1
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except OSError:  # an old kernel, or a sandbox
                pass
        self._decoder = wire.Decoder()
        # What the socket did not take yet.
        self._out: deque[memoryview] = deque()
        # Waiting for the process to end, by asking again and again.
        self._waiting: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.mailbox: Mailbox | None = None
        self.job: ProcessJob | None = None
        self.number = 0
        # Numbers of the functions that were sent.
        self.known: set[int] = set()
        self.ready = False
        self.killed = False
        self.retiring = False
        self.calls = 0
        self.idle_since = 0.0
        # Why it could not start, if it told.
        self.start_error: bytes | None = None

    # -- loops --------------------------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop, mailbox: Mailbox) -> None:
        """From now on this loop serves it. Called in that loop's thread."""
        self.loop = loop
        self.mailbox = mailbox
        loop.add_reader(self._sock.fileno(), self._on_readable)
        if self._pidfd >= 0:
            loop.add_reader(self._pidfd, self._on_exit)

    def detach(self) -> None:
        """No loop serves it. Called in the thread of its loop, or once that loop is closed."""
        loop, self.loop, self.mailbox = self.loop, None, None
        if loop is None or loop.is_closed():
            return
        if self._sock.fileno() >= 0:
            loop.remove_reader(self._sock.fileno())
            if self._out:
                loop.remove_writer(self._sock.fileno())
        if self._pidfd >= 0:
            loop.remove_reader(self._pidfd)

    # -- sending ------------------------------------------------------------------------------

    def run(self, job: "ProcessJob") -> None:
        """Send a call that was claimed."""
        self.job = job
        job.worker = self
        self.number = number = (self.number + 1) & 0xFFFFFFFF
        self.send(wire.encode(wire.CALL, number, *job.pieces(self)))
        if self.ready:
            job.begin_clock()

    def tell(self, kind: int, *pieces: "bytes | memoryview") -> None:
        """Send something that belongs to the running call."""
        self.send(wire.encode(kind, self.number, *pieces))

    def send(self, pieces: "list[bytes | memoryview]") -> None:
        """Send at once what the socket takes, the rest when it takes more."""
        if not self._out:
            try:
                sent = self._sock.sendmsg(pieces)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                return  # it is dying; `_on_exit` will say so
            if sent == sum(map(len, pieces)):
                return
        else:
            sent = 0
        for piece in pieces:
            if sent < len(piece):
                self._out.append(memoryview(piece)[sent:])
                sent = 0
            else:
                sent -= len(piece)
        assert self.loop is not None
        self.loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        out = self._out
        try:
            # As many pieces as one call takes everywhere.
            sent = self._sock.sendmsg([out[each] for each in range(min(len(out), 16))])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            out.clear()
        else:
            while sent:
                if sent < len(out[0]):
                    out[0] = out[0][sent:]
                    break
                sent -= len(out.popleft())
        if not out and self.loop is not None:
            self.loop.remove_writer(self._sock.fileno())

    # -- receiving ----------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if not self._read():
            # The end of the socket is not yet the end of the process: that comes as `_on_exit`.
            assert self.loop is not None
            self.loop.remove_reader(self._sock.fileno())
            if self._pidfd < 0:
                self._look()

    def _read(self) -> bool:
        """Take in what is there; False at the end."""
        try:
            data = self._sock.recv(max(_READ, self._decoder.missing))
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not data:
            return False
        for kind, number, payload, _ in self._decoder.feed(data):
            self._on_frame(kind, number, payload)
        return True

    def _on_frame(self, kind: int, number: int, payload: "memoryview | bytes") -> None:
        job = self.job
        if kind == wire.READY:
            self.ready = True
            self.pool.worker_ready(self)
            if job is not None:
                job.begin_clock()
        elif kind == wire.ERROR and number == 0:
            self.start_error = bytes(payload)
        elif job is None or number != self.number:
            pass  # of a call that has ended
        elif kind in (wire.RESULT, wire.ERROR):
            self.job = None
            job.take_reply(kind == wire.RESULT, payload)
            self._ended(job)
        else:
            job.take_frame(kind, payload)

    def _ended(self, job: "ProcessJob") -> None:
        self.calls += 1
        job.worker = None
        self.pool.call_ended(self, job)

    def memory(self) -> int:
        """Bytes of memory that it has in use; 0 where the system does not tell."""
        try:
            text = Path(f"/proc/{self.pid}/statm").read_text()
        except OSError:
            return 0
        return int(text.split()[1]) * mmap.PAGESIZE

    # -- the end ------------------------------------------------------------------------------

    def kill(self) -> None:
        """End it now; `gone` follows. Any thread may call it."""
        self.killed = True
        try:
            self._process.send_signal(signal.SIGKILL)
        except OSError:
            pass  # it has ended already
        if self._pidfd < 0 and self.loop is not None and self.mailbox is not None:
            self.mailbox.post(self.loop, self._look)

    def close_socket(self) -> None:
        """Let it end by itself, once idle."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.remove_reader(self._sock.fileno())
            if self._out:
                self.loop.remove_writer(self._sock.fileno())
                self._out.clear()
        self._sock.close()
        if self._pidfd < 0:
            self._look()

    def _look(self) -> None:
        if self._process.poll() is not None:
            self._on_exit()
        elif self.loop is not None:
            self._waiting = self.loop.call_later(_LOOK, self._look)

    def _on_exit(self) -> None:
        exitcode = self._process.poll()
        if exitcode is None:
            return
        self.retiring = True
        if self._sock.fileno() >= 0:
            # What it sent before it died counts.
            while self._drain():
                pass
        self._gone(exitcode)

    def _drain(self) -> bool:
        try:
            data = self._sock.recv(_READ)
        except OSError:
            return False
        for kind, number, payload, _ in self._decoder.feed(data):
            self._on_frame(kind, number, payload)
        return bool(data)

    def _gone(self, exitcode: int) -> None:
        self.detach()
        self._sock.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        job, self.job = self.job, None
        tail = self._last_words()
        self.pool.worker_gone(self, job, exitcode, tail)
        if self.journal is not None:
            self.journal.close()

    def _last_words(self) -> str:
        """The traceback of a fatal error, if there was one."""
        fd, self._blackbox = self._blackbox, -1
        if fd < 0:
            return ""
        try:
            size = os.fstat(fd).st_size
            return os.pread(fd, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")
        finally:
            os.close(fd)

    def start_error_text(self) -> str:
        """The traceback of why it could not start."""
        assert self.start_error is not None
        _, text, _ = loads(self.start_error)
        return str(text)

    def __repr__(self) -> str:
        state = "busy" if self.job else "idle" if self.ready else "starting"
        return f"<worker process {self.pid} {state}>"
