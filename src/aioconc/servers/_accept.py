"""Accepting connections, never more than there are permits for.

A permit is taken before a connection is: without one the listening sockets are not even looked at,
and who comes waits in the kernel's queue. All of it happens in callbacks of the loop, without an
await, so that no cancellation can come between a connection and the task that serves it. What a
connection is then used for is left to the server.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from aioconc._internal import _hooks

# There is no descriptor or memory for one more: it will pass, but not by asking again at once.
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

# This socket will accept nothing any more.
_UNUSABLE = frozenset((errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP))

# Seconds for which nothing is accepted after that, doubled each time up to the longest. The first is
# what a burst of short connections needs to end some of them.
_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

_log = logging.getLogger("aioconc")


# Acceptor life:   new -> open <-> full -> stopped       (open and full may be paused, see below)
# Rule 1: the loop looks at the sockets iff `_looking`, that is: started, not stopped, `_free` >= 1,
#         and `_pause` is None.
# Rule 2: a permit is taken in the same callback in which a connection is accepted, and given back
#         once by whoever was handed the connection.
class Acceptor:
    """Accepts from all `sockets` together, up to `limit` connections at a time.

    Args:
        sockets: they listen, and do not block.
        limit: permits.
        context: what the callbacks run in.
        take: is handed each connection and its peer's address; may raise nothing.
        fail: is told if a socket has become unusable.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        limit: float,
        context: Context,
        take: Callable[[socket.socket, Any], object],
        fail: Callable[[OSError], object],
    ) -> None:
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self._free = limit
        self._context = context
        self._take = take
        self._fail = fail
        self._looking = False
        self._stopped = True
        # Set while nothing is accepted for want of descriptors, and how long the next such time is.
        self._pause: asyncio.TimerHandle | None = None
        self._next_pause = _SHORTEST_PAUSE
        self.accepted = 0
        self.pauses = 0

    def start(self) -> None:
        """Accept from now on."""
        self._stopped = False
        self._look()

    def stop(self) -> None:
        """Accept nothing more. What waits in the queues of the kernel is left there."""
        self._stopped = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._look()

    def take_queued(self) -> None:
        """Accept what has queued so far, as far as there are permits; once it has stopped."""
        for each in self._sockets:
            while self._free >= 1 and self._accept(each):
                pass

    def give_back(self) -> None:
        """A connection has ended."""
        self._free += 1
        if self._pause is not None:  # a descriptor is free now
            self._resume()
        elif not self._looking:
            self._look()

    @property
    def paused(self) -> bool:
        """Whether nothing is accepted for want of descriptors or memory."""
        return self._pause is not None

    def _look(self) -> None:
        """Have the loop look at the sockets, or no longer."""
        look = not self._stopped and self._free >= 1 and self._pause is None
        if look is self._looking:
            return
        self._looking = look
        for each in self._sockets:
            if look:
                # In the context of the server: that of whoever gave back a permit is none of theirs.
                self._context.run(self._loop.add_reader, each, self._on_readable, each)
            elif each.fileno() >= 0:
                self._loop.remove_reader(each)

    def _on_readable(self, listener: socket.socket) -> None:
        # One at a time: other processes may share the queue, and are to have their part of it.
        if self._looking:
            self._accept(listener)

    def _accept(self, listener: socket.socket) -> bool:
        """Accept one connection; whether to ask again at once."""
        try:
            sock, peer = listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._pause_for(error)
                return False
            if error.errno in _UNUSABLE:
                self.stop()
                self._fail(error)
                return False
            return True  # the client has gone meanwhile, or its network has: that was this one
        self._next_pause = _SHORTEST_PAUSE
        self.accepted += 1
        self._free -= 1
        if self._free < 1:
            self._look()
        self._take(sock, peer)
        return True

    def _pause_for(self, error: OSError) -> None:
        if self._stopped:
            return
        delay, self._next_pause = self._next_pause, min(self._next_pause * 2, _LONGEST_PAUSE)
        self.pauses += 1
        if delay == _SHORTEST_PAUSE:  # the first of a row of them
            _log.warning(
                "no connection can be accepted for now, and clients wait: %s; raise the limit "
                "(ulimit -n), or lower limit= of the server",
                error,
            )
        if _hooks.listeners:
            _hooks.emit("server.accept_paused", error=error, seconds=delay)
        self._pause = self._loop.call_later(delay, self._resume)
        self._look()

    def _resume(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._look()
