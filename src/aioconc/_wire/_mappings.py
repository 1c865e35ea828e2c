"""Mappings of arenas that one reader keeps, since the same arenas come again and again.

To map memory and touch each of its pages takes longer than to copy what is in it. What is kept is
bounded, and let go with `clear`. Needs numpy, whose arrays stand for one use of a mapping, and a
memfd, whose number tells it from all others: without them, or for memory that may be written, each
use has a mapping of its own.
"""

import sys
from _thread import allocate_lock
from _weakrefset import WeakSet
from collections import OrderedDict
from mmap import ACCESS_COPY, ACCESS_READ, mmap
from os import fstat

from aioconc._wire import _memory
from aioconc._wire._arenas import most_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Rule: a mapping that is kept keeps its memory, so no other has the number of that meanwhile. The
# number of a segment may be 0 (macOS), whichever it is.

# Mappings are kept up to this many bytes, which is what an owner keeps of free arenas, and up to
# this many, since each costs a descriptor; all readers of a process have a share of those together.
KEPT = 1 << 27
_MOST = 16

# Those that some reader keeps, or kept, and that are still there.
_everywhere: WeakSet[mmap] = WeakSet()


class Mappings:
    """The mappings of one reader. Any thread may call it."""

    __slots__ = ("_bytes", "_kept", "_lock")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        # Number of the memory in the system -> its mapping; what was used last is last.
        self._kept: OrderedDict[int, mmap] = OrderedDict()
        self._bytes = 0

    def use(self, fd: int, writable: bool) -> "Any":
        """What exports this memory for as long as something reads it; takes weak references.

        Raises:
            OSError: it cannot be mapped.
        """
        if writable:
            return mmap(fd, 0, access=ACCESS_COPY)
        # What is being imported may have no such function yet.
        as_array = getattr(sys.modules.get("numpy"), "frombuffer", None)
        if as_array is None or _memory.kind != "memfd":
            return mmap(fd, 0, access=ACCESS_READ)
        number = fstat(fd).st_ino
        with self._lock:
            mapping = self._kept.get(number)
            if mapping is not None:
                self._kept.move_to_end(number)
        if mapping is None:
            mapping = mmap(fd, 0, access=ACCESS_READ)
            self._keep(number, mapping)
        return as_array(mapping, "B")

    def _keep(self, number: int, mapping: mmap) -> None:
        size = len(mapping)
        if size > KEPT:
            return
        most = most_descriptors()
        with self._lock:
            if number in self._kept:
                return
            self._kept[number] = mapping
            _everywhere.add(mapping)
            self._bytes += size
            while self._bytes > KEPT or len(self._kept) > _MOST or len(_everywhere) > most:
                if not self._kept:
                    return
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def clear(self) -> None:
        """Keep none of those that are here."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    @property
    def is_busy(self) -> bool:
        """Whether some thread, perhaps this one, is at a line that has the lock."""
        return self._lock.locked()

    def __len__(self) -> int:
        return len(self._kept)
