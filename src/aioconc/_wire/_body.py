"""A value as the body of a payload: pickled, with its large buffers beside it.

    0 | pickle
    1 | count | (place, offset, length) for each buffer | length of the pickle | pickle | inline

Plain pickle first; cloudpickle for what pickle cannot do, or could only do by naming `__main__`,
since a worker has no `__main__` of the user's. Where the buffers are put is the caller's choice:
inline, or in memory that both sides map.
"""

from _pickle import dumps, loads
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    # Puts buffers where the other side finds them: for each the place, the offset, the length.
    Place = Callable[[Sequence[memoryview]], Sequence[tuple[int, int, int]]]
    # Gives the buffer at (place, offset, length).
    Find = Callable[[int, int, int], memoryview]

# Buffers of this many bytes and more travel beside the pickle: below it, copying them costs less
# than the bookkeeping.
OUT_OF_BAND = 65_536

# Place of a buffer that follows the pickle.
INLINE = 0

_COUNT = Struct("<I")
_ENTRY = Struct("<IQQ")
_LENGTH = Struct("<Q")

_PLAIN = b"\0"
_WITH_BUFFERS = b"\1"


def dump(value: object, place: "Place | None" = None) -> "list[bytes | memoryview]":
    """The pieces of a body.

    Args:
        value: what to send.
        place: where large buffers go; None: inline.

    Raises:
        Exception: `value` cannot be pickled, whatever says so.
    """
    buffers: list[memoryview] = []

    def keep_in_band(buffer: "Any") -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if view.nbytes < OUT_OF_BAND:
            return True
        buffers.append(view)
        return False

    try:
        data = dumps(value, 5, buffer_callback=keep_in_band)
    except Exception:
        data = b""
    if not data or b"__main__" in data:
        import cloudpickle  # type: ignore[import-untyped]  # it has no annotations

        buffers.clear()
        data = cloudpickle.dumps(value, 5, buffer_callback=keep_in_band)
    if not buffers:
        return [_PLAIN, data]
    if place is None:
        entries = [(INLINE, 0, each.nbytes) for each in buffers]
    else:
        entries = [*place(buffers)]
    table = b"".join(_ENTRY.pack(*each) for each in entries)
    head = _WITH_BUFFERS + _COUNT.pack(len(buffers)) + table + _LENGTH.pack(len(data))
    inline = [view for view, entry in zip(buffers, entries, strict=True) if entry[0] == INLINE]
    return [head, data, *inline]


def load(body: "memoryview | bytes", find: "Find | None" = None) -> "Any":
    """The value of a body.

    Args:
        body: as `dump` made it, in one piece.
        find: gives the buffers that are not inline.

    Raises:
        Exception: it cannot be unpickled.
    """
    view = memoryview(body)
    if view[0] == 0:
        return loads(view[1:])
    (count,) = _COUNT.unpack_from(view, 1)
    at = 1 + _COUNT.size
    entries = [_ENTRY.unpack_from(view, at + each * _ENTRY.size) for each in range(count)]
    at += count * _ENTRY.size
    (length,) = _LENGTH.unpack_from(view, at)
    at += _LENGTH.size
    data = view[at : at + length]
    at += length
    buffers = []
    for place, offset, size in entries:
        if place == INLINE:
            # Of its own, so that a small array does not keep the whole frame alive; read-only, as
            # every buffer that arrives.
            buffers.append(memoryview(bytes(view[at : at + size])))
            at += size
        else:
            assert find is not None
            buffers.append(find(place, offset, size))
    return loads(data, buffers=buffers)
