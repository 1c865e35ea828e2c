"""The parent's end of one worker process: its socket, its calls, what is left when it has died.

A worker is attached to one loop at a time, whose thread sends its calls and reads its answers. It
stays there while it is idle, and any thread that has it in hand may move it to another loop, also
if the first one has stopped or is closed. Which call it gets is the pool's business.
"""

import asyncio
import itertools
import mmap
import os
import socket
import threading
import weakref
from _pickle import loads
from collections import deque
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING

from aioconc._bridge._mailbox import Mailbox
from aioconc._wire import _call as layout, _frames as wire
from aioconc._wire._body import Parts, dump
from aioconc._wire._descriptors import ancillary, receive
from aioconc.executors.process._freight import Freight
from aioconc.executors.process._launch import Launched
from aioconc.executors.process._log_relay import levels, mark as log_mark, relay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aioconc._wire._descriptors import Ancillary, Carried
    from aioconc.executors.process._functions import Function
    from aioconc.executors.process._jobs import ProcessJob
    from aioconc.executors.process._pool import ProcessPool

# Read at a time: enough for nearly every outcome, and more once that was not enough.
_READ = 4_096
_READ_MORE = 65_536

# Bytes below which a frame is sent in one piece: copying it costs less than telling the kernel of
# each.
_SMALL = 16_384

_RESULT = wire.RESULT
_pack_header = wire.HEADER.pack

# Pieces that are given to the kernel at once; it takes 1,024 at most, some systems 16.
_MOST_PIECES = 16

# Bytes of the end of a fatal error's traceback that are kept.
_TAIL = 8_192


class _Tie:
    """A worker's tie to one loop: the descriptor that the loop watches.

    Two loops never watch one descriptor. A worker that is taken from a loop gets a copy, and the
    old one is closed by that loop when it comes to it, or goes with the loop.
    """

    __slots__ = ("_loop", "_own", "fd", "mailbox")

    def __init__(self, loop: asyncio.AbstractEventLoop, mailbox: Mailbox, fd: int) -> None:
        # An idle worker keeps no loop alive.
        self._loop = weakref.ref(loop)
        self.mailbox = mailbox
        self.fd = fd
        # Whether the descriptor is this tie's to close.
        self._own = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """None: it is gone."""
        return self._loop()

    def let_go(self) -> None:
        """The worker has a descriptor of its own from now on."""
        self._own = True
        loop = self.loop
        if loop is None or not self.mailbox.post(loop, self.end):
            self.end()

    def end(self) -> None:
        """In the loop, or once it is closed."""
        loop = self.loop
        if self._own and loop is not None and not loop.is_closed():
            loop.remove_reader(self.fd)
            loop.remove_writer(self.fd)
        self.__del__()

    def __del__(self) -> None:
        if self._own:
            self._own = False
            os.close(self.fd)


