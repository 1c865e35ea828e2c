"""The worker's end of its socket.

Frames are sent whole, one after the other, whatever thread sends them. Who must not wait, such as
a log handler, offers a frame instead: it goes if the socket takes it now. Descriptors go and come with
frames; arenas are given back here. What frames mean otherwise is the business of those who send and
read them.
"""

import sys
from _thread import allocate_lock

from aioconc._wire import _frames as wire
from aioconc._wire._arenas import Arenas
from aioconc._wire._body import Laden, dump, ready
from aioconc._wire._descriptors import ancillary, receive
from aioconc._wire._loans import Loans, numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Any

    from aioconc._wire._descriptors import Carried, Descriptor

# Read at a time: one read is enough for nearly every call, and for a burst of credits.
_READ = 4_096
_READ_MORE = 65_536

# Bytes below which the pieces of a frame are joined: copying them costs less than telling the
# kernel of each.
_SMALL = 16_384

# Pieces that are given to the kernel at once; it takes 1,024 at most.
_MOST_PIECES = 64

_FOR_ME = (wire.RELEASE, wire.TRIM)
_pack_header = wire.HEADER.pack

_DONT_WAIT = 0x40 if sys.platform.startswith("linux") else 0x80


# Rule 1: only the main thread reads; any thread sends, with `_lock`.
# Rule 2: `_tail` is what is missing of a frame that was sent in part: it goes before all else.
class Cord:
    """A blocking socket, and the frames that have come through it."""

    def __init__(self, sock: "socket.socket") -> None:
        self._sock = sock
        # What this process has from its parent, and what its parent has from it.
        self._loans = Loans()
        self._arenas = Arenas()
        self._decoder = wire.Decoder(self._loans)
        self._frames: list[Any] = []
        self._lock = allocate_lock()
        self._tail = b""

    def fileno(self) -> int:
        """The socket's descriptor, for a loop that waits for frames."""
        return self._sock.fileno()

    def dump(self, value: object) -> "list[bytes | memoryview]":
        """The pieces of a body for `send`, with large buffers in an arena.

        Raises:
            Exception: `value` cannot be pickled.
        """
        return dump(ready(value), self._arenas)

    def send(self, kind: int, number: int, *pieces: "bytes | memoryview") -> None:
        """Send one frame, whole."""
        frame: list[bytes | memoryview] = []
        if self._loans:
            frame = wire.encode(wire.RELEASE, 0, self._loans.take_returned())
        for each in pieces:
            if type(each) is Laden:
                frame += wire.encode(kind, number, *pieces, laden=each)
                self.send_all(frame, each.carried)
                return
        frame += wire.encode(kind, number, *pieces)
        if sum(map(len, pieces)) < _SMALL:
            frame = [b"".join(frame)]
        self.send_all(frame)

    def send_small(self, kind: int, number: int, payload: bytes) -> None:
        """As `send`, for a payload in one piece that is not worth a thought."""
        if not self._loans.returned:
            with self._lock:
                if not self._tail:
                    self._sock.sendall(_pack_header(kind, 0, number, len(payload)) + payload)
                    return
        self.send(kind, number, payload)

    def send_all(
        self, pieces: "list[bytes | memoryview]", carried: "Sequence[Carried]" = ()
    ) -> None:
        """Send what is encoded already, with descriptors if there are any."""
        with self._lock:
            if self._tail:
                self._sock.sendall(self._tail)
                self._tail = b""
            if carried:
                # They go with the first byte, and that is sent here.
                sent = self._sock.sendmsg(pieces[:_MOST_PIECES], ancillary(carried))
            elif len(pieces) == 1:
                self._sock.sendall(pieces[0])
                return
            else:
                sent = self._sock.sendmsg(pieces[:_MOST_PIECES])
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
        while not (frames := self._frames):
            if self._loans.returned or self._decoder.missing:
                self._frames = self._read(0)
                continue
            data, arrived = receive(self._sock, _READ)
            if not arrived and (frame := self._decoder.single(data)) is not None:
                if frame[0] not in _FOR_ME:
                    return frame
            self._frames = self._take_in(data, arrived)
        return frames.pop(0)

    def wait(self) -> "list[Any]":
        """All frames that have arrived, once there is one: the socket does not tell of those that
        were read and are kept here.
        """
        frames, self._frames = self._frames, []
        while not frames:
            frames = self._read(0)
        return frames

    def poll(self) -> "list[Any]":
        """The frames that have arrived, without waiting for any."""
        try:
            self._frames += self._read(_DONT_WAIT)
        except BlockingIOError:
            pass
        frames, self._frames = self._frames, []
        return frames

    def _read(self, flags: int) -> "list[Any]":
        """Read once; the frames that are for others."""
        if self._loans.returned:
            self.send_all([b"".join(wire.encode(wire.RELEASE, 0, self._loans.take_returned()))])
        decoder = self._decoder
        size = max(_READ_MORE, decoder.missing) if decoder.missing else _READ
        return self._take_in(*receive(self._sock, size, flags))

    def _take_in(self, data: bytes, arrived: "list[Descriptor]") -> "list[Any]":
        """The frames that are complete and for others."""
        if not data:
            raise EOFError
        frames = self._decoder.feed(data, arrived)
        for frame in frames:
            if frame[0] in _FOR_ME:
                return [each for each in frames if not self._is_for_me(each)]
        return frames

    def _is_for_me(self, frame: "Any") -> bool:
        """Whether a frame is about memory, which is seen to here."""
        kind, _, payload, _ = frame
        if kind == wire.RELEASE:
            self._arenas.give_back(numbers_of(payload))
        elif kind == wire.TRIM:
            self._arenas.trim()
            self._loans.mappings.clear()
        else:
            return False
        return True
