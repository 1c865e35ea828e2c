"""Descriptors that travel with bytes over a socket of the family AF_UNIX.

They are closed whatever becomes of them: a descriptor that arrived is an object, and is closed
with it.
"""

import _socket
import os
from struct import calcsize, pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Protocol

    class Carried(Protocol):
        """What has a descriptor, which is open as long as it exists."""

        @property
        def fd(self) -> int: ...

    Ancillary = list[tuple[int, int, bytes]]

_LEVEL = getattr(_socket, "SOL_SOCKET", 1)
_RIGHTS = getattr(_socket, "SCM_RIGHTS", 1)
_TRUNCATED: int = getattr(_socket, "MSG_CTRUNC", 0)
CLOEXEC: int = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)

_INT = calcsize("i")
# What Linux takes with one message, less one for an arena.
MOST = 252
# What `recvmsg` is to be given for that many.
SPACE = _socket.CMSG_SPACE((MOST + 1) * _INT) if hasattr(_socket, "CMSG_SPACE") else 0


class Descriptor:
    """A descriptor that arrived; -1 if it was lost, since this process may have no more."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """Its number.

        Raises:
            OSError: it was lost.
        """
        if self._fd < 0:
            raise OSError(
                "this process has too many open files: a descriptor did not arrive; raise the "
                "limit (ulimit -n)"
            )
        return self._fd

    @property
    def is_lost(self) -> bool:
        """Whether it did not arrive."""
        return self._fd < 0

    def detach(self) -> int:
        """Its number; it is the caller's from now on.

        Raises:
            OSError: it was lost.
        """
        fd, self._fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Close it, if it is here."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


def ancillary(carried: "Sequence[Carried]") -> "Ancillary":
    """What `sendmsg` needs to send their descriptors along."""
    return [(_LEVEL, _RIGHTS, pack(f"{len(carried)}i", *(each.fd for each in carried)))]


def receive(sock: "socket.socket", size: int, flags: int = 0) -> "tuple[bytes, list[Descriptor]]":
    """Up to `size` bytes, and the descriptors that came with them.

    Raises:
        OSError: as `recv`.
    """
    data, control, told, _ = sock.recvmsg(size, SPACE, flags | CLOEXEC)
    return data, arrived_with(control, told) if control or told != CLOEXEC else _NONE


def arrived_with(control: "Ancillary", told: int) -> "list[Descriptor]":
    """The descriptors that came with a message: what `recvmsg` gives in second and third place."""
    arrived = []
    for level, kind, payload in control:
        if level == _LEVEL and kind == _RIGHTS:
            for at in range(0, len(payload) - _INT + 1, _INT):
                (fd,) = unpack_from("i", payload, at)
                arrived.append(Descriptor(fd))
                if not CLOEXEC:
                    os.set_inheritable(fd, False)
    if told & _TRUNCATED:
        arrived.append(Descriptor(-1))  # stands for all that are missing
    return arrived


_NONE: "list[Descriptor]" = []
