"""Arenas: memory of this process in which the large buffers of its messages travel.

All large buffers of one message are copied into one arena, and its descriptor goes with the
message. The reader maps it and gives it back when nothing of it is read any more; then it is
written again, since fresh memory costs ten times as much as memory in use. What the reader does is
in `_loans`.
"""

import os
from _thread import allocate_lock
from mmap import mmap

from aioconc._wire import _memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# The smallest arena, in bytes; the others are twice the one before.
SMALLEST = 1 << 16

# Free arenas are kept up to this many bytes.
KEPT = 1 << 27

# Arenas of this size and more stay mapped for writing, once they are used again: below it, the
# system copies about as fast.
_MAPPED = 1 << 20

# Where buffers begin in an arena: multiples of a cache line, which is also what Arrow asks for.
_ALIGNMENT = 64


class Arena:
    """One piece of memory."""

    __slots__ = ("_mapping", "_was_written", "fd", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._mapping: mmap | None = None
        self._was_written = False
        self.fd = -1
        self.fd = _memory.make(size)

    def write(
        self,
        buffers: "Sequence[memoryview]",
        offsets: "Sequence[int]",
        wanted: "Callable[[], bool]",
    ) -> bool:
        """Copy the buffers to their offsets; False if they are no longer wanted.

        Raises:
            OSError: there is no memory.
        """
        # Fresh memory would be filled with zeros first, if it were mapped.
        if self._was_written and self.size >= _MAPPED and _memory.can_copy():
            if self._mapping is None:
                self._mapping = mmap(self.fd, self.size)
            return _memory.copy(self._mapping, buffers, offsets, wanted)
        good = _memory.write(self.fd, buffers, offsets, wanted)
        self._was_written = good
        return good

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Lease:
    """An arena that holds the buffers of one message."""

    __slots__ = ("arena", "number", "offsets")

    def __init__(self, arena: Arena, number: int, offsets: "list[int]") -> None:
        self.arena = arena
        self.number = number
        self.offsets = offsets


# Arena life:   (made) -> filled -> lent -> free -> filled ...
#                             \-------\-------\-> dropped
# Rule 1: an arena is in `_free`, or in `_lent`, or in the hands of the thread that fills it.
# Rule 2: numbers of leases are never used again, so what is said of an old one does no harm.
class Arenas:
    """The arenas of one sender, which may have several readers. Any thread may call it.

    Args:
        kept: free arenas are kept up to this many bytes.
    """

    # The number of the last lease. Who goes on in place of another sender begins with that one's.
    last: int

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = allocate_lock()
        self._free: dict[int, list[Arena]] = {}
        self._bytes_free = 0
        self._lent: dict[int, Arena] = {}
        self.last = 0
        self._closed = False

    def fill(
        self, buffers: "Sequence[memoryview]", wanted: "Callable[[], bool]" = lambda: True
    ) -> "Lease | None":
        """Copy the buffers into an arena; None if there is none, or they are no longer wanted.

        Args:
            buffers: flat and contiguous.
            wanted: asked every few megabytes.
        """
        offsets = []
        end = 0
        for each in buffers:
            offsets.append(end)
            end += -(-each.nbytes // _ALIGNMENT) * _ALIGNMENT
        size = SMALLEST
        while size < end:
            size *= 2
        try:
            arena = self._take(size)
            if arena is None:
                return None
            if not arena.write(buffers, offsets, wanted):
                self._put(arena)
                return None
        except OSError:  # no memory, or no descriptors: the message goes without
            return None
        with self._lock:
            self.last += 1
            self._lent[self.last] = arena
            return Lease(arena, self.last, offsets)

    def give_back(self, numbers: "Iterable[int]") -> None:
        """The readers of these leases read them no more."""
        for number in numbers:
            with self._lock:
                arena = self._lent.pop(number, None)
            if arena is not None:
                self._put(arena)

    def forget(self, numbers: "Iterable[int]") -> None:
        """The readers of these leases are gone; what they left behind may still read them."""
        with self._lock:
            for number in numbers:
                self._lent.pop(number, None)

    def close(self) -> None:
        """Keep none of those that are free now or come to be."""
        self._closed = True
        self.trim()

    def trim(self) -> None:
        """Keep none of those that are free now."""
        with self._lock:
            self._free.clear()
            self._bytes_free = 0

    @property
    def is_busy(self) -> bool:
        """Whether some thread, perhaps this one, is at a line that has the lock."""
        return self._lock.locked()

    @property
    def lent(self) -> int:
        """Arenas that are read."""
        return len(self._lent)

    @property
    def bytes_free(self) -> int:
        """Bytes of the arenas that wait to be written again."""
        return self._bytes_free

    def _take(self, size: int) -> Arena | None:
        with self._lock:
            if free := self._free.get(size):
                self._bytes_free -= size
                return free.pop()
            if len(self._lent) >= most_descriptors():
                return None
        return Arena(size)

    def _put(self, arena: Arena) -> None:
        with self._lock:
            if self._closed or arena.size > self._kept:
                return
            # Make room at the expense of other sizes: what was used last is what comes next.
            for size in sorted(self._free, reverse=True):
                free = self._free[size]
                while free and self._bytes_free + arena.size > self._kept:
                    del free[0]
                    self._bytes_free -= size
            self._free.setdefault(arena.size, []).append(arena)
            self._bytes_free += arena.size


def most_descriptors() -> int:
    """How many descriptors this process may spend on arenas: an eighth of what it may have."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return 8_192 if limit == resource.RLIM_INFINITY else min(max(limit // 8, 4), 8_192)
    except ImportError:  # no POSIX system
        return 64
