"""What ties a link to one event loop: the descriptor that the loop watches.

Each loop that a link is used in has a tie of its own, with a copy of the socket's descriptor: two
loops never watch the same one, and a loop closes its copy itself. A loop that was closed watches
nothing any more; its copy is closed by whoever comes next.
"""

import asyncio
import os
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Callable
from contextvars import Context

from aioconc._bridge._mailbox import mailbox_of


class Tie:
    """A link's tie to one loop. All but `let_go` is called in the loop's thread."""

    __slots__ = (
        "_on_readable",
        "_on_writable",
        "_reads",
        "_writes",
        "fd",
        "has_sent",
        "is_told_once",
        "loop",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        on_readable: "Callable[[Tie], object]",
        on_writable: "Callable[[Tie], object]",
    ) -> None:
        self.loop = loop
        # This tie's to close; -1 before it is made, and once it is closed.
        self.fd = -1
        self.fd = os.dup(fd)
        self._on_readable = on_readable
        self._on_writable = on_writable
        self._reads = True
        self._writes = False
        # Another end that dies without having read all that was sent to it leaves an error behind,
        # of which libuv tells once, and never more: with uvloop, read until nothing is left.
        self.is_told_once = not isinstance(loop, BaseSelectorEventLoop)
        # Something was sent and nothing has arrived since, nor has a turn of the loop ended.
        self.has_sent = False
        # In an empty context: a link must not keep alive what the first caller's variables hold.
        try:
            Context().run(loop.add_reader, self.fd, on_readable, self)
        except BaseException:
            self.close()
            raise

    def write(self, wanted: bool) -> None:
        """Have `on_writable` called when the socket takes more, or no longer."""
        if wanted is self._writes or self.fd < 0:
            return
        self._writes = wanted
        if wanted:
            Context().run(self.loop.add_writer, self.fd, self._on_writable, self)
        else:
            self.loop.remove_writer(self.fd)

    def stop_reading(self) -> None:
        """The stream has ended: nothing more is to be read."""
        if self._reads and self.fd >= 0:
            self._reads = False
            self.loop.remove_reader(self.fd)

    def let_go(self) -> None:
        """The loop is to watch no more. Any thread may call it."""
        loop = self.loop
        if loop is asyncio._get_running_loop():
            self._end()
        elif not mailbox_of(loop).post(loop, self._end):
            self.close()

    def _end(self) -> None:
        if self.fd < 0:
            return
        self.stop_reading()
        self.write(False)
        self.close()

    def close(self) -> None:
        """Close the descriptor; the loop does not watch it, or is closed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close
