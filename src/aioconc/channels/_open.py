"""Opens a channel: a socket pair, and what both of its ends have to say to each other.

It guarantees that bad arguments open nothing, and that a failure leaves nothing open. What an end
does is in `_channel`.
"""

import os
import socket
from typing import Any

from aioconc._internal._check import check_count
from aioconc._wire._channel import Machine
from aioconc.channels._channel import Channel
from aioconc.channels._end import End


def open_channel(
    *, capacity: int = 64, max_frame: int = 1 << 28
) -> tuple[Channel[Any], Channel[Any]]:
    """The two ends of a new channel; either may be passed to another process.

    Equals `multiprocessing.Pipe()`, awaitable and bounded.

    Args:
        capacity: items that may be on their way in each direction, int >= 1: sent and not received.
        max_frame: bytes that an item may have when it is pickled, int >= 1.

    Returns:
        Two ends that are alike. Close both: `async with ours, theirs:`. One that was passed to
        another process is closed there.

    Raises:
        ValueError: `capacity` or `max_frame` is below 1.
        TypeError: one of them is not an int.
        OSError: this process may have no more open files.

    Example:
        >>> import asyncio
        >>> from aioconc import offload_cpu
        >>> def double(channel):
        ...     with channel.sync as numbers:
        ...         for number in numbers:
        ...             numbers.send(2 * number)
        >>> async def main():
        ...     ours, theirs = open_channel()
        ...     async with ours:
        ...         work = asyncio.ensure_future(offload_cpu(double, theirs))
        ...         await ours.send_many([1, 2, 3])
        ...         await ours.close_send()
        ...         doubled = [item async for item in ours]
        ...         await work
        ...         return doubled
        >>> asyncio.run(main())
        [2, 4, 6]
    """
    check_count("capacity", capacity)
    check_count("max_frame", max_frame)
    pid = os.getpid()
    left, right = socket.socketpair()
    try:
        return (
            Channel(End(left, Machine(capacity, pid), max_frame)),
            Channel(End(right, Machine(capacity, pid), max_frame)),
        )
    except BaseException:
        left.close()
        right.close()
        raise
