"""Memory without a name that another process can map, once it is given the descriptor.

On Linux a memfd that can be neither shrunk nor grown, so that no reader can be hit by SIGBUS;
elsewhere a segment of shared memory that loses its name at once. It ends with its last descriptor
and mapping, whatever kills whom. Copying lets other threads run.
"""

import os
import sys
from mmap import ACCESS_DEFAULT, mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    Kind = Literal["memfd", "segment", "none"]

# Bytes copied between two looks at whether they are still wanted: some milliseconds at most.
_STEP = 1 << 22

# Bytes that are copied in one go where copying holds up other threads: well under a millisecond.
_SHORT_STEP = 1 << 18

# fcntl: no shrinking, no growing, no further seals.
_F_ADD_SEALS = 1033
_SEALS = 2 | 4 | 1


def _find_kind() -> "Kind":
    if hasattr(os, "memfd_create"):
        return "memfd"
    try:
        from _posixshmem import shm_open  # type: ignore[import-not-found]
    except ImportError:
        return "none"
    return "segment" if callable(shm_open) else "none"


# What this system has. Tests set it.
kind: "Kind" = _find_kind()


def make(size: int) -> int:
    """The descriptor of `size` bytes of memory.

    Raises:
        OSError: there is no memory, or no descriptor, or this system has nothing of the kind.
    """
    if kind == "memfd":
        import fcntl

        fd: int = os.memfd_create("aioconc arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(fd)
            raise
        return fd
    if kind == "segment":
        import _posixshmem

        # At most 31 characters, the limit of macOS.
        name = f"/aioconc-{os.urandom(8).hex()}"
        fd = _posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
        try:
            _posixshmem.shm_unlink(name)
            os.ftruncate(fd, size)
        except BaseException:
            os.close(fd)
            raise
        return fd
    raise OSError("this system has no memory without a name")


def write(
    fd: int, views: "Sequence[memoryview]", offsets: "Sequence[int]", wanted: "Callable[[], bool]"
) -> bool:
    """Copy the views to their offsets; False if in the middle of it they were no longer wanted.

    Raises:
        OSError: there is no memory.
    """
    if kind == "memfd":
        for view, offset in zip(views, offsets, strict=True):
            at = 0
            while at < view.nbytes:
                if not wanted():
                    return False
                # In the system, so without a mapping of ours, and with the GIL given up.
                at += os.pwrite(fd, view[at : at + _STEP], offset + at)
        return True
    with mmap(fd, 0, access=ACCESS_DEFAULT) as target:
        for view, offset in zip(views, offsets, strict=True):
            for at in range(0, view.nbytes, _SHORT_STEP):
                if not wanted():
                    return False
                piece = view[at : at + _SHORT_STEP]
                target[offset + at : offset + at + piece.nbytes] = piece
    return True


def can_copy() -> bool:
    """Whether `copy` works here: it is numpy that copies without holding up other threads."""
    numpy = sys.modules.get("numpy")
    # What is being imported has not all of its functions yet.
    return hasattr(numpy, "copyto") and hasattr(numpy, "frombuffer")


def copy(
    target: mmap,
    views: "Sequence[memoryview]",
    offsets: "Sequence[int]",
    wanted: "Callable[[], bool]",
) -> bool:
    """As `write`, into a mapping that was written before: in a third of the time."""
    import numpy as np

    memory = np.frombuffer(target, np.uint8)
    for view, offset in zip(views, offsets, strict=True):
        source = np.frombuffer(view, np.uint8)
        for at in range(0, view.nbytes, _STEP):
            if not wanted():
                return False
            piece = source[at : at + _STEP]
            np.copyto(memory[offset + at : offset + at + len(piece)], piece)
    return True


def read(fd: int, offset: int, length: int) -> bytes:
    """A copy of what is there."""
    if kind == "memfd":
        pieces = []
        end = offset + length
        while offset < end:
            # With the GIL given up; takes 2 GiB at most.
            pieces.append(os.pread(fd, end - offset, offset))
            offset += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    with mmap(fd, 0, access=ACCESS_DEFAULT) as source:
        end = offset + length
        pieces = [source[at : min(at + _SHORT_STEP, end)] for at in range(offset, end, _SHORT_STEP)]
    return b"".join(pieces)  # gives up the GIL, unlike a copy of a whole view


def read_into_bytearray(fd: int, offset: int, length: int) -> bytearray:
    """As `read`, into a bytearray."""
    made = bytearray()
    for at in range(offset, offset + length, _SHORT_STEP):
        # In steps, since a bytearray of this size would first be filled with zeros, in one go and
        # with the GIL held.
        made += read(fd, at, min(_SHORT_STEP, offset + length - at))
    return made
