"""The worker's end of its socket.

Frames are sent whole, one after the other, whatever thread sends them. Who must not wait, such as
a log handler, offers a frame instead: it goes if the socket takes it now. What frames mean is the
business of those who send and read them.
"""

import sys
from _thread import allocate_lock

from aioconc._wire import _frames as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

# Read at a time: one read is enough for nearly every call, and for a burst of credits.
_READ = 16_384

# Bytes below which the pieces of a frame are joined: copying them costs less than telling the
# kernel of each.
_SMALL = 16_384

_DONT_WAIT = 0x40 if sys.platform.startswith("linux") else 0x80


# Rule 1: only the main thread reads; any thread sends, with `_lock`.
# Rule 2: `_tail` is what is missing of a frame that was sent in part: it goes before all else.
class Cord:
    """A blocking socket, and the frames that have come through it."""

    def __init__(self, sock: "socket.socket") -> None:
        self._sock = sock
        self._decoder = wire.Decoder()
        self._frames: list[Any] = []
        self._lock = allocate_lock()
        self._tail = b""

    def fileno(self) -> int:
        """The socket's descriptor, for a loop that waits for frames."""
        return self._sock.fileno()

    def send(self, kind: int, number: int, *pieces: "bytes | memoryview") -> None:
        """Send one frame, whole."""
        frame = wire.encode(kind, number, *pieces)
        if sum(map(len, pieces)) < _SMALL:
            frame = [b"".join(frame)]
        self.send_all(frame)

    def send_all(self, pieces: "list[bytes | memoryview]") -> None:
        """Send what is encoded already."""
        with self._lock:
            if self._tail:
                self._sock.sendall(self._tail)
                self._tail = b""
            if len(pieces) == 1:
                self._sock.sendall(pieces[0])
                return
            sent = self._sock.sendmsg(pieces)
            if sent < sum(map(len, pieces)):
                for piece in pieces:
                    if sent < len(piece):
                        self._sock.sendall(memoryview(piece)[sent:])
                        sent = 0
                    else:
                        sent -= len(piece)

    def offer(self, frame: bytes) -> bool:
        """Send a frame if that can be done without waiting; False: nothing of it was sent."""
        if not self._lock.acquire(False):
            return False
        try:
            if self._tail:
                self._tail = self._tail[self._sock.send(self._tail, _DONT_WAIT) :]
            if self._tail:
                return False
            self._tail = frame[self._sock.send(frame, _DONT_WAIT) :]
        except OSError:  # full, or the parent has let go of this worker
            return False
        finally:
            self._lock.release()
        return True

    def next(self) -> "Any":
        """The next frame; raises EOFError when the parent has closed its end."""
        while not self._frames:
            self._read(0)
        return self._frames.pop(0)

    def poll(self) -> "list[Any]":
        """The frames that have arrived, without waiting for any."""
        try:
            self._read(_DONT_WAIT)
        except BlockingIOError:
            pass
        frames, self._frames = self._frames, []
        return frames

    def _read(self, flags: int) -> None:
        data = self._sock.recv(max(_READ, self._decoder.missing), flags)
        if not data:
            raise EOFError
        self._frames += self._decoder.feed(data)
