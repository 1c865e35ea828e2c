"""A process that has loaded what its workers need, and is forked into one whenever it is told to.

Started as `python -c "..."`, like a worker. It has one thread and no event loop: a fork is safe
then, and what it has imported is there at once in each worker. It tells its parent of each worker's
birth, with a descriptor of the process, and of its end, since it is their parent. It ends when its
socket does, and is killed by the kernel when its parent dies.
"""

import gc
import os
import select
import sys
from _socket import SCM_RIGHTS, SOL_SOCKET, socket
from struct import pack

from aioconc._wire import _frames as wire
from aioconc._wire._body import dump, load
from aioconc._wire._descriptors import Descriptor, receive
from aioconc.worker import _boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What nearly every worker comes to need.
_NEEDED = ("aioconc.worker._failures", "aioconc.worker._many")

# From the parent, with the descriptors of the worker: its socket, its journal, its black box.
FORK = 1

# From the template. The number is that of the request.
UP = 16  # all modules are imported
BROKEN = 17  # they cannot be; the payload says why
FORKED = 18  # the process id, with a descriptor of the process
FAILED = 19  # there is no such process; the payload says why
ENDED = 20  # its status, as from `waitpid`, or None

_READ = 4_096

# Milliseconds that a fork on trial may take to end.
_PATIENCE = 2_000


def main(sock: int, life: int, setup: int, blackbox: int) -> None:
    """Import what is asked for, then fork workers; in a worker, serve.

    Args:
        sock: the template's end of its socket.
        life: a pipe that ends when the parent does.
        setup: memory with what it is to import, and from where.
        blackbox: file for the traceback of a fatal error.
    """
    _boot.begin(sock, life, setup, blackbox)
    for name in _NEEDED:
        __import__(name)
    own = _boot.die_with_parent(life)
    import faulthandler

    faulthandler.enable(blackbox)
    wanted = load(os.pread(setup, os.fstat(setup).st_size, 0))
    os.close(setup)
    _boot.take_surroundings(wanted)
    connection: Any = socket(fileno=sock)
    try:
        _preload(wanted["preload"])
    except BaseException as error:
        import traceback

        text = str(error) if isinstance(error, _Unfit) else traceback.format_exc()
        _send(connection, BROKEN, 0, *dump(text))
        return
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()  # else each worker would say it again
        except (OSError, ValueError):
            pass  # nobody reads it, or it was closed
    # What was imported is never garbage, and is not to be copied by whoever looks for some.
    gc.collect()
    gc.freeze()
    _send(connection, UP, 0)
    born = _Nursery(connection).serve()
    connection.close()
    if born is not None:  # this is a worker now
        os.close(own)
        os.close(blackbox)
        _reseed()
        sock, journal, blackbox = born
        _boot.main(sock, life, journal, blackbox)


class _Unfit(Exception):
    """A template that must not be forked."""


def _preload(names: "tuple[str, ...]") -> None:
    for name in names:
        __import__(name)
    if _count_threads() > 1:
        # Some libraries, such as OpenBLAS, end their threads before a fork and start them anew
        # when they need them. Whether all of them do is seen by trying.
        _try_fork()
        if (count := _count_threads()) > 1:
            raise _Unfit(
                f"importing {', '.join(names)} has started threads ({_thread_names(count)}), which "
                "a forked worker would not have; leave out the module that starts them, or start "
                "them in `initializer`"
            )


def _try_fork() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the threads
        pid = os.fork()
    if not pid:
        os._exit(0)
    try:
        # What such a module does after a fork may wait for a lock that a thread had.
        fd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(_PATIENCE):
            os.kill(pid, 9)
        os.close(fd)
        os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError):
        pass  # a module that was imported waits for all children


def _count_threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208  # pathlib is slow to load


def _thread_names(count: int) -> str:
    threading: Any = sys.modules.get("threading")
    known = [each.name for each in threading.enumerate()[1:]] if threading else []
    unknown = count - 1 - len(known)
    if unknown > 0:
        known.append(f"{unknown} that Python does not know")
    return ", ".join(known)


def _reseed() -> None:
    """Workers must not draw the same random numbers; `random` itself sees to that at a fork."""
    random: Any = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


class _Nursery:
    """The live workers, by the descriptor of their process, and the requests that come."""

    def __init__(self, sock: "Any") -> None:
        self._sock = sock
        self._decoder = wire.Decoder()
        # Of workers to come. What one request brings arrives with one read.
        self._arrived: list[list[Descriptor]] = []
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        # Descriptor of the process -> number of the request and process id.
        self._alive: dict[int, tuple[int, int]] = {}

    def serve(self) -> "tuple[int, int, int] | None":
        """Fork until the parent closes its end.

        Returns:
            None; in a worker, its descriptors.
        """
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._alive:
                    self._tell_end(fd)
                    continue
                requests = self._read()
                if requests is None:
                    return None
                for number in requests:
                    born = self._fork(number)
                    if born is not None:
                        return born

    def _read(self) -> "list[int] | None":
        """Numbers of the requests that have come; None: the parent has closed its end."""
        try:
            data, arrived = receive(self._sock, _READ)
        except ConnectionError:
            return None
        if not data:
            return None
        if arrived:
            self._arrived.append(arrived)
        return [number for kind, number, _, _ in self._decoder.feed(data) if kind == FORK]

    def _fork(self, number: int) -> "tuple[int, int, int] | None":
        # Closed on return: the worker alone has them from then on.
        ends = self._arrived.pop(0) if self._arrived else []
        try:
            sock, journal, blackbox = (each.fd for each in ends)
            pid = os.fork()
        except (OSError, ValueError) as error:  # ValueError: some were lost
            _send(self._sock, FAILED, number, *dump(f"{type(error).__name__}: {error}"))
            return None
        if not pid:
            for fd in self._alive:
                os.close(fd)
            return os.dup(sock), os.dup(journal), os.dup(blackbox)
        try:
            # Nobody else waits for it, so this is that process, even if it has just ended.
            fd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            _send(self._sock, FAILED, number, *dump(f"{type(error).__name__}: {error}"))
            return None
        self._alive[fd] = (number, pid)
        self._poll.register(fd, select.POLLIN)
        _send(self._sock, FORKED, number, *dump(pid), descriptor=fd)
        return None

    def _tell_end(self, fd: int) -> None:
        number, pid = self._alive.pop(fd)
        self._poll.unregister(fd)
        os.close(fd)
        status = None
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # a module that was imported waits for all children
        _send(self._sock, ENDED, number, *dump(status))


def rights(*fds: int) -> "list[tuple[int, int, bytes]]":
    """What `sendmsg` needs to send the descriptors along."""
    return [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))]


def _send(
    sock: "Any", kind: int, number: int, *pieces: "bytes | memoryview", descriptor: int = -1
) -> None:
    frame = b"".join(wire.encode(kind, number, *pieces))
    try:
        if descriptor < 0:
            sock.sendall(frame)
        else:
            sent = sock.sendmsg([frame], rights(descriptor))
            sock.sendall(frame[sent:])
    except OSError:
        pass  # the parent has let go of this template, which it sees when it reads
