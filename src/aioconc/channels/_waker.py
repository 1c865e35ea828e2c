"""Wakes a thread that polls descriptors."""

import os


class Waker:
    """A descriptor that becomes readable when somebody says so."""

    __slots__ = ("_write_fd", "fd")

    def __init__(self) -> None:
        self.fd = self._write_fd = -1
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.fd, self._write_fd = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write_fd, False)

    def wake(self) -> None:
        """Any thread may call it."""
        try:
            os.write(self._write_fd, b"\1\0\0\0\0\0\0\0")
        except BlockingIOError:
            pass  # nobody has looked for long: it is readable

    def clear(self) -> None:
        """Not readable any more, until the next `wake`."""
        try:
            os.read(self.fd, 512)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close it; nobody wakes or polls any more."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            if self._write_fd != fd:
                os.close(self._write_fd)

    __del__ = close
