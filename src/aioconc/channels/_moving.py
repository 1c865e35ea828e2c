"""An end of a channel goes to another process: it is pickled here, and made anew there.

It guarantees that the two are never used both, and that this process keeps no descriptor of the
end that has left, which would keep the other end from hearing of its death. How descriptors travel
is left to `_wire._passing`.
"""

# The pickle may be made twice (cloudpickle comes after pickle), and `multiprocessing` takes the
# descriptor by number when it starts the process. So this process keeps it for a moment:
#   - a loop runs in this thread: until its next turn;
#   - a process is being started: until it was;
#   - else: for a second.

import asyncio
import os
import socket
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from aioconc._bridge._errand import run_errand
from aioconc._wire._body import received
from aioconc._wire._channel import Machine
from aioconc._wire._passing import Passed, pass_on
from aioconc.channels._end import End
from aioconc.channels._packing import LOADED
from aioconc.sync._home import refuse

if TYPE_CHECKING:
    from aioconc.channels._channel import Channel

# Seconds between two looks whether a process was started, and the time after which a pickle is not
# made a second time.
_LOOK: Final = 0.005
_MOMENT: Final = 1.0


def leave(channel: "Channel[Any]", end: End) -> tuple[Any, ...]:
    """What to pickle in place of the channel.

    Raises:
        TypeError: what is pickled here does not go to another process with its descriptors.
        ValueError: the end is closed, has moved, or is in use.
    """
    if end._home.left:
        refuse(channel)
    with end._mutex:
        if end.moved is None:
            _check_idle(channel, end)
        elif end._sock.fileno() < 0:
            raise ValueError(f"{channel!r} cannot be passed to another process once more")
        # First, since it refuses where nothing can be passed on.
        passed = pass_on(end._sock.fileno(), owner=channel)
        if end.moved is None:
            # Whoever is at the other end must not take this process for the one that has it.
            end._queue(end.machine.hello(0))
            end._flush()
            _check_sent(channel, end)
            end.moved = (
                end.machine.save(),
                end.max_frame,
                bytes(end._decoder._data),
                end._arenas.last,
            )
            end.machine.forget()
            end._closed = end._finished = True
            end._cut_off()
            end._loans.close()
            end._let_go()
            if end._waker is not None:
                end._waker.close()
            close_later(end._sock)
        return _arrive, (passed, *end.moved)


def _check_idle(channel: "Channel[Any]", end: End) -> None:
    machine = end.machine
    if end.closed:
        raise ValueError(f"{channel!r} cannot be passed to another process, since it is closed")
    if end._receivers or end._senders or end._places or end._reserved or end._leader is not None:
        raise ValueError(f"{channel!r} cannot be passed to another process while somebody uses it")
    end._flush()
    _check_sent(channel, end)
    if end._decoder._arrived:
        raise ValueError(
            f"{channel!r} cannot be passed to another process while a large item arrives; receive "
            "it first"
        )
    for each in machine._items:
        if type(each) is tuple and (each[0] == LOADED or received(each[1]) is not None):
            raise ValueError(
                f"{channel!r} cannot be passed to another process while it holds large items; "
                "receive them first"
            )


def _check_sent(channel: "Channel[Any]", end: End) -> None:
    if end._out:
        raise ValueError(
            f"{channel!r} cannot be passed to another process while its items are not sent: the "
            "other end has to receive some first"
        )


def close_later(sock: socket.socket) -> None:
    """Close the descriptor once it is not needed here any more."""
    context: Any = sys.modules.get("multiprocessing.context")
    popen = None if context is None else context.get_spawning_popen()
    if popen is not None:
        process = weakref.ref(popen)
        del popen

        def close_when_started() -> None:
            pause = threading.Event()
            while (popen := process()) is not None and getattr(popen, "pid", None) is None:
                del popen
                pause.wait(_LOOK)
            sock.close()

        run_errand(close_when_started)
    elif (loop := asyncio._get_running_loop()) is not None:
        loop.call_soon(sock.close)
    else:

        def close_in_a_moment() -> None:
            threading.Event().wait(_MOMENT)
            sock.close()

        run_errand(close_in_a_moment)


def _arrive(
    passed: Passed, state: tuple[Any, ...], max_frame: int, begun: bytes, last_lease: int
) -> "Channel[Any]":
    """Called where it is unpickled."""
    from aioconc.channels._channel import Channel

    sock = socket.socket(fileno=passed.take())
    try:
        end = End(sock, Machine.restore(state), max_frame)
    except BaseException:
        sock.close()
        raise
    with end._mutex:
        end._decoder.feed(begun)
        # The other end may still read what was lent to it before.
        end._arenas.last = last_lease
        end._queue(end.machine.hello(os.getpid()))
        end._flush()
    return Channel(end)
