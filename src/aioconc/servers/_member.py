"""One worker process of `serve_prefork`, as its supervisor sees it.

It is started by an exec, never a fork. What it says arrives as frames; that it has ended is told by
the system. What that means is left to the supervisor.
"""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any, Protocol

from aioconc._wire import _frames as wire
from aioconc._wire._body import dump
from aioconc.executors.process._child import how_ended
from aioconc.executors.process._launch import Recipe, life_pipe, start_python
from aioconc.executors.process._log_relay import relay

# Signals that a worker must not die of before it can treat them.
_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Seconds between two looks at a process of which the system does not tell when it ends.
_LOOK = 0.01


class Boss(Protocol):
    """Who is told what a member does."""

    def on_ready(self, member: "Member") -> None:
        """It serves."""
        ...

    def on_retire(self, member: "Member") -> None:
        """It has begun to end, asked by somebody else."""
        ...

    def on_stopped(self, member: "Member") -> None:
        """It accepts nothing more."""
        ...

    def on_end(self, member: "Member") -> None:
        """It has ended."""
        ...


# Member life:   starting -> serving -> ending -> gone       (gone may follow on each)
# Rule 1: `on_end` is called once, when the process was waited for and all it said was heard.
class Member:
    """A worker process and what it is told.

    Args:
        loop: of the supervisor.
        boss: is told.
        setup: pickled; its first frame.
        sockets: listening sockets that it inherits.

    Raises:
        OSError: it cannot be started; nothing of it is left.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        boss: Boss,
        setup: dict[str, Any],
        sockets: Sequence[socket.socket],
    ) -> None:
        self._loop = loop
        self._boss = boss
        self._decoder = wire.Decoder()
        self._unsent = b""
        self._timers: list[asyncio.TimerHandle] = []
        self.state = "starting"
        self.has_served = False
        self.accepts = True
        # What it says, or what was found, to be the cause of its end.
        self.cause = ""
        first = dump(setup)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
        try:
            self._process = start_python(
                Recipe("serve_prefork"),
                "aioconc.worker._program",
                (theirs.fileno(), life_pipe(), *(each.fileno() for each in sockets)),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            theirs.close()
        self._sock = ours
        self.pid = self._process.pid
        self.started_at = loop.time()
        try:
            loop.add_reader(ours, self._on_readable)
            if self._process.pidfd >= 0:
                loop.add_reader(self._process.pidfd, self._on_end)
            self._send(wire.READY, *first)
        except BaseException:
            self.end_now()
            raise

    @property
    def exitcode(self) -> int | None:
        """Its exit status, once it has ended."""
        return self._process.exitcode

    def drain(self, seconds: float, last: float) -> None:
        """Ask it to end; it is asked again after `seconds`, and killed `last` seconds later."""
        if self.state not in ("starting", "serving"):
            return
        self.state = "ending"
        self._send(wire.BYE)
        self._at(seconds, self.hurry, last)

    def expect_end(self, seconds: float, last: float) -> None:
        """The same for one that was asked by somebody else."""
        self.state = "ending"
        self._at(seconds, self.hurry, last)

    def hurry(self, last: float) -> None:
        """Ask it once more, and kill it `last` seconds later."""
        if self.state == "gone":
            return
        self.state = "ending"
        self._send(wire.CANCEL)
        self._at(last, self.kill, "it had not ended in time")

    def kill(self, cause: str = "") -> None:
        """End it at once."""
        if self.state != "gone":
            self.cause = self.cause or cause
            self._process.kill()

    def end_now(self) -> None:
        """Kill it, and wait until it has ended."""
        self.kill()
        while not self._process.has_ended():
            time.sleep(_LOOK)
        self._close()

    def _at(self, seconds: float, call: Any, *args: Any) -> None:
        self._timers.append(self._loop.call_later(seconds, call, *args))

    def say_end(self) -> str:
        """How it ended, in words."""
        how = f"worker {self.pid} {how_ended(self.exitcode)}"
        return f"{how}: {self.cause}" if self.cause else how

    # ------------------------------------------------------------------ its socket

    def _send(self, kind: int, *pieces: "bytes | memoryview") -> None:
        if self._sock.fileno() < 0:
            return
        waited = bool(self._unsent)
        self._unsent += b"".join(wire.encode(kind, 0, *pieces))
        if not waited:
            self._flush()

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # it has ended, which is told elsewhere
            self._unsent = b""
        if self._unsent:
            self._loop.add_writer(self._sock, self._flush)
        else:
            self._loop.remove_writer(self._sock)

    def _on_readable(self) -> None:
        if not self._hear():
            self._loop.remove_reader(self._sock)
            if self._process.pidfd < 0:
                self._on_end()

    def _hear(self) -> bool:
        """Read once; whether there may be more."""
        try:
            data = self._sock.recv(65_536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        for kind, _, payload, _ in self._decoder.feed(data):
            if kind == wire.LOG:
                relay(payload, self._loop)
            elif kind == wire.ERROR:
                self.cause = bytes(payload).decode(errors="replace")
            elif kind == wire.READY and self.state == "starting":
                self.state = "serving"
                self.has_served = True
                self._boss.on_ready(self)
            elif kind == wire.BYE:
                self.accepts = False
                self._boss.on_stopped(self)
            elif kind == wire.RETIRE and self.state in ("starting", "serving"):
                self._boss.on_retire(self)
        return True

    def _on_end(self) -> None:
        if not self._process.has_ended():
            if self._process.pidfd < 0:
                self._at(_LOOK, self._on_end)
            return
        # What it said last is still in the socket.
        with contextlib.suppress(OSError):
            self._sock.setblocking(True)
            self._sock.settimeout(_LOOK)
            while self._hear():
                pass
        self._close()
        self._boss.on_end(self)

    def _close(self) -> None:
        self.state = "gone"
        for timer in self._timers:
            timer.cancel()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        if self._process.pidfd >= 0:
            self._loop.remove_reader(self._process.pidfd)
        self._process.close()

    def __repr__(self) -> str:
        return f"<Member {self.pid} {self.state}>"
