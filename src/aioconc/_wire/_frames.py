"""Frames: what is sent over a worker's socket, one header and one payload each.

`encode` gives the pieces of a frame to send, `Decoder` finds the frames in whatever pieces
arrive. The stream stays in step also when a payload makes no sense to its reader, since lengths
come first.
"""

from struct import Struct

# Kind of frame, descriptors that came with it, number of the call, length of the payload.
HEADER = Struct("<BBxxIQ")

# From the parent.
CALL = 1  # run a function
CANCEL = 2  # the call is no longer wanted; asks, does not end
CREDIT = 3  # so many more items of a stream, or reports, may be sent
ANSWER = 4  # what a function called in the loop gave
RELEASE = 5  # buffers that are no longer read may be written again
BYE = 6  # end, once idle
LEVELS = 7  # the levels of the parent's loggers have changed

# From a worker.
READY = 16  # is up and waits for calls
RESULT = 17  # the call ended with a value
ERROR = 18  # the call ended with an error
ITEM = 19  # an item of a stream, or of a map
REPORT = 20  # a value for the caller's `on_report`
ASK = 21  # call a function in the loop
LOG = 22  # a log record
RETIRE = 23  # ends after this call


def encode(
    kind: int, number: int, *pieces: "bytes | memoryview", descriptors: int = 0
) -> "list[bytes | memoryview]":
    """The pieces of a frame, in the order in which they are to be sent."""
    length = sum(map(len, pieces))
    return [HEADER.pack(kind, descriptors, number, length), *pieces]


# Rule: `_whole` bytes are missing for the next step; below that, what arrives is only collected.
class Decoder:
    """Takes in bytes, gives out frames `(kind, number, payload, descriptors)`."""

    __slots__ = ("_data", "_need")

    def __init__(self) -> None:
        self._data = bytearray()
        # Bytes that must be there before the next frame can be told.
        self._need = HEADER.size

    def feed(self, data: bytes) -> "list[tuple[int, int, memoryview | bytes, int]]":
        """The frames that `data` completes. Payloads are read at once or copied."""
        if not self._data:
            # Nearly always a piece is exactly one frame: no copy.
            if len(data) >= HEADER.size:
                kind, descriptors, number, length = HEADER.unpack_from(data)
                if len(data) == HEADER.size + length:
                    return [(kind, number, memoryview(data)[HEADER.size :], descriptors)]
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
            frames.append((kind, number, bytes(memoryview(collected)[start:at]), descriptors))
        else:
            self._need = size
        if at:
            del collected[:at]
        return frames

    @property
    def missing(self) -> int:
        """Bytes of the frame that has begun and are still to come: a hint for the next read."""
        return max(0, self._need - len(self._data))
