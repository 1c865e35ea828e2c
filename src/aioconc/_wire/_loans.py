"""Loans: arenas of another process that this one reads.

What was unpickled from an arena reads it where it is, through a mapping that lives as long as the
last view of it; the arena is then given back to its owner. An object that must own its memory
(`bytes`, `bytearray`) gets a copy. Mappings cost a descriptor each, so beyond a share of those
that this process may have, all buffers are copied.
"""

import os
from _weakref import ref
from collections import deque
from mmap import ACCESS_COPY, ACCESS_READ, mmap
from struct import pack, unpack

from aioconc._wire import _memory
from aioconc._wire._arenas import most_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from aioconc._wire._descriptors import Descriptor

# Reference to each mapping that is alive, whosever it is -> where it is given back.
_mapped: "dict[ref[mmap], tuple[Loans, int]]" = {}


def scarce() -> bool:
    """Whether there are so many mappings that buffers are copied instead."""
    return len(_mapped) >= most_descriptors()


# Rule: what a finalizer calls takes no lock; it may run in any thread and at any line.
class Loans:
    """What one reader has of one owner.

    Args:
        notify: called when the first of some arenas can be given back, in any thread.
    """

    __slots__ = ("_notify", "returned")

    def __init__(self, notify: "Callable[[], object] | None" = None) -> None:
        self._notify = notify
        # Numbers of leases that are to be given back.
        self.returned: deque[int] = deque()

    def __bool__(self) -> bool:
        """Whether there is something to give back."""
        return bool(self.returned)

    def take_returned(self) -> bytes:
        """What is to be given back, as the payload of a RELEASE frame."""
        returned = self.returned
        numbers = [returned.popleft() for _ in range(len(returned))]
        return pack(f"<{len(numbers)}Q", *numbers)

    def close(self) -> None:
        """The owner is gone: nobody is to be told any more."""
        self._notify = None

    def give_back(self, number: int) -> None:
        """This arena is read no more."""
        self.returned.append(number)
        if self._notify is not None:
            self._notify()


def numbers_of(payload: "bytes | memoryview") -> "tuple[int, ...]":
    """The leases that a RELEASE frame gives back."""
    return unpack(f"<{len(payload) // 8}Q", payload)


class Loan:
    """The arena that came with one message."""

    # Rule: it is given back once: by the finalizer of its mapping if there is one, else at the end
    # of the loan itself.
    __slots__ = ("_descriptor", "_loans", "_mapping", "_number", "writable")

    def __init__(self, loans: Loans, number: int, descriptor: "Descriptor") -> None:
        self._loans = loans
        self._number = number
        self._descriptor: Descriptor | None = descriptor
        self._mapping: memoryview | None = None
        # Whether views may be written: what is written is seen by nobody else.
        self.writable = False

    def view(self, offset: int, length: int) -> memoryview:
        """What is there, by reference as long as that can be had."""
        if self._mapping is None:
            try:
                if scarce():
                    raise OSError("too many mappings")
                self._map()
            except OSError:
                if self.writable:
                    return memoryview(self.read_into_bytearray(offset, length))
                return memoryview(self.read(offset, length))
            assert self._mapping is not None
        return self._mapping[offset : offset + length]

    def read(self, offset: int, length: int) -> bytes:
        """A copy of what is there."""
        return _memory.read(self._fd, offset, length)

    def read_into_bytearray(self, offset: int, length: int) -> bytearray:
        """A copy of what is there."""
        return _memory.read_into_bytearray(self._fd, offset, length)

    def end(self) -> None:
        """All of the message is unpickled."""
        if self._descriptor is None:
            return
        self._descriptor = None
        if self._mapping is None:
            self._loans.give_back(self._number)
        else:
            self._mapping = None  # given back once the last view of it is gone

    __del__ = end

    @property
    def _fd(self) -> int:
        assert self._descriptor is not None
        return self._descriptor.fd

    def _map(self) -> None:
        mapping = mmap(self._fd, 0, access=ACCESS_COPY if self.writable else ACCESS_READ)
        _mapped[ref(mapping, _on_unmapped)] = self._loans, self._number
        self._mapping = memoryview(mapping)


def _on_unmapped(mapping: "ref[mmap]", pop: "Any" = _mapped.pop) -> None:
    entry = pop(mapping, None)
    if entry is not None:
        loans, number = entry
        loans.give_back(number)


# A forked child shares the mappings, and nobody tells when it is done with them: these arenas are
# never given back, and never written again.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_mapped.clear)
