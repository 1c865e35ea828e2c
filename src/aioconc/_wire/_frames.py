"""Frames: what is sent over a worker's socket, one header and one payload each.

`encode` gives the pieces of a frame to send, `Decoder` finds the frames in whatever pieces
arrive. The stream stays in step also when a payload makes no sense to its reader, since lengths
come first.
"""

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from aioconc._wire._body import Laden
    from aioconc._wire._descriptors import Descriptor
    from aioconc._wire._loans import Loans

# Kind of frame, descriptors that came with it, number of the call, length of the payload.
HEADER = Struct("<BBxxIQ")
_HEADER_SIZE = HEADER.size
_unpack_header = HEADER.unpack_from

# Bytes below which copying a payload costs less than a view of it.
_SMALL = 4_096

# Before the payload, if descriptors came: number of the lease of the arena whose descriptor is the
# first of them; 0: none is.
_LEASE = Struct("<Q")

# From the parent.
CALL = 1  # run a function
CANCEL = 2  # the call is no longer wanted; asks, does not end
CREDIT = 3  # so many more items of a stream, or reports, may be sent
ANSWER = 4  # what a function called in the loop gave
RELEASE = 5  # buffers that are no longer read may be written again
BYE = 6  # end, once idle
LEVELS = 7  # the levels of the parent's loggers have changed
TRIM = 8  # nothing has come for a while: keep no memory for large buffers

# From a worker.
READY = 16  # is up and waits for calls
RESULT = 17  # the call ended with a value
ERROR = 18  # the call ended with an error
ITEM = 19  # an item of a stream, or of a map
REPORT = 20  # a value for the caller's `on_report`
ASK = 21  # call a function in the loop
LOG = 22  # a log record
RETIRE = 23  # ends after this call
TAKEN = 24  # the call has begun, and has its descriptors


def encode(
    kind: int, number: int, *pieces: "bytes | memoryview", laden: "Laden | None" = None
) -> "list[bytes | memoryview]":
    """The pieces of a frame, in the order in which they are to be sent.

    Args:
        kind: one of the above.
        number: of the call.
        *pieces: the payload.
        laden: the one of them whose descriptors are sent with the first byte; None: there is none.
    """
    length = sum(map(len, pieces))
    if laden is not None:
        head = HEADER.pack(kind, len(laden.carried), number, length + _LEASE.size)
        return [head, _LEASE.pack(laden.lease.number if laden.lease else 0), *pieces]
    return [HEADER.pack(kind, 0, number, length), *pieces]


# Rule 1: `_need` bytes must be there for the next step; below that, what arrives is collected.
# Rule 2: descriptors come no later than the first byte of their frame, and in the same order.
class Decoder:
    """Takes in bytes, gives out frames `(kind, number, payload, how many descriptors)`.

    Args:
        loans: what is done with arenas that arrive; None: none do.
    """

    __slots__ = ("_arrived", "_data", "_loans", "_need", "missing")

    def __init__(self, loans: "Loans | None" = None) -> None:
        self._loans = loans
        self._arrived: list[Descriptor] = []
        self._data = bytearray()
        self._need = HEADER.size
        # Bytes of the frame that has begun and are still to come: a hint for the next read.
        self.missing = 0

    def single(self, data: bytes) -> "tuple[int, int, bytes, int] | None":
        """The frame, if `data` is exactly one and small, as nearly all is; else it is to be fed."""
        if len(data) >= _HEADER_SIZE and not self._data:
            kind, descriptors, number, length = _unpack_header(data)
            if length == len(data) - _HEADER_SIZE and length < _SMALL and not descriptors:
                return kind, number, data[_HEADER_SIZE:], 0
        return None

    def feed(
        self, data: bytes, arrived: "Sequence[Descriptor]" = ()
    ) -> "list[tuple[int, int, memoryview | bytes, int]]":
        """The frames that `data` completes, with what descriptors came with it."""
        if arrived:
            self._arrived += arrived
        elif (frame := self.single(data)) is not None:
            return [frame]
        if not self._data and len(data) >= _HEADER_SIZE:
            kind, descriptors, number, length = _unpack_header(data)
            if length == len(data) - _HEADER_SIZE:  # one frame: no copy
                payload = memoryview(data)[_HEADER_SIZE:]
                if descriptors:
                    payload = self._unload(payload, descriptors)
                return [(kind, number, payload, descriptors)]
        frames = self._collect(data)
        self.missing = max(0, self._need - len(self._data)) if self._data else 0
        return frames

    def _collect(self, data: bytes) -> "list[tuple[int, int, memoryview | bytes, int]]":
        collected = self._data
        collected += data
        if len(collected) < self._need:
            return []
        frames: list[tuple[int, int, memoryview | bytes, int]] = []
        at = 0
        size = HEADER.size
        while len(collected) - at >= size:
            kind, descriptors, number, length = HEADER.unpack_from(collected, at)
            if len(collected) - at - size < length:
                self._need = size + length
                break
            start = at + size
            at = start + length
            if start == size and at == len(collected):
                # All of it is one frame, perhaps a large one: no copy.
                payload = memoryview(collected)[start:]
                self._data = bytearray()
            else:
                payload = memoryview(bytes(memoryview(collected)[start:at]))
            if descriptors:
                payload = self._unload(payload, descriptors)
            frames.append((kind, number, payload, descriptors))
            if not self._data:
                self._need = size
                return frames
        else:
            self._need = size
        if at:
            del collected[:at]
        return frames

    def _unload(self, payload: memoryview, count: int) -> memoryview:
        """The payload together with the descriptors that came with it."""
        from aioconc._wire._body import Received
        from aioconc._wire._descriptors import Descriptor
        from aioconc._wire._loans import Loan

        arrived: list[Descriptor] = []
        while len(arrived) < count:
            each = self._arrived.pop(0) if self._arrived else Descriptor(-1)
            # One that was lost stands for all that are missing of its frame.
            arrived += [each] * (count - len(arrived) if each.is_lost else 1)
        (lease,) = _LEASE.unpack_from(payload)
        received = Received(payload[_LEASE.size :])
        if lease:
            assert self._loans is not None
            received.loan = Loan(self._loans, lease, arrived.pop(0))
        received.descriptors = arrived
        return memoryview(received)
