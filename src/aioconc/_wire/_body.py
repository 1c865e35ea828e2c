"""A value as the body of a payload: pickled, with its large buffers beside it.

    0 | pickle
    1 | flags | count | (kind, offset, length) of the pickle and of each buffer | what is inline

Large buffers are inline, or in an arena whose descriptor comes with the message; what is unpickled
from there is not copied. Descriptors that objects own come with it too (`_passing`). How values are
pickled is left to `_pickled`.
"""

from _pickle import PickleBuffer, dumps, loads
from struct import Struct

from aioconc._wire._passing import here
from aioconc._wire._pickled import pickled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aioconc._wire._arenas import Arenas, Lease
    from aioconc._wire._descriptors import Carried, Descriptor
    from aioconc._wire._loans import Loan

# Buffers of this many bytes and more travel beside the pickle: below it, copying them costs less
# than the bookkeeping.
OUT_OF_BAND = 65_536

# A body with so many bytes to be copied is not packed or unpacked in a loop's thread: a megabyte
# takes about a millisecond, which is what a loop may be held for. A pickle of this size travels as
# large buffers do.
LARGE = 1_000_000

# Pieces of a body beyond which they are joined.
_MANY = 8

# Most bytes of a body of plain values.
_SMALL = 16_384

_COUNT = Struct("<BBxxI")
_ENTRY = Struct("<BxxxxxxxQQ")

_PLAIN = b"\0"
_WITH_BUFFERS = 1

# Unpickling it copies much.
_SLOW = 1

# What a buffer is when it arrives.
_VIEW = 0
_BYTES = 1
_BYTEARRAY = 2

# Offset of what is not in the arena.
_INLINE = 0xFFFF_FFFF_FFFF_FFFF


class Parts:
    """A pickled value, and the buffers and descriptors that do not go into the pickle."""

    __slots__ = ("buffers", "data", "descriptors")

    def __init__(
        self, data: bytes, buffers: "list[memoryview]", descriptors: "list[Descriptor]"
    ) -> None:
        self.data = data
        self.buffers = buffers
        self.descriptors = descriptors

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing for an arena, and no descriptor."""
        return not self.buffers and not self.descriptors and len(self.data) < LARGE

    @property
    def for_arena(self) -> "list[memoryview]":
        """What goes into an arena, if there is one."""
        large = [each for each in self.buffers if each.nbytes >= OUT_OF_BAND]
        return large if len(self.data) < LARGE else [memoryview(self.data), *large]


class Laden(bytes):
    """The first piece of a body that is to be sent with descriptors."""

    lease: "Lease | None"
    descriptors: "list[Descriptor]"

    @property
    def carried(self) -> "list[Carried]":
        """What is sent with it: its arena, if it has one, and what objects own."""
        return [*([self.lease.arena] if self.lease else ()), *self.descriptors]


class Received(bytes):
    """A payload that came with descriptors."""

    # The arena, if one came.
    loan: "Loan | None" = None
    descriptors: "list[Descriptor]"


def ready(value: "Any") -> "Any":
    """What to pickle in place of `value`, so that its bytes are not copied into the pickle.

    For arguments and results themselves, and the elements of a short tuple: what is deeper inside
    is pickled as it is.
    """
    kind = type(value)
    if kind is tuple and len(value) <= _SHORT and any(type(each) in RAW for each in value):
        return tuple(map(ready, value))
    if kind is bytes or kind is bytearray:
        return PickleBuffer(value) if len(value) >= OUT_OF_BAND else value
    if kind is memoryview:
        return _View(value)
    return value


# What `ready` replaces.
RAW = frozenset((bytes, bytearray, memoryview))

# Elements of a tuple that may be what a function returns, rather than data.
_SHORT = 16


class _View:
    """A memoryview, which pickle itself refuses."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def __reduce__(self) -> "Any":
        view = self._view
        flat = view if view.c_contiguous else memoryview(view.tobytes())
        return _as_view, (PickleBuffer(flat), view.format, view.shape)


