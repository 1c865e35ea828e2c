"""What channels raise: each is at once the error of anyio's streams.

They stand here and not in `aioconc.errors`, which workers load and which knows no event loop.
"""

import anyio

from aioconc.errors import AioconcError


class ChannelClosed(AioconcError, anyio.ClosedResourceError):
    """This end of the channel was closed, or has moved to another process.

    An `anyio.ClosedResourceError`.
    """


class EndOfStream(AioconcError, anyio.EndOfStream):
    """The other end has sent all it wanted to send, and all of it was received.

    An `anyio.EndOfStream`; it ends an iteration.
    """


class BrokenChannel(AioconcError, anyio.BrokenResourceError):
    """The other end takes no more items: it was closed, or is gone.

    An `anyio.BrokenResourceError`.

    Attributes:
        undelivered: items sent of which it is not known that the other end took them. It tells of
            those that it takes in portions of half the capacity, so it may have taken so many of
            them all the same.
    """

    def __init__(self, message: str, *, undelivered: int = 0) -> None:
        super().__init__(message)
        self.undelivered = undelivered


class PeerDied(BrokenChannel):
    """The other end is gone and was not closed: its process died, or dropped it.

    Attributes:
        pid: id of the process that had it; None: it had not reached the process it was sent to.
        exitcode: exit status of that process, negative: killed by that signal; None: it is no
            child of this one, or was waited for by somebody else, or still runs.
        undelivered: as in `BrokenChannel`.
    """

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        exitcode: int | None = None,
        undelivered: int = 0,
    ) -> None:
        super().__init__(message, undelivered=undelivered)
        self.pid = pid
        self.exitcode = exitcode
