"""Loans: arenas of another process that this one reads.

What was unpickled from an arena reads it where it is, through a mapping that lives as long as the
last view of it; the arena is then given back to its owner. An object that must own its memory
(`bytes`, `bytearray`) gets a copy. Mappings cost a descriptor each, so beyond a share of those
that this process may have, all buffers are copied.
"""

import os
from _weakref import ref
from collections import deque
from struct import pack, unpack

from aioconc._wire import _memory
from aioconc._wire._arenas import most_descriptors
from aioconc._wire._mappings import Mappings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from aioconc._wire._descriptors import Descriptor


class _Reading(ref):  # type: ignore[type-arg]  # of whatever exports memory
    """A reference to what exports an arena that is read, and where to give that back."""

    __slots__ = ("loans", "number")

    loans: "Loans"
    number: int

    # By identity, since arrays have neither.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


# One for each arena that is read by reference, whosever it is.
_mapped: set[_Reading] = set()


def scarce() -> bool:
    """Whether there are so many mappings that buffers are copied instead."""
    return len(_mapped) >= most_descriptors()


# Rule: what a finalizer calls takes no lock; it may run in any thread and at any line.
class Loans:
    """What one reader has of one owner.

    Args:
        notify: called when the first of some arenas can be given back, in any thread.
    """

    __slots__ = ("_notify", "mappings", "returned", "were_used")

    def __init__(self, notify: "Callable[[], object] | None" = None) -> None:
        self._notify = notify
        self.mappings = Mappings()
        # Whether there was a loan since somebody set this to False.
        self.were_used = False
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
        self.mappings.clear()

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
        loans.were_used = True
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
        source = self._loans.mappings.use(self._fd, self.writable)
        reading = _Reading(source, _on_unmapped)
        reading.loans, reading.number = self._loans, self._number
        _mapped.add(reading)
        self._mapping = memoryview(source)


def _on_unmapped(reading: _Reading, known: "set[_Reading]" = _mapped) -> None:
    if reading in known:
        known.discard(reading)
        reading.loans.give_back(reading.number)


# A forked child shares the mappings, and nobody tells when it is done with them: these arenas are
# never given back, and never written again.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_mapped.clear)