def _as_view(data: "Any", form: str, shape: "tuple[int, ...]") -> memoryview:
    view = memoryview(data).cast("B")
    if form != "B" or len(shape) != 1:
        view = view.cast(form, shape)  # type: ignore[call-overload]  # any format that came from a view
    return view.toreadonly()


def take_apart(value: object) -> Parts:
    """Pickle `value`.

    Raises:
        Exception: it cannot be pickled, whatever says so.
    """
    buffers: list[memoryview] = []

    def keep_in_band(buffer: "Any") -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if view.nbytes >= OUT_OF_BAND:
            buffers.append(view)
        elif _kind_of(view) != _VIEW:
            return True
        else:
            # In the pickle it would arrive writable, unlike a larger one. It is copied now.
            buffers.append(memoryview(bytes(view)))
        return False

    descriptors: list[Descriptor] = []
    before, here.leaving = here.leaving, descriptors
    try:
        data = pickled(value, keep_in_band, (buffers, descriptors))
    except BaseException:
        for each in descriptors:
            each.close()  # now: the traceback holds them
        raise
    finally:
        here.leaving = before
    return Parts(data, buffers, descriptors)


def put_together(parts: Parts, lease: "Lease | None") -> "list[bytes | memoryview]":
    """The pieces of a body.

    Args:
        parts: what `take_apart` made.
        lease: the arena that holds what is for an arena; None: all is inline.
    """
    data, buffers = parts.data, parts.buffers
    if not buffers and lease is None and not parts.descriptors:
        return [_PLAIN, data]
    offsets = iter(() if lease is None else lease.offsets)
    entries: list[bytes] = []
    inline: list[bytes | memoryview] = []
    copied = 0
    for view in (memoryview(data), *buffers):
        size = view.nbytes
        # The first is the pickle.
        least = OUT_OF_BAND if entries else LARGE
        offset = next(offsets, _INLINE) if size >= least else _INLINE
        kind = _kind_of(view) if entries and size >= OUT_OF_BAND else _VIEW
        if offset == _INLINE:
            inline.append(view)
        if kind != _VIEW or offset == _INLINE or not entries:
            copied += size
        entries.append(_ENTRY.pack(kind, offset, size))
    if len(inline) > _MANY:  # of which most are small
        inline = [b"".join(inline)]
    flags = _SLOW if copied >= LARGE else 0
    head = _COUNT.pack(_WITH_BUFFERS, flags, len(entries)) + b"".join(entries)
    if lease is not None or parts.descriptors:
        laden = Laden(head)
        laden.lease = lease
        laden.descriptors = parts.descriptors
        head = laden
    return [head, *inline]


# Values that take nothing along and run no code of the user's when they are pickled.
_PLAIN_TYPES = frozenset((int, float, complex, bool, str, type(None)))


def dump_plain(value: object) -> bytes | None:
    """The body of a small value of a plain type, in one piece; None: it is not one."""
    if type(value) in _PLAIN_TYPES:
        data = dumps(value, 5)
        if len(data) < _SMALL:
            return _PLAIN + data
    return None


def dump_plain_arguments(args: "Any", kwargs: "Any") -> bytes | None:
    """The body of `(args, kwargs)` if they are few small values of plain types; else None."""
    for each in args:
        if type(each) not in _PLAIN_TYPES:
            return None
    for each in kwargs.values():
        if type(each) not in _PLAIN_TYPES:
            return None
    data = dumps((args, kwargs), 5)
    return _PLAIN + data if len(data) < _SMALL else None


def dump(value: object, arenas: "Arenas | None" = None) -> "list[bytes | memoryview]":
    """The pieces of a body.

    Args:
        value: what to send.
        arenas: where large buffers go; None: inline.

    The first piece may be `Laden`.

    Raises:
        Exception: `value` cannot be pickled, whatever says so.
    """
    parts = take_apart(value)
    return put_together(parts, None if arenas is None else fill_arena(parts, arenas))


