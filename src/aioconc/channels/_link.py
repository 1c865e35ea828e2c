"""A socket with frames, which tasks of any loop and threads use at once.

It guarantees that frames go out whole and in order, that whoever waits also reads and writes, so
that two ends which both send get out of each other's way, and that the end of the stream reaches
all who wait. It never blocks a loop and starts no thread. What frames mean, and who is granted
what, is left to those who derive from it.
"""

# Who moves the bytes:
#   - each loop that the link is used in, when it finds the socket ready (`Tie`);
#   - one of the threads that wait, by polling (the leader); when it leaves, another one leads;
#   - whoever sends, at once, if nothing is in front of it.
# All of them do the same under the mutex, so it does not matter who comes first.
#
# Rule 1: `_leader` is the waiter that polls, or None; a thread polls without the mutex.
# Rule 2: a thread waits iff it leads, or somebody else leads. Who leaves wakes one of `_parked` if
#         nobody leads: one that led, and one that was woken to lead and has what it waited for.
# Rule 3: the socket is closed once `_closed` is set and nobody leads.

import asyncio
import errno
import os
import select
import socket
import weakref
from collections import deque
from collections.abc import Sequence
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aioconc._bridge._mailbox import mailbox_of
from aioconc._wire import _frames as wire
from aioconc._wire._arenas import Arenas
from aioconc._wire._body import Laden
from aioconc._wire._channel import Reader
from aioconc._wire._descriptors import CLOEXEC, SPACE, Descriptor, ancillary, arrived_with
from aioconc._wire._loans import Loans, numbers_of
from aioconc.channels._prompt import goes_on
from aioconc.channels._tie import Tie
from aioconc.channels._waker import Waker
from aioconc.sync._wait_queue import (
    ThreadWaiter,
    Waitable,
    Waiter,
    WaitQueue,
    running_loop,
    seconds_to_park,
)

if TYPE_CHECKING:
    from aioconc._wire._descriptors import Carried

Frame = tuple[int, int, memoryview | bytes, int]
Pieces = list[bytes | memoryview]

# Read at a time: the least, which is enough for a call and its answer, and the most.
_READ: Final = 16_384
_MOST_READ: Final = 262_144

# Bytes that are joined and given to the kernel in one call.
_MOST_SENT: Final = 262_144

# Bytes sent before others have a turn, however fast the other end reads.
_MOST_FLUSHED: Final = 1_048_576

# Linux: a user's processes have as many descriptors on their way as one of them may have open.
_TOO_MANY: Final = getattr(errno, "ETOOMANYREFS", -1)

# What `poll` takes, in milliseconds.
_LONGEST: Final = 0x7FFF_FFFF

# Leads in place of a waiter: a thread that polls while nobody else uses the link. It is in no queue;
# who waits for the same thing puts it there first.
LONE: Final[Any] = object()

# All links of this process. A forked child closes its copies of their descriptors, which would
# otherwise keep the other end from hearing of the end of this one.
_links: "weakref.WeakSet[Link]" = weakref.WeakSet()


class Parked(ThreadWaiter):
    """A thread that waits, and may have to move the bytes meanwhile."""

    __slots__ = ("link",)

    def __init__(self, queue: WaitQueue, link: "Link") -> None:
        super().__init__(queue)
        self.link = link

    def wake(self) -> bool:
        # It may be either way, or change just now: whoever leads has looked at `granted` before,
        # so one of the two reaches it.
        try:
            self.gate.release()
        except RuntimeError:
            pass  # it was woken before
        link = self.link
        with link._mutex:
            if link._leader is self and link._waker is not None:
                link._waker.wake()
        return True