# Worker life:   starting -> idle <-> busy -> ending -> gone
#                     \________\_______\________________/   (crashed, or killed)
# Rule 1: a worker that has a job, or is starting, belongs to the thread of its loop; one that has
#         none, to whoever took it out of the pool's `idle`.
# Rule 2: `job` is set from the moment the call is sent until its outcome is here; whoever clears
#         it finishes the job.
# Rule 3: `dead` is set by the service, once the process has ended; whoever has the worker in hand
#         then buries it. `take_grave` says yes to one of them.
# Rule 4: `_tie` changes, and the socket is read, with `turn`: a loop that has lost the worker to
#         another reads none of its bytes.
class WorkerProcess:
    """One worker process.

    Args:
        pool: gets what becomes of it.
        launched: the process and its descriptors.
    """

    __slots__ = (
        "_blackbox",
        "_decoder",
        "_grave",
        "_out",
        "_sock",
        "_tie",
        "_to_read",
        "calls",
        "dead",
        "freight",
        "idle_since",
        "job",
        "journal",
        "killed",
        "known",
        "log_mark",
        "mailbox",
        "number",
        "offered",
        "pid",
        "pool",
        "process",
        "ready",
        "retiring",
        "start_error",
        "turn",
    )

    def __init__(self, pool: "ProcessPool", launched: Launched) -> None:
        self.pool = pool
        self.process = launched.process
        self.pid = launched.process.pid
        self._sock: socket.socket = launched.sock
        self.journal = launched.journal
        self._blackbox = launched.blackbox
        self._tie: _Tie | None = None
        # That of the loop which serves it; None: none does.
        self.mailbox: Mailbox | None = None
        self.turn = threading.Lock()
        self._grave = [None]
        self.freight = Freight(self, pool.arenas)
        self._decoder = wire.Decoder(self.freight.loans)
        self._to_read = _READ
        # What the socket did not take yet: bytes, and what has descriptors in front of those that
        # they are to be sent with.
        self._out: deque[memoryview | list[Carried]] = deque()
        self.job: ProcessJob | None = None
        self.number = 0
        # Number of a function -> the one that was sent under it last.
        self.known: dict[int, Function] = {}
        # What the levels of our loggers were when it was last told of them; None: it keeps its logs.
        self.log_mark = (-1, -1) if pool.recipe.forward_logs else None
        # Whom it was offered to, and who has not come to take it yet.
        self.offered: ProcessJob | None = None
        self.ready = False
        # SIGKILL was sent, by us.
        self.killed = False
        # It gets no further call.
        self.retiring = False
        # The process has ended.
        self.dead = False
        self.calls = 0
        self.idle_since = 0.0
        # Why it could not start, if it told.
        self.start_error: bytes | None = None

    # -- loops --------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that serves it; None: none, or one that nobody holds any more."""
        tie = self._tie
        return None if tie is None else tie.loop

    def attach(self, loop: asyncio.AbstractEventLoop, mailbox: Mailbox) -> None:
        """From now on this loop serves it. Called in that loop's thread.

        Raises:
            Exception: the loop cannot watch a descriptor.
        """
        self.detach()
        tie = _Tie(loop, mailbox, self._sock.fileno())
        if tie.fd >= 0:
            # In an empty context: a worker must not keep alive what the first caller's variables
            # hold.
            Context().run(loop.add_reader, tie.fd, self._on_readable, tie)
            if self._out:
                loop.add_writer(tie.fd, self._on_writable, tie)
        self._tie, self.mailbox = tie, mailbox
        self.freight.give_back()

    def detach(self) -> None:
        """No loop serves it. Called by whoever has it in hand, in any thread."""
        with self.turn:
            tie, self._tie, self.mailbox = self._tie, None, None
            if tie is None:
                return
            loop = tie.loop
            if loop is None or loop.is_closed():
                return
            if tie.fd < 0:
                return
            if loop is not asyncio._get_running_loop():
                copy = None
                if not self.dead:
                    try:
                        copy = self._sock.dup()
                    except OSError:  # too many open files: it stays behind, and crashes for it
                        self.process.kill()
                        self.pool.deaths.expect_end(self)
                self._sock.detach()
                if copy is not None:
                    self._sock = copy
                tie.let_go()
                return
        loop.remove_reader(tie.fd)
        if self._out:
            loop.remove_writer(tie.fd)

    # -- sending ------------------------------------------------------------------------------

    def run(self, job: "ProcessJob") -> None:
        """Send a call that was claimed."""
        self.job = job
        job.worker = self
        job.sent += 1
        self.number = number = (self.number + 1) & 0xFFFFFFFF
        if self.freight.loans.returned:
            self.freight.give_back()
        if self.log_mark is not None and self.log_mark != (now := log_mark()):
            self.log_mark = now
            self.send(wire.encode(wire.LEVELS, 0, *dump(levels())))
        short = job.short
        if short is not None and self.known.get(job.function.number) is job.function:
            self._send_small(_pack_header(wire.CALL, 0, number, len(short)) + short)
            if job.timeout is not None:
                job.begin_clock()
            return
        pieces = job.pieces(self)
        if job.cargo is not None:
            self.freight.send(wire.CALL, number, pieces, job.cargo)
        elif (length := sum(map(len, pieces))) < _SMALL:
            self._send_small(b"".join((_pack_header(wire.CALL, 0, number, length), *pieces)))
        else:
            self.send(wire.encode(wire.CALL, number, *pieces))
        if job.timeout is not None:
            job.begin_clock()

    def tell(self, kind: int, *pieces: "bytes | memoryview") -> None:
        """Send something that belongs to the running call."""
        self.send(wire.encode(kind, self.number, *pieces))

    def tell_large(self, kind: int, parts: Parts) -> None:
        """As `tell`, for a body that has large buffers or descriptors."""
        self.freight.send(kind, self.number, [], parts)

    def _send_small(self, frame: bytes) -> None:
        """As `send`, for a frame in one piece."""
        if self._out or self.freight.held is not None:
            self.send([frame])
            return
        try:
            sent = self._sock.send(frame)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # it is dying; the service will say so
        if sent != len(frame):
            self.send([memoryview(frame)[sent:]])

    def send(self, pieces: "list[bytes | memoryview]", carried: "Sequence[Carried]" = ()) -> None:
        """Send at once what the socket takes, the rest when it takes more.

        Args:
            pieces: of a frame.
            carried: what has the descriptors that go with the first byte.
        """
        held = self.freight.held
        if held is not None:
            held.append(lambda: self.send(pieces, carried))
            return
        sent = 0
        if not self._out:
            try:
                if not carried:
                    sent = self._sock.sendmsg(pieces[:_MOST_PIECES])
                else:
                    sent = self._sock.sendmsg(pieces[:_MOST_PIECES], ancillary(carried))
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                return  # it is dying; the service will say so
            if sent == sum(map(len, pieces)):
                return
            if sent:
                carried = ()  # they have gone with the first byte
        if carried:
            self._out.append([*carried])
        for piece in pieces:
            if sent < len(piece):
                self._out.append(memoryview(piece)[sent:])
                sent = 0
            else:
                sent -= len(piece)
        tie = self._tie
        assert tie is not None
        assert tie.loop is not None
        tie.loop.add_writer(tie.fd, self._on_writable, tie)

    def _on_writable(self, tie: _Tie) -> None:
        if tie is not self._tie:
            return  # it was taken from this loop, which will hear of it
        out = self._out
        with_it: Ancillary = []
        if isinstance(out[0], list):
            with_it = ancillary(out[0])
        views: list[memoryview] = []
        for each in itertools.islice(out, 1 if with_it else 0, _MOST_PIECES):
            if isinstance(each, list):
                break  # those that follow have a descriptor of their own
            views.append(each)
        try:
            sent = self._sock.sendmsg(views, with_it)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            out.clear()
        else:
            if with_it:
                out.popleft()
            for view in views:
                if sent < len(view):
                    out[0] = view[sent:]
                    break
                sent -= len(view)
                out.popleft()
        if not out and tie.loop is not None:
            tie.loop.remove_writer(tie.fd)

    # -- receiving ----------------------------------------------------------------------------

    def _on_readable(self, tie: _Tie) -> None:
        with self.turn:
            if tie is not self._tie:
                return  # it was taken from this loop, which will hear of it
            try:
                data, arrived = receive(self._sock, self._to_read)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, arrived = b"", []
        if data:
            decoder = self._decoder
            # Nearly always it is the outcome of the call, and nothing else.
            if not arrived and (frame := decoder.single(data)) is not None:
                self._on_frame(*frame)
                return
            frames = decoder.feed(data, arrived)
            if len(data) == self._to_read or decoder.missing:
                self._to_read = max(_READ_MORE, decoder.missing)
            else:
                self._to_read = _READ
            self._take_in(frames)
            return
        # The end of the socket is not yet the end of the process, which the service sees.
        if tie.loop is not None:
            tie.loop.remove_reader(tie.fd)
        self.pool.deaths.fell_silent(self)

    def _take_in(self, frames: "list[tuple[int, int, memoryview | bytes, int]]") -> None:
        rest = iter(frames)
        try:
            for frame in rest:
                self._on_frame(*frame)
        except BaseException:
            # Ctrl-C in `on_report`, say, stops the loop here. It is often run again, to cancel what
            # is left, and must then find the frames behind.
            if (left := [*rest]) and (loop := self.loop) is not None:
                loop.call_soon(self._take_in, left)
            raise

    def _on_frame(
        self, kind: int, number: int, payload: "memoryview | bytes", descriptors: int
    ) -> None:
        job = self.job
        if kind == _RESULT and job is not None and number == self.number:
            self.job = None
            self._ended(job, True, payload)
        elif kind == wire.READY:
            self.ready = True
            self.pool.worker_ready(self)
        elif kind == wire.ERROR and number == 0:
            self.start_error = bytes(payload)
        elif kind == wire.LOG:
            relay(payload, self.loop)
        elif kind == wire.RELEASE:
            self.freight.take_back(payload)
        elif job is None or number != self.number:
            pass  # of a call that has ended
        elif kind == wire.ERROR:
            self.job = None
            # It may be that the function itself could not be unpickled.
            self.known.pop(job.function.number, None)
            self._ended(job, False, payload)
        elif kind == wire.TAKEN:
            job.cargo = None  # it is not sent again
        else:
            job.take_frame(kind, payload)

    def _ended(self, job: "ProcessJob", good: bool, payload: "memoryview | bytes") -> None:
        job.take_reply(good, payload)
        self.calls += 1
        job.worker = None
        self.pool.call_ended(self, job)

    def descriptors(self) -> tuple[int, ...]:
        """What this process holds of it."""
        return self._sock.fileno(), self.process.pidfd, self._blackbox

    def memory(self) -> int:
        """Bytes of memory that it has in use; 0 where the system does not tell."""
        try:
            text = Path(f"/proc/{self.pid}/statm").read_text()
        except OSError:
            return 0
        return int(text.split()[1]) * mmap.PAGESIZE

    # -- the end ------------------------------------------------------------------------------

    def kill(self) -> None:
        """End it now. Any thread may call it."""
        self.killed = True
        self.process.kill()
        self.pool.deaths.expect_end(self)

    def say_goodbye(self) -> None:
        """Let it end by itself, once idle; in the thread of its loop."""
        self.send(wire.encode(wire.BYE, 0))
        try:
            # Not `close`: a process that was forked from this one may have a copy.
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has just died

    def take_grave(self) -> bool:
        """True for the one who buries it."""
        try:
            self._grave.pop()
        except IndexError:
            return False
        return True

    def has_begun(self, number: int) -> bool:
        """Whether it had begun with this call when it died, as far as can be told."""
        if self.journal is None:
            return True
        (started,) = layout.STARTED.unpack_from(self.journal, layout.JOURNAL_SIZE)
        return bool(started == number)

    def read_out(self) -> "ProcessJob | None":
        """Once dead: take in what it sent before; the job that it had not ended."""
        try:
            while True:
                data, arrived = receive(self._sock, _READ_MORE)
                if not data:
                    break
                for frame in self._decoder.feed(data, arrived):
                    self._on_frame(*frame)
        except OSError:
            pass  # all is read
        job, self.job = self.job, None
        return job

    def clear_away(self) -> str:
        """Once dead: close what is left; its last words."""
        self.detach()
        self._sock.close()
        self._out.clear()
        self.freight.end()
        if self.journal is not None:
            self.journal.close()
            self.journal = None
        return self._last_words()

    def _last_words(self) -> str:
        """The traceback of a fatal error, if there was one."""
        fd, self._blackbox = self._blackbox, -1
        if fd < 0:
            return ""
        try:
            size = os.fstat(fd).st_size
            return os.pread(fd, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")
        finally:
            os.close(fd)

    def start_error_text(self) -> str:
        """The traceback of why it could not start."""
        assert self.start_error is not None
        _, text, _ = loads(self.start_error)
        return str(text)

    def __repr__(self) -> str:
        state = "busy" if self.job else "idle" if self.ready else "starting"
        return f"<worker process {self.pid} {state}>"
