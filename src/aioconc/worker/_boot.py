"""What a worker process does before its first call.

Started as `python -c "..."`, or forked from a template, with its socket and the other descriptors
by number; everything else comes in the first frame. No main module of the user's is imported. The worker ends when its socket
ends, and is killed by the kernel when its parent dies, also in the middle of a call.
"""

import _signal  # type: ignore[import-not-found]  # `signal` loads enum
import os
import sys
from _socket import socket

from aioconc._wire import _frames as wire
from aioconc._wire._body import dump, load, with_descriptors_of
from aioconc.worker._cord import Cord
from aioconc.worker._serve import Worker
from aioconc.worker._when_loaded import when_loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# fcntl: the signal that tells of input or of a hang-up; Linux only.
_F_SETSIG = 10


def main(sock: int, life: int, journal: int, blackbox: int) -> None:
    """Set up, then serve.

    Args:
        sock: the worker's end of its socket.
        life: a pipe that ends when the parent does; nothing is ever written to it.
        journal: memory shared with the parent, or -1.
        blackbox: file for the traceback of a fatal error, or -1.
    """
    begin(sock, life, journal, blackbox)
    die_with_parent(life)
    connection = socket(fileno=sock)
    cord = Cord(connection)  # type: ignore[arg-type]  # `socket` loads selectors
    _, number, payload, _ = cord.next()
    setup = load(payload)
    take_surroundings(setup)
    when_loaded("multiprocessing.process", lambda: _set_authkey(setup["authkey"]))
    if blackbox >= 0:
        import faulthandler

        faulthandler.enable(blackbox)
    memory = None
    if journal >= 0:
        import mmap

        memory = mmap.mmap(journal, 0)
        os.close(journal)
    worker = Worker(cord, setup["executor"], memory, setup["levels"])
    if (initializer := setup["initializer"]) is not None:
        try:
            fn, args = load(with_descriptors_of(payload, initializer))
            fn(*args)
        except BaseException as error:
            from aioconc.worker._failures import packed

            cord.send(wire.ERROR, number, packed(error, error))
            return
    try:
        cord.send(wire.READY, number, *dump(os.getpid()))
        worker.serve()
    except (EOFError, ConnectionError):
        pass  # the parent has let go of this worker
    finally:
        connection.close()


def begin(*fds: int) -> None:
    """Ignore Ctrl-C, which is the parent's to handle, and keep the descriptors for oneself."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    # It was blocked from the start, so that one which came in the meantime ends nothing.
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))
    for fd in fds:
        if fd >= 0:
            # A process that a call starts must not hold them.
            os.set_inheritable(fd, False)


def take_surroundings(setup: "dict[str, Any]") -> None:
    """Find modules where the parent finds them."""
    sys.path[:] = setup["path"]
    sys.prefix, sys.exec_prefix = setup["prefixes"]
    sys.argv = setup["argv"]


def _set_authkey(key: bytes) -> None:
    from multiprocessing.process import current_process

    current_process().authkey = key


def die_with_parent(life: int) -> int:
    """Be killed when the other end of the pipe is gone.

    Returns:
        A descriptor that this takes, or -1.
    """
    own = _own_end(life)
    if own >= 0:
        # The kernel sends SIGKILL when the last writer of the pipe is gone. Unlike PDEATHSIG this
        # does not depend on the thread that started the worker, and a parent that died before this
        # line is noticed just below.
        import fcntl

        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, _F_SETSIG, _signal.SIGKILL)
        flags = fcntl.fcntl(own, fcntl.F_GETFL)
        fcntl.fcntl(own, fcntl.F_SETFL, flags | os.O_ASYNC)
        try:
            gone = os.read(own, 1) == b""
        except BlockingIOError:
            gone = False
        if gone:
            os._exit(1)
    else:
        import _thread

        def watch() -> None:
            os.read(life, 1)
            os._exit(1)

        _thread.start_new_thread(watch, ())
    return own


def _own_end(life: int) -> int:
    """The pipe opened anew; -1 where that cannot be done.

    The end that was inherited is one for all workers, and so is the process it sends signals to:
    only the worker that came last would be told.
    """
    if sys.platform.startswith("linux"):
        try:
            return os.open(f"/proc/self/fd/{life}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            pass  # no /proc
    return -1
