"""What both ends of a channel say to each other: items, credits, and how each direction ends.

Sans-I/O: frames go in and come out as pieces of bytes, and nothing here waits or knows a socket.
It guarantees that no more than `capacity` items are on their way in each direction, that their
order is kept, and that an end which was closed can be told from one that died. Who waits for what
is left to `aioconc.channels`.
"""

# Sending:     open --END--> ended            (half closed: the other direction goes on)
# Receiving:   open --STOP--> stopped         (what still comes is not wanted)
# Closing is END and STOP, then the end of the stream. An end of the stream without them is a death.
#
# Rule 1: a credit is the right to send one item. `capacity` of them exist in each direction:
#         `credits` here, items on their way, items in the peer's `_items`, and those that the peer
#         has taken and not told of (`taken` there).
# Rule 2: what was taken is told in the number of any frame that goes out, and in a frame of its own
#         once it is half of the capacity; so two ends that only send need no frames for it, and an
#         end that only receives sends two for each capacity.

from collections import deque
from struct import Struct

from aioconc._wire._frames import HEADER, Decoder, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from aioconc._wire._body import Laden
    from aioconc._wire._descriptors import Descriptor

    Pieces = list[bytes | memoryview]
    # Kind, and what came: a body, or bytes.
    Item = tuple[int, memoryview | bytes]

# Kinds of frames. Those of the process executor are below 32.
ITEM = 32  # one item: a body
MANY = 33  # several: how many, the length of each, and the pickles
BYTES = 34  # what `send_bytes` sends
LARGE_BYTES = 35  # the same as a body, so that it may travel in an arena
CREDIT = 36  # only tells of what was taken
END = 37  # no more items
STOP = 38  # no more items are wanted
HELLO = 39  # the process id of who sends from now on; 0: the end is on its way to another process

PICKLE = 40  # one item: a pickle with nothing beside it; also what an item of MANY is

_U32 = Struct("<I")
_U64 = Struct("<Q")

# Kinds of frames that have one item.
_SINGLE = frozenset((PICKLE, ITEM, BYTES, LARGE_BYTES))

# Those of them that are unpickled at once, by whoever takes them.
_QUICK = frozenset((PICKLE, BYTES))

_SIZE = HEADER.size
_pack = HEADER.pack
_unpack = HEADER.unpack_from

# Below this many bytes a payload is copied out of what was read with it.
_SMALL = 65_536

# What the number of a frame can hold.
_MOST_TOLD = 0xFFFF_FFFF


class Reader(Decoder):
    """A decoder that is quick where many small frames come at once."""

    __slots__ = ()

    def feed(
        self, data: bytes, arrived: "Sequence[Descriptor]" = ()
    ) -> "list[tuple[int, int, memoryview | bytes, int]]":
        """As `Decoder.feed`."""
        if self._data or arrived or self._arrived:
            return super().feed(data, arrived)
        frames: list[tuple[int, int, memoryview | bytes, int]] = []
        at, size = 0, len(data)
        while size - at >= _SIZE:
            kind, descriptors, number, length = _unpack(data, at)
            start = at + _SIZE
            end = start + length
            if end > size or descriptors or length > _SMALL:
                break
            frames.append((kind, number, data[start:end], 0))
            at = end
        if at < size:
            frames += super().feed(data[at:] if at else data)
        return frames


class _Batch:
    """Items that came in one frame."""

    __slots__ = ("at", "data", "ends", "place")

    def __init__(self, payload: "memoryview | bytes") -> None:
        (count,) = _U32.unpack_from(payload)
        at = _U32.size * (count + 1)
        self.ends = Struct(f"<{count}I").unpack_from(payload, _U32.size)
        self.data = memoryview(payload)[at:]
        # The next item, and where it begins.
        self.place = 0
        self.at = 0


