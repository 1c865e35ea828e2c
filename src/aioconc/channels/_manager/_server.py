"""The broker's end of the connections to other processes, on the owner's loop.

It guarantees that the loop is held for one small piece at a time, however fast and however many
the other processes ask, and that the end of a connection is the end of its parties. What messages
mean is left to the broker.
"""

import asyncio
import logging
import os
import socket
import weakref
from _pickle import dumps, loads
from asyncio.selector_events import BaseSelectorEventLoop
from collections import deque
from typing import Any, Final

from aioconc._bridge._mailbox import mailbox_of
from aioconc._wire import _frames as wire
from aioconc._wire._body import Received
from aioconc._wire._channel import Reader
from aioconc._wire._descriptors import receive
from aioconc.channels._manager._broker import Broker, Connection, Death, closed

# Kinds of frame: a message or an answer; a descriptor of a connection for yet another process.
MESSAGE: Final = 96
ADOPT: Final = 97

# Who it is: the first message of a connection.
HELLO: Final = "hello"

# Bytes read at a time: some hundred messages, a millisecond of work. Of a large one, more.
_READ: Final = 16_384
_MOST_READ: Final = 262_144

# Seconds after which a process that has let go is asked for its exit status once more.
_LOOKS: Final = (0.001, 0.005, 0.02)

_pack = wire.HEADER.pack

_log = logging.getLogger("aioconc")


class Line:
    """One connection. All of it runs in the loop's thread."""

    __slots__ = (
        "__weakref__",
        "_connection",
        "_decoder",
        "_fd",
        "_handle",
        "_out",
        "_server",
        "_sock",
    )

    def __init__(self, server: "Server", sock: socket.socket) -> None:
        self._server = server
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        self._decoder = Reader()
        self._handle = server.broker.handle
        # What the socket did not take yet.
        self._out: deque[bytes | memoryview] = deque()
        # None until it has said who it is.
        self._connection: Connection | None = None
        server.loop.add_reader(self._fd, self._read)

    def _read(self) -> None:
        if self._fd < 0:
            return
        missing = self._decoder.missing
        try:
            data, descriptors = receive(
                self._sock, min(missing, _MOST_READ) if missing > _READ else _READ
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # ECONNRESET
            data, descriptors = b"", []
        if not data:
            self.end()
            return
        if self._server.is_told_once:
            self._server.loop.call_soon(self._read)
        try:
            for kind, _, payload, _ in self._decoder.feed(data, descriptors):
                if kind == ADOPT:
                    received: Any = memoryview(payload).obj
                    assert type(received) is Received
                    end = received.descriptors.pop()
                    if end.is_lost:  # too many open files here: only who has the other end hears
                        _log.error("no more open files: a process cannot be served")
                        continue
                    self._server.adopt(socket.socket(fileno=end.detach()))
                elif self._connection is not None:
                    self._handle(self._connection, loads(payload))
                else:
                    self._greet(*loads(payload))
        except Exception:
            # Nothing that aioconc says. Whoever it is, it is not trusted any more.
            _log.exception("a process said what no process says; its connection is closed")
            self.end()

    def _greet(self, number: int, party: int, thing: int, hello: str, pid: int) -> None:
        if hello != HELLO:
            raise ValueError("the first message must say who it is")
        self._connection = self._server.broker.connect(self._answer, f"process {pid}", pid)

    def _answer(self, number: int, error: BaseException | None, value: Any) -> None:
        if self._fd < 0:
            return
        data = dumps((number, error, value), 5)
        # One piece, since a second system call costs more than the copy of a small one.
        piece: bytes | memoryview = _pack(MESSAGE, 0, 0, len(data)) + data
        if not self._out:
            sent = self._send(piece)
            if sent == len(piece):
                return
            self._server.loop.add_writer(self._fd, self._write)
            piece = memoryview(piece)[sent:]
        self._out.append(piece)

    def _send(self, piece: bytes | memoryview) -> int:
        try:
            return self._sock.send(piece)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            return len(piece)  # it is gone; reading says so

    def _write(self) -> None:
        out = self._out
        while out:
            sent = self._send(out[0])
            if sent < len(out[0]):
                out[0] = memoryview(out[0])[sent:]
                return
            out.popleft()
        self._server.loop.remove_writer(self._fd)

    def end(self) -> None:
        """The other end is gone."""
        self.close()
        if self._connection is not None:
            self._server.has_ended(self._connection, 0)

    def close(self) -> None:
        """Close the connection."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        loop = self._server.loop
        loop.remove_reader(fd)
        loop.remove_writer(fd)
        self._server.lines.discard(self)
        self._sock.close()

    def leave_to_parent(self) -> None:
        """In a forked child: close the copy of the descriptor."""
        self._fd = -1
        self._sock.close()


class Server:
    """All connections of one manager."""

    __slots__ = ("__weakref__", "broker", "is_told_once", "lines", "loop")

    def __init__(self, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        self.broker = broker
        self.loop = loop
        # A process that dies without having read all that was sent to it leaves an error behind, of
        # which libuv tells once, and never more: so with uvloop all is read until nothing is left.
        self.is_told_once = not isinstance(loop, BaseSelectorEventLoop)
        self.lines: set[Line] = set()
        _servers.add(self)

    def new_end(self) -> socket.socket:
        """One end of a new connection, for another process. Any thread may call it.

        Raises:
            ManagerClosed: the manager is closed.
            OSError: this process has too many open files.
        """
        if self.broker.closed:
            raise closed()
        ours, theirs = socket.socketpair()
        if asyncio._get_running_loop() is self.loop:
            self.adopt(ours)
        elif not mailbox_of(self.loop).post(self.loop, lambda: self.adopt(ours)):
            ours.close()
            theirs.close()
            raise closed()
        return theirs

    def adopt(self, sock: socket.socket) -> None:
        """Serve a connection."""
        if self.broker.closed:
            sock.close()
            return
        self.lines.add(Line(self, sock))

    def has_ended(self, connection: Connection, looks: int) -> None:
        """Its process is gone: take back what it had, once its exit status is known."""
        if self.broker.closed:
            return
        exitcode = exitcode_of(connection.pid)
        if exitcode is None and looks < len(_LOOKS):
            # The kernel closes the descriptors of a process a little before it has ended.
            self.loop.call_later(_LOOKS[looks], self.has_ended, connection, looks + 1)
            return
        self.broker.disconnect(connection, Death(connection.name, connection.pid, exitcode))

    def close(self) -> None:
        """End all connections. What was answered before is sent as far as the sockets take it."""
        for line in tuple(self.lines):
            line.close()


def exitcode_of(pid: int | None) -> int | None:
    """The exit status of a child that has ended, which stays to be waited for; None: not known."""
    if pid is None or not hasattr(os, "waitid"):
        return None
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:  # no child of this process, or somebody has waited for it
        return None
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


def _close_all() -> None:
    """In a forked child, whose copies would keep others from hearing of the end of the parent."""
    for server in tuple(_servers):
        for line in tuple(server.lines):
            line.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
