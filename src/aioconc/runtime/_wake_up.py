"""Waking an event loop when a signal arrives, so that its Python handler runs at once.

A signal that arrives just before a loop of asyncio goes to wait interrupts nothing, and its Python
handler would run when the loop wakes for something else, perhaps never. The interpreter writes a
byte for each signal into a descriptor that it is given; here that is one that the loop reads.
uvloop does this by itself.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

# Descriptors of open blocks. A full one does not matter: the loop is woken already.
_ours: Final[set[int]] = set()


@contextmanager
def woken_by_signals(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """For the length of a block, in the loop's thread: signals wake the loop."""
    if (
        threading.current_thread() is not threading.main_thread()
        or not isinstance(loop, asyncio.BaseEventLoop)
        or not hasattr(socket, "AF_UNIX")  # elsewhere the proactor does it
    ):
        yield
        return
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        if before != -1:
            # The loop has one already, for the handlers of `loop.add_signal_handler`, or an outer
            # block of this kind does.
            signal.set_wakeup_fd(before, warn_on_full_buffer=before not in _ours)
            yield
            return
        _ours.add(writer.fileno())
        loop.add_reader(reader, _drain, reader)
        try:
            yield
        finally:
            _ours.discard(writer.fileno())
            if not loop.is_closed():
                loop.remove_reader(reader)
            now = signal.set_wakeup_fd(-1)
            if now != writer.fileno():  # somebody else has set one meanwhile
                signal.set_wakeup_fd(now)


def _drain(reader: socket.socket) -> None:
    with suppress(BlockingIOError):
        while len(reader.recv(4096)) == 4096:
            pass