class Machine:
    """One end of a channel.

    Args:
        capacity: items on their way in each direction, >= 1.
        peer: process id of the other end.
    """

    __slots__ = (
        "_items",
        "capacity",
        "credits",
        "ended",
        "half",
        "peer",
        "peer_ended",
        "peer_stopped",
        "ready",
        "sent",
        "stopped",
        "taken",
        "taken_by_peer",
    )

    def __init__(self, capacity: int, peer: int) -> None:
        self.capacity = capacity
        self.half = max(1, capacity // 2)
        self.peer = peer
        # Items that may be sent.
        self.credits = capacity
        # Items sent, and those of them of which the peer has told that it took them.
        self.sent = 0
        self.taken_by_peer = 0
        # What has arrived and was not taken; `ready` counts items, and a batch is one entry.
        self._items: deque[Any] = deque()
        self.ready = 0
        # Items taken of which the peer does not know. Below zero if one was put back.
        self.taken = 0
        # END and STOP: what was sent, and what has arrived.
        self.ended = False
        self.stopped = False
        self.peer_ended = False
        self.peer_stopped = False

    # ------------------------------------------------------------------ sending

    def item(
        self, kind: int, pieces: "Sequence[bytes | memoryview]", laden: "Laden | None" = None
    ) -> "Pieces":
        """The frame of one item; takes a credit."""
        self.credits -= 1
        self.sent += 1
        return encode(kind, self._tell(), *pieces, laden=laden)

    def pickle(self, data: bytes) -> bytes:
        """The same for a pickle with nothing beside it: a frame in one piece."""
        self.credits -= 1
        self.sent += 1
        told = self._tell() if self.taken else 0
        return _pack(PICKLE, 0, told, len(data)) + data

    def many(self, pickles: "Sequence[bytes]") -> "Pieces":
        """The frame of several items; takes a credit for each."""
        count = len(pickles)
        self.credits -= count
        self.sent += count
        head = Struct(f"<I{count}I").pack(count, *map(len, pickles))
        return encode(MANY, self._tell(), head, *pickles)

    def end(self) -> "Pieces":
        """The frame that says that no more items are sent."""
        self.ended = True
        return encode(END, self._tell())

    def stop(self) -> "Pieces":
        """The frame that says that no more items are wanted."""
        self.stopped = True
        return encode(STOP, self._tell())

    def hello(self, pid: int) -> "Pieces":
        """The frame that says which process this end is in."""
        return encode(HELLO, self._tell(), _U64.pack(pid))

    def credit(self) -> "Pieces | None":
        """The frame that tells of what was taken, if it is time for one."""
        if self.taken < self.half or self.peer_ended:
            return None
        return encode(CREDIT, self._tell())

    def _tell(self) -> int:
        told = self.taken
        if not 0 <= told <= _MOST_TOLD:
            told = 0 if told < 0 else _MOST_TOLD
        self.taken -= told
        return told

    @property
    def undelivered(self) -> int:
        """Items sent of which it is not known that the peer took them."""
        return self.sent - self.taken_by_peer

    # ------------------------------------------------------------------ receiving

    def feed(self, frames: "Iterable[tuple[int, int, memoryview | bytes, int]]") -> None:
        """Take in frames, as `Decoder` gives them."""
        for kind, told, payload, _ in frames:
            self._take_in(kind, told, payload)

    def feed_bytes(self, data: bytes) -> int:
        """Take in the frames at the beginning of `data`; where the rest begins.

        Only small ones that are whole and have no descriptors, which is nearly all that come. The
        rest is for a `Decoder`, and then for `feed`.
        """
        append = self._items.append
        pickles = heard = 0
        at, size = 0, len(data)
        while (start := at + _SIZE) <= size:
            kind, descriptors, told, length = _unpack(data, at)
            end = start + length
            if end > size or descriptors or length > _SMALL or kind < ITEM:
                break
            at = end
            if kind == PICKLE:  # as `_take_in`
                append((PICKLE, data[start:end]))
                pickles += 1
                if told:
                    heard += told
            else:
                self._take_in(kind, told, data[start:end])
        self.ready += pickles
        if heard:
            self.credits += heard
            self.taken_by_peer += heard
        return at

    def _take_in(self, kind: int, told: int, payload: "memoryview | bytes") -> None:
        if told:
            self.credits += told
            self.taken_by_peer += told
        if kind in _SINGLE:
            self._items.append((kind, payload))
            self.ready += 1
        elif kind == MANY:
            batch = _Batch(payload)
            self._items.append(batch)
            self.ready += len(batch.ends)
        elif kind == END:
            self.peer_ended = True
        elif kind == STOP:
            self.peer_stopped = True
        elif kind == HELLO:
            (self.peer,) = _U64.unpack(payload)

    def take(self) -> "Item":
        """The next item; there must be one."""
        items = self._items
        first = items[0]
        self.ready -= 1
        self.taken += 1
        if type(first) is tuple:
            items.popleft()
            return first
        start = first.at
        first.at = end = start + first.ends[first.place]
        first.place += 1
        if first.place == len(first.ends):
            items.popleft()
        return PICKLE, first.data[start:end]

    def take_many(self, most: int, enough: int) -> "list[Item]":
        """Items until there are `most`, or their bytes are enough; one at least.

        One that has something beside its pickle comes alone.
        """
        items = self._items
        taken: list[Item] = []
        bytes_taken = 0
        while most > 0 and items and bytes_taken < enough:
            first = items[0]
            if type(first) is tuple:
                kind, body = first
                if kind not in _QUICK:
                    if not taken:
                        taken.append(items.popleft())
                    break
                taken.append(first)
                items.popleft()
                bytes_taken += len(body)
                most -= 1
                continue
            data, at, place = first.data, first.at, first.place
            ends = first.ends[place : place + most]
            for length in ends:
                taken.append((PICKLE, data[at : at + length]))
                at += length
                bytes_taken += length
            most -= len(ends)
            first.at, first.place = at, place + len(ends)
            if first.place == len(first.ends):
                items.popleft()
        self.ready -= len(taken)
        self.taken += len(taken)
        return taken

    def put_back(self, item: "Item") -> None:
        """What was taken was not: it comes first again."""
        self._items.appendleft(item)
        self.ready += 1
        self.taken -= 1

    def next_kind(self) -> int:
        """Kind of the next item; there must be one."""
        first = self._items[0]
        return first[0] if type(first) is tuple else PICKLE

    def forget(self) -> int:
        """Drop what has arrived; how many items that were."""
        count = self.ready
        self._items.clear()
        self.ready = 0
        return count

    # ------------------------------------------------------------------ moving

    def save(self) -> "tuple[Any, ...]":
        """All that another process needs to go on in place of this one."""
        waiting: list[Item] = []
        while self.ready:
            waiting.append(self.take())
        for each in reversed(waiting):
            self.put_back(each)
        return (
            self.capacity,
            self.peer,
            self.credits,
            self.sent,
            self.taken_by_peer,
            self.taken,
            self.ended,
            self.peer_ended,
            self.peer_stopped,
            [(kind, bytes(data)) for kind, data in waiting],
        )

    @classmethod
    def restore(cls, state: "tuple[Any, ...]") -> "Machine":
        """What `save` has saved."""
        self = cls(state[0], state[1])
        (
            _,
            _,
            self.credits,
            self.sent,
            self.taken_by_peer,
            self.taken,
            self.ended,
            self.peer_ended,
            self.peer_stopped,
            waiting,
        ) = state
        self._items.extend(waiting)
        self.ready = len(waiting)
        return self