def fill_arena(parts: Parts, arenas: "Arenas") -> "Lease | None":
    """Copy what is for an arena into one; None if nothing is, or there is none."""
    buffers = parts.for_arena
    return arenas.fill(buffers) if buffers else None


def joined(pieces: "list[bytes | memoryview]") -> bytes:
    """The pieces in one, which is `Laden` if the first of them is."""
    data = b"".join(pieces)
    first = pieces[0]
    if type(first) is not Laden:
        return data
    laden = Laden(data)
    laden.lease = first.lease
    laden.descriptors = first.descriptors
    return laden


def is_slow(body: "memoryview | bytes") -> bool:
    """Whether unpickling it takes longer than a loop may be held for."""
    return len(body) >= LARGE or (body[0] == _WITH_BUFFERS and bool(body[1] & _SLOW))


def received(body: "memoryview | bytes") -> Received | None:
    """The payload that it is a part of, if descriptors came with that."""
    source: Any = body.obj if isinstance(body, memoryview) else body
    return source if type(source) is Received else None


def loan_of(body: "memoryview | bytes") -> "Loan | None":
    """The arena that came with it, if one did."""
    source = received(body)
    return None if source is None else source.loan


def with_descriptors_of(payload: "memoryview | bytes", body: bytes) -> bytes:
    """A body that was in a value of this payload, and whose descriptors came with it."""
    source = received(payload)
    if source is None:
        return body
    made = Received(body)
    made.descriptors, source.descriptors = source.descriptors, []
    return made


def has_descriptors(body: "memoryview | bytes") -> bool:
    """Whether descriptors came with it that objects own, and that were not taken yet."""
    source = received(body)
    return source is not None and bool(source.descriptors)


def load(body: "memoryview | bytes", *, writable: bool = False) -> "Any":
    """The value of a body.

    Args:
        body: as `dump` made it, in one piece; a part of its frame's payload, if descriptors came
            with it.
        writable: arrays may be written. What is written is seen by nobody else.

    Raises:
        Exception: it cannot be unpickled.
    """
    if body[0] != _WITH_BUFFERS:
        return loads(body[1:])
    view = memoryview(body)
    source = received(view)
    loan, arrived = (None, None) if source is None else (source.loan, source.descriptors)
    if loan is not None:
        loan.writable = writable
    _, _, count = _COUNT.unpack_from(view)
    at = _COUNT.size
    entries = [_ENTRY.unpack_from(view, at + each * _ENTRY.size) for each in range(count)]
    at += count * _ENTRY.size
    buffers: list[Any] = []
    lent = False
    before, here.arriving = here.arriving, arrived
    try:
        for kind, offset, size in entries:
            if offset != _INLINE:
                assert loan is not None
                lent = True
                buffers.append(_take(loan, kind, offset, size))
                continue
            piece = view[at : at + size]
            at += size
            # A copy of its own, so that a small array does not keep the whole frame alive.
            if not buffers:
                buffers.append(piece)
            elif kind == _BYTEARRAY or (kind == _VIEW and writable):
                buffers.append(bytearray(piece))
            else:
                buffers.append(bytes(piece))
        return loads(buffers.pop(0), buffers=buffers)
    except BaseException:
        for each in arrived or ():
            each.close()  # now: the traceback may hold what was to take them
        raise
    finally:
        here.arriving = before
        if arrived:
            arrived.clear()
        buffers.clear()
        if lent and loan is not None:
            loan.end()


def _take(loan: "Loan", kind: int, offset: int, size: int) -> "Any":
    if kind == _BYTES:
        return loan.read(offset, size)
    if kind == _BYTEARRAY:
        return loan.read_into_bytearray(offset, size)
    return loan.view(offset, size)


def _kind_of(view: memoryview) -> int:
    owner = type(view.obj)
    return _BYTES if owner is bytes else _BYTEARRAY if owner is bytearray else _VIEW