class Link(Waitable):
    """One end of a stream of frames. Abstract: `_arrived`, `_settle`.

    Args:
        sock: connected; it belongs to the link from now on.
    """

    __slots__ = (
        "_arenas",
        "_closed",
        "_cut",
        "_decoder",
        "_finished",
        "_flushed",
        "_leader",
        "_lent",
        "_loans",
        "_lone_reads",
        "_notified",
        "_out",
        "_parked",
        "_poller",
        "_read_size",
        "_sock",
        "_soon",
        "_ties",
        "_waker",
    )

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        sock.setblocking(False)
        self._sock = sock
        self._arenas = Arenas()
        # Leases of arenas that the other end reads.
        self._lent: set[int] = set()
        self._notified = False
        self._loans = Loans(self._give_back_soon)
        self._decoder = Reader(self._loans)
        # What the socket did not take yet; in front of a piece, what is to be sent with it.
        self._out: deque[bytes | memoryview | list[Carried]] = deque()
        self._read_size = _READ
        # The stream has ended: nothing more comes.
        self._finished = False
        # The other end reads no more, or this one was closed: nothing more goes out.
        self._cut = False
        self._closed = False
        self._ties: dict[asyncio.AbstractEventLoop, Tie] = {}
        # The loop that will send what is there at the end of its turn.
        self._soon: asyncio.AbstractEventLoop | None = None
        self._leader: Any = None
        self._waker: Waker | None = None
        # That of `LONE`, and what it gives when nothing but data has come.
        self._poller: Any = None
        self._lone_reads: list[tuple[int, int]] = []
        self._parked: dict[Parked, None] = {}
        # Who waits until all is sent.
        self._flushed = WaitQueue()
        _links.add(self)

    # ------------------------------------------------------------------ to be overridden

    def _arrived(self, frames: Sequence[Frame]) -> None:
        """With the mutex: take in frames."""
        raise NotImplementedError

    def _settle(self) -> Sequence[Waiter]:
        """With the mutex: grant what can be granted; called after anything has changed."""
        if self._flushed and (not self._out or self._cut):
            return self._flushed.grant_all()
        return ()

    # ------------------------------------------------------------------ sending

    def _queue(self, pieces: Pieces, laden: Laden | None = None) -> None:
        """With the mutex: the frame goes out after all others; `_push` sends it."""
        if self._cut:
            return
        if laden is not None:
            if laden.lease is not None:
                self._lent.add(laden.lease.number)
            self._out.append(laden.carried)
        if len(pieces) == 1 or sum(map(len, pieces)) > _MOST_SENT:
            self._out.extend(pieces)
        else:
            self._out.append(b"".join(pieces))

    def _push(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """With the mutex: send what was queued.

        The first frame after something has arrived, or after others have gone, goes at once; those
        that follow go together at the end of the loop's turn.

        Args:
            loop: the one that runs in this thread; None: none does.
        """
        if loop is None:
            self._flush()
            return
        if self._soon is loop:
            return
        # Also if all can be sent at once: the loop then takes in what arrives, so that the other
        # end is not held up by one that only sends, or does something else for a while.
        try:
            tie = self._serve(loop)
        except OSError:  # too many open files; what is not sent now goes with the next call
            self._flush()
            return
        if tie.has_sent:
            # Something may have gone in this turn already.
            self._soon = loop
            loop.call_soon(self._end_of_turn, loop)
            return
        tie.has_sent = True
        self._flush()
        if self._out:
            tie.write(True)

    def _end_of_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._mutex:
            if self._soon is loop:
                self._soon = None
            if (tie := self._ties.get(loop)) is not None:
                tie.has_sent = False
            if not self._out or self._closed:
                return
            self._flush()
            if self._out:
                self._serve(loop).write(True)
            woken = self._settle()
        self._wake(woken)

    def _flush(self) -> None:
        """With the mutex: send as much as the socket takes, up to a bound."""
        if self._loans and not self._cut:
            self._out.append(b"".join(wire.encode(wire.RELEASE, 0, self._loans.take_returned())))
        out = self._out
        sock = self._sock
        total = 0
        try:
            while out and total < _MOST_FLUSHED:
                first = out[0]
                if type(first) is list:
                    piece: Any = out[1]
                    sent = sock.sendmsg([piece], ancillary(first))
                    out.popleft()  # they have gone with the first byte
                    out.popleft()
                elif len(out) == 1 or len(first) >= _READ:
                    piece = out.popleft()
                    try:
                        sent = sock.send(piece)
                    except BlockingIOError:
                        out.appendleft(piece)
                        return
                else:
                    piece = self._gather()
                    try:
                        sent = sock.send(piece)
                    except BlockingIOError:
                        out.appendleft(piece)
                        return
                total += sent
                if sent < len(piece):
                    out.appendleft(memoryview(piece)[sent:])
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno == _TOO_MANY:  # on their way: until others have received theirs
                return
            # The other end is gone. What it sent before is still to be read, and says why.
            self._cut_off()
            while not self._finished and self._read():
                pass
            self._stir()

    def _gather(self) -> bytes:
        """Take small pieces from the front of `_out`, joined."""
        out = self._out
        pieces: list[Any] = []
        size = 0
        while out and size < _MOST_SENT:
            each = out[0]
            if type(each) is list or len(each) >= _READ:
                break
            size += len(each)
            pieces.append(out.popleft())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _cut_off(self) -> None:
        """With the mutex: nothing more goes out."""
        self._cut = True
        self._out.clear()
        self._arenas.close()
        self._arenas.forget(self._lent)
        self._lent.clear()

    # ------------------------------------------------------------------ receiving

    def _read(self) -> bool:
        """With the mutex: take in what has arrived, up to a bound; False: nothing has."""
        decoder = self._decoder
        size = self._read_size
        if decoder.missing > size:
            size = min(decoder.missing, _MOST_READ)
        try:
            data, control, told, _ = self._sock.recvmsg(size, SPACE, CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # ECONNRESET: it was closed, and did not read all that was sent to it
            data, control, told = b"", [], 0
        if not data:
            self._finished = True
            if not self._cut:
                self._cut_off()
            self._loans.close()
            return False
        if len(data) == size:
            self._read_size = min(size * 4, _MOST_READ)
        elif len(data) < _READ:
            self._read_size = _READ
        if control or told != CLOEXEC:
            self._take_in(data, arrived_with(control, told))
        else:
            self._take_in(data)
        return True

    def _take_in(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> None:
        """With the mutex: take in what was read."""
        frames: Any = self._decoder.feed(data, descriptors)
        if frames:
            if self._lent:
                frames = self._without_returned(frames)
            self._arrived(frames)

    def _without_returned(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Take back arenas that the other end reads no more; the other frames."""
        others: list[Frame] = []
        for each in frames:
            if each[0] == wire.RELEASE:
                numbers = numbers_of(each[2])
                self._lent.difference_update(numbers)
                self._arenas.give_back(numbers)
            else:
                others.append(each)
        return others

    def _give_back_soon(self) -> None:
        """Called by finalizers, in any thread and at any line: without the mutex."""
        if self._notified:
            return
        # Without a loop it goes with whatever is sent next.
        for loop in (*self._ties,):
            self._notified = True
            if mailbox_of(loop).post(loop, self._give_back):
                return
        self._notified = False

    def _give_back(self) -> None:
        self._notified = False
        with self._mutex:
            if not self._closed and not self._cut:
                self._push(running_loop())

    # ------------------------------------------------------------------ event loops

    def _serve(self, loop: asyncio.AbstractEventLoop) -> Tie:
        """With the mutex: from now on this loop, which runs in this thread, moves the bytes too."""
        tie = self._ties.get(loop)
        if tie is None:
            for each in [each for each in self._ties if each.is_closed()]:
                self._ties.pop(each).close()
            tie = Tie(loop, self._sock.fileno(), self._on_readable, self._on_writable)
            self._ties[loop] = tie
            # The loop that was told may have been closed before it heard.
            self._notified = False
            self._stir()
            if self._finished:
                tie.stop_reading()
        return tie

    def _serve_waiter(self, loop: asyncio.AbstractEventLoop) -> None:
        """With the mutex: as `_serve`, for a task that waits: what others left is sent, too."""
        tie = self._serve(loop)
        if self._out and self._soon is not loop:
            tie.write(True)

    def _on_readable(self, tie: Tie) -> None:
        with self._mutex:
            if self._closed or tie.fd < 0:
                return
            is_answer = False
            if not self._finished and self._read():
                is_answer, tie.has_sent = tie.has_sent, False
                if tie.is_told_once:
                    tie.loop.call_soon(self._on_readable, tie)
            if self._finished:
                tie.stop_reading()
            woken = self._settle()
        if woken:
            # An answer is waited for. What comes unasked goes through a turn of the loop: more of it
            # arrives meanwhile, and costs both ends less when it is read together.
            if not (is_answer and goes_on(woken, tie.loop)):
                self._wake(woken)

    def _on_writable(self, tie: Tie) -> None:
        with self._mutex:
            if self._closed or tie.fd < 0:
                return
            self._flush()
            if not self._out:
                tie.write(False)
            woken = self._settle()
        self._wake(woken)

    # ------------------------------------------------------------------ threads

    def _park(self, waiter: ThreadWaiter, timeout: float | None) -> bool:
        """Block the thread until granted, and move bytes meanwhile; False: the time was up."""
        assert isinstance(waiter, Parked)
        end = None if timeout is None else monotonic() + timeout
        try:
            while True:
                with self._mutex:
                    if waiter.granted:
                        return True
                    leads = self._leader is None or self._leader is waiter
                    if leads:
                        self._leader = waiter
                        if self._waker is None:
                            self._waker = Waker()
                    else:
                        self._parked[waiter] = None
                    sends = bool(self._out)
                left = None if end is None else end - monotonic()
                if left is not None and left <= 0 and (timeout or not leads):
                    break
                if leads:
                    self._lead(sends, left)
                    if left is not None and left <= 0:
                        break
                else:
                    waiter.gate.acquire(timeout=seconds_to_park(left))
        except BaseException:  # KeyboardInterrupt
            self._give_up(waiter)
            raise
        finally:
            self._leave(waiter)
        with self._mutex:
            # It may have been granted since.
            granted: bool = getattr(waiter, "granted")  # noqa: B009  # mypy thinks it has not
            woken = () if granted else self._take_back(waiter)
        self._wake(woken)
        return granted

    def _lead(self, sends: bool, left: float | None) -> None:
        """Poll once, and move what can be moved."""
        waker = self._waker
        assert waker is not None
        if self._finished:
            # Who found that the stream has ended has told those that wait, but not who came just
            # then. Nothing more comes that would have it told.
            with self._mutex:
                woken = self._settle()
            self._wake(woken)
        poll = select.poll()
        mask = 0 if self._finished else select.POLLIN
        if sends:
            mask |= select.POLLOUT
        if mask:
            poll.register(self._sock, mask)
        poll.register(waker.fd, select.POLLIN)
        # Rounded up, so that the time is over when the poll says so.
        ready = poll.poll(None if left is None else min(ceil(max(0, left) * 1000), _LONGEST))
        with self._mutex:
            for fd, events in ready:
                if fd == waker.fd:
                    waker.clear()
                elif not self._closed:
                    if events & select.POLLOUT:
                        self._flush()
                    if events & ~select.POLLOUT and not self._finished:
                        self._read()
            woken = self._settle()
        self._wake(woken)

    def _leave(self, waiter: Any) -> None:
        """The thread waits no more; if nobody leads now, another one does."""
        with self._mutex:
            self._parked.pop(waiter, None)
            following = self._follow(waiter)
        if following is not None:
            following.wake()

    def _follow(self, waiter: Any) -> Parked | None:
        """With the mutex: the waiter leads no more. Who is to be woken to lead."""
        if self._leader is waiter:
            self._leader = None
            if self._closed:
                self._close_socket()
        if self._leader is not None:
            return None
        following = next(iter(self._parked), None)
        if following is not None:
            del self._parked[following]
        return following

    def _poller_of_lone(self) -> Any:
        """With the mutex: what `LONE` polls. It is told of the socket alone in `_lone_reads`."""
        if self._poller is None:
            if self._waker is None:
                self._waker = Waker()
            poller = select.poll()
            poller.register(self._sock, select.POLLIN)
            poller.register(self._waker.fd, select.POLLIN)
            self._lone_reads = [(self._sock.fileno(), select.POLLIN)]
            self._poller = poller
        return self._poller

    def _notify_leader(self) -> None:
        """With the mutex: there is something to send, of which the leader may not know."""
        if self._out:
            self._stir()

    def _stir(self) -> None:
        """With the mutex: whoever leads is to look again."""
        if self._leader is not None and self._waker is not None:
            self._waker.wake()

    # ------------------------------------------------------------------ the end

    def _close(self) -> Sequence[Waiter]:
        """With the mutex: close the socket, and have all who wait hear of it."""
        if self._closed:
            return ()
        self._closed = True
        self._cut_off()
        self._loans.close()
        self._finished = True
        self._stir()
        try:
            # Now, even if copies of the descriptor are closed a little later.
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        woken = self._settle()
        self._let_go()
        if self._leader is None:
            self._close_socket()
        return woken

    def _let_go(self) -> None:
        """With the mutex: no loop moves bytes any more."""
        ties, self._ties = self._ties, {}
        for each in ties.values():
            each.let_go()

    def _close_socket(self) -> None:
        self._sock.close()
        if self._waker is not None:
            self._waker.close()


def _close_all() -> None:
    """In a forked child."""
    for link in tuple(_links):
        for tie in link._ties.values():
            tie.close()
        link._closed = True
        if link._waker is not None:
            link._waker.close()
        if (fd := link._sock.detach()) >= 0:
            os.close(fd)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
