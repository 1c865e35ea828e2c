"""One end of a channel: who may send, who may take what has arrived, and how it ends.

It guarantees that items and credits are conserved, whoever is cancelled when, and that those who
wait are served in the order in which they came. All decisions are made here, in plain methods under
the mutex; `Channel` awaits and `SyncChannel` blocks in between.
"""

# As in `sync.Queue`: an item stays in the machine until the one it was granted to goes on and takes
# it (`_reserved` counts those), and a credit belongs to the one it was granted to until he goes on
# and sends (`_places`). So one who is cancelled meanwhile has taken nothing and sent nothing.

import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from aioconc._bridge._errand import run_errand
from aioconc._wire import _channel as wire
from aioconc._wire._body import Parts, put_together
from aioconc._wire._channel import Machine
from aioconc._wire._descriptors import Descriptor
from aioconc.channels._errors import BrokenChannel, ChannelClosed, EndOfStream, PeerDied
from aioconc.channels._link import LONE, Frame, Link, Parked
from aioconc.channels._packing import ENOUGH_BYTES, Raw, laden_among, own, unpack_many
from aioconc.errors import SerializationError
from aioconc.sync._wait_queue import Waiter, WaitQueue, running_loop

# Told to a waiter that gets nothing: the direction has ended.
REFUSED: Final = "refused"

# Most items in one frame, or taken by one `receive_many`: at about a microsecond each a loop is
# held for less than a millisecond.
MOST_MANY: Final = 512


class End(Link):
    """One end of a channel.

    Args:
        sock: connected to the other end.
        machine: what was said so far.
        max_frame: bytes that an item may have.
    """

    __slots__ = (
        "_places",
        "_receivers",
        "_reserved",
        "_senders",
        "exitcode",
        "machine",
        "max_frame",
        "moved",
        "streak",
    )

    def __init__(self, sock: socket.socket, machine: Machine, max_frame: int) -> None:
        super().__init__(sock)
        self.machine = machine
        self.max_frame = max_frame
        self._receivers = WaitQueue()
        self._senders = WaitQueue()
        self._reserved = 0
        self._places = 0
        # What went along to another process, to which this end belongs now.
        self.moved: tuple[Any, ...] | None = None
        # Of the process that died, once it is known.
        self.exitcode: int | None = None
        # Items since a loop last turned because of this end.
        self.streak = 0

    # ------------------------------------------------------------------ those who wait

    def _take_in(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> None:
        machine, decoder = self.machine, self._decoder
        if descriptors or decoder._data or decoder._arrived:  # a frame has begun
            super()._take_in(data, descriptors)
        elif (end := machine.feed_bytes(data)) < len(data):
            super()._take_in(data[end:])
        if machine.stopped:
            machine.forget()

    def _arrived(self, frames: Sequence[Frame]) -> None:
        self.machine.feed(frames)

    def _settle(self) -> Sequence[Waiter]:
        woken: list[Waiter] = []
        machine = self.machine
        if receivers := self._receivers:
            if machine.stopped:
                woken += receivers.grant_all(REFUSED)
            while receivers and machine.ready > self._reserved:
                self._reserved += 1
                woken.append(receivers.grant())
            # An item that is reserved comes back if its receiver is cancelled.
            if receivers and not self._reserved and (machine.peer_ended or self._finished):
                woken += receivers.grant_all(REFUSED)
        if senders := self._senders:
            if self._sends_nothing():
                woken += senders.grant_all(REFUSED)
            while senders and machine.credits > self._places:
                self._places += 1
                woken.append(senders.grant())
        if self._flushed:
            woken += super()._settle()
        return woken

    def _undo(self, waiter: Waiter) -> Sequence[Waiter]:
        if waiter.value is REFUSED:
            return ()
        if waiter.queue is self._receivers:
            if not self.machine.stopped:
                self._reserved -= 1
        elif waiter.queue is self._senders:
            self._places -= 1
        return self._settle()

    def _sends_nothing(self) -> bool:
        machine = self.machine
        return machine.ended or machine.peer_stopped or self._cut

    # ------------------------------------------------------------------ receiving

    def take_now(self, most: int, *, only_bytes: bool = False) -> list[Raw] | None:
        """Items that have arrived; None: none have that nobody else waits for."""
        with self._mutex:
            if self.machine.ready <= self._reserved:
                return None
            return self._take(most, only_bytes)

    def take_one(self) -> Raw | None:
        """`take_now` of one item, written out: what most programs do most of the time."""
        machine = self.machine
        with self._mutex:  # and no `acquire`, since Ctrl+C may come at any line
            if machine.ready <= self._reserved:
                return None
            raw = machine.take()
            if machine.taken >= machine.half:
                self._tell_taken()
            return raw

    def take_or_queue(
        self, waiter: Waiter, most: int, *, only_bytes: bool = False
    ) -> list[Raw] | str | None:
        """Items that have arrived; None: the waiter was queued for one; or `REFUSED`."""
        loop = running_loop()
        woken: Sequence[Waiter] = ()
        taken: list[Raw] | str | None = None
        with self._mutex:
            machine = self.machine
            if loop is not None and not self._closed:
                self._serve_waiter(loop)
            if (
                machine.ready <= self._reserved
                and not self._receivers
                and not self._finished
                and self._leader is None
            ):
                # What is there already is had without a turn of the loop. Often it is: whoever
                # was sent something has answered meanwhile.
                self._read()
                if self._senders or self._cut:
                    woken = self._settle()
            if machine.ready > self._reserved:
                taken = self._take(most, only_bytes)
            elif machine.stopped or (not self._reserved and (machine.peer_ended or self._finished)):
                taken = REFUSED
            else:
                if self._leader is LONE:
                    self._put_lone_first()
                self._receivers.add(waiter)
        if woken:
            self._wake(woken)
        return taken

    def take_leading(self) -> Raw | None:
        """In a thread: wait for an item without a waiter, where nobody else uses this end.

        That is what a worker does most of the time. None: somebody does, or there is more to it
        than an item; it is to be done with a waiter then.
        """
        raw: Raw | None = None
        woken: Sequence[Waiter] = ()
        following: Parked | None = None
        leads = False
        try:
            with self._mutex:
                if (
                    self._leader is not None
                    or self._ties
                    or self._receivers
                    or self._senders
                    or self._flushed
                    or self._out
                    or self._finished
                    or self.machine.peer_ended
                    or self.machine.stopped
                ):
                    return None
                poller = self._poller_of_lone()
                self._leader = LONE
                leads = True
            ready = poller.poll()
            with self._mutex:
                waiter = self._leader
                if waiter is LONE:
                    if ready == self._lone_reads and not self._closed:
                        self._read()
                        machine = self.machine
                        if self._senders or self._flushed:
                            woken = self._settle()
                        if machine.ready > self._reserved:
                            raw = machine.take()
                            if machine.taken >= machine.half:
                                self._tell_taken()
                    elif self._waker is not None and not self._closed:
                        self._waker.clear()
                    if self._parked or self._closed:
                        following = self._follow(LONE)
                    else:
                        self._leader = None
                leads = False
        finally:
            if leads:  # KeyboardInterrupt
                self._stop_leading()
        if following is not None:
            following.wake()
        if woken:
            self._wake(woken)
        if waiter is not LONE:
            self._park(waiter, None)
            taken = self.take_granted(waiter, 1)
            if not isinstance(taken, str):
                (raw,) = taken
        return raw

    def _put_lone_first(self) -> None:
        """With the mutex: the thread that waits without a waiter gets one, since others come."""
        self._leader = waiter = Parked(self._receivers, self)
        self._receivers.add(waiter)

    def _stop_leading(self) -> None:
        """`take_leading` was interrupted while it led."""
        with self._mutex:
            waiter = self._leader
            following = self._follow(waiter)
            woken = () if waiter is LONE else self._take_back(waiter)
        if following is not None:
            following.wake()
        self._wake(woken)

    def take_granted(
        self, waiter: Waiter, most: int, *, only_bytes: bool = False
    ) -> list[Raw] | str:
        """The item that was granted to the waiter, with others that have arrived."""
        with self._mutex:
            machine = self.machine
            if waiter.value is REFUSED or machine.stopped:
                return REFUSED
            self._reserved -= 1
            taken: list[Raw] | None = None
            if not only_bytes or machine.next_kind() in _BYTES:
                taken = self._take(most, only_bytes)
            # If it was left, it is for the next one; if it was the last one, the others hear so.
            woken = self._settle() if self._receivers or self._senders else ()
        if woken:
            self._wake(woken)
        if taken is None:
            raise _not_bytes()
        return taken

    def _take(self, most: int, only_bytes: bool) -> list[Raw]:
        """With the mutex: take items, and tell the peer if it is time to."""
        machine = self.machine
        if only_bytes and machine.next_kind() not in _BYTES:
            raise _not_bytes()
        if most == 1:
            taken = [machine.take()]
        else:
            free = min(machine.ready - self._reserved, most, MOST_MANY)
            taken = machine.take_many(free, ENOUGH_BYTES)
        if machine.taken >= machine.half:
            self._tell_taken()
        return taken

    def _tell_taken(self) -> None:
        """With the mutex: let the peer send more."""
        if (frame := self.machine.credit()) is not None:
            self._queue(frame)
            self._push(running_loop())
            self._notify_leader()

    def unpack_many(self, raws: list[Raw]) -> list[Any]:
        """The items; from one on that cannot be unpickled, they are left for the next call."""
        try:
            items = unpack_many(raws)
        except SerializationError:  # the first one
            self.put_back(raws[1:])
            raise
        except BaseException:  # KeyboardInterrupt
            self.put_back(raws)
            raise
        if len(items) < len(raws):
            self.put_back(raws[len(items) :])
        return items

    def put_back(self, raws: Sequence[Raw]) -> None:
        """Those who took these items do not want them, or not yet: they come first again."""
        with self._mutex:
            if self.machine.stopped:
                return
            for each in reversed(raws):
                self.machine.put_back(each)
            woken = self._settle()
        self._wake(woken)

    # ------------------------------------------------------------------ sending

    def send_now(self, data: bytes) -> bool:
        """Send a plain item if it may be sent; False: nothing was done."""
        with self._mutex:
            machine, cut = self.machine, self._cut
            # The last three are `_sends_nothing`.
            if machine.credits <= self._places or machine.peer_stopped or machine.ended or cut:
                return False
            frame: bytes | memoryview = machine.pickle(data)
            loop = running_loop()
            tie = None if loop is None else self._ties.get(loop)
            if (
                not self._out
                and not self._loans.returned
                and (loop is None or (tie and not tie.has_sent and self._soon is not loop))
            ):
                # `_push` and `_flush`, written out for what is done most of the time.
                try:
                    sent = self._sock.send(frame)
                    if sent == len(frame):
                        if tie is not None:
                            tie.has_sent = True
                        return True
                    frame = memoryview(frame)[sent:]
                except OSError:
                    pass  # full, or the other end is gone: `_flush` finds out
            self._out.append(frame)
            self._push(loop)
            if not self._cut:
                if self._leader is not None:
                    self._notify_leader()
                return True
            woken = self._settle()
        self._wake(woken)
        return True

    def place_or_queue(self, waiter: Waiter, most: int) -> int | str:
        """Reserve credits, `most` or fewer; 0: the waiter was queued for one; or `REFUSED`."""
        loop = running_loop()
        with self._mutex:
            if self._sends_nothing():
                return REFUSED
            if (free := self.machine.credits - self._places) > 0:
                places = min(free, most)
                self._places += places
                return places
            if loop is not None:
                self._serve_waiter(loop)
            self._senders.add(waiter)
            return 0

    def more_places(self, waiter: Waiter, most: int) -> int | str:
        """The credit that was granted to the waiter, and more that are free; or `REFUSED`."""
        with self._mutex:
            if waiter.value is REFUSED:
                return REFUSED
            more = min(self.machine.credits - self._places, most - 1)
            self._places += more
            return more + 1

    def leave_places(self, places: int) -> None:
        """Reserved credits are not used."""
        with self._mutex:
            self._places -= places
            woken = self._settle()
        self._wake(woken)

    def send_many(self, pickles: "list[bytes]", places: int) -> bool:
        """Send plain items, with so many reserved credits; False: none may be sent any more."""
        with self._mutex:
            self._places -= places
            if refused := self._sends_nothing():
                pass
            elif len(pickles) == 1:
                self._out.append(self.machine.pickle(pickles[0]))
            elif pickles:
                self._queue(self.machine.many(pickles))
            self._push(running_loop())
            self._notify_leader()
            woken = self._settle()
        self._wake(woken)
        return not refused

    def send_bytes(self, data: bytes) -> bool:
        """As `send_many`, for what `send_bytes` was given."""
        with self._mutex:
            self._places -= 1
            if not (refused := self._sends_nothing()):
                self._queue(self.machine.item(wire.BYTES, (data,)))
                self._push(running_loop())
                self._notify_leader()
            woken = self._settle()
        self._wake(woken)
        return not refused

    def send_large(self, kind: int, parts: Parts, lease: Any) -> bool:
        """As `send_many`, for one item whose buffers are in an arena, or are sent inline."""
        pieces = put_together(parts, lease)
        if lease is None:
            laden = laden_among(pieces)
            pieces = [pieces[0], *own(pieces[1:])]
        else:
            laden = laden_among(pieces)
        with self._mutex:
            self._places -= 1
            if not (refused := self._sends_nothing()):
                self._queue(self.machine.item(kind, pieces, laden), laden)
                self._push(running_loop())
                self._notify_leader()
            woken = self._settle()
        self._wake(woken)
        if refused and lease is not None:
            self._arenas.give_back([lease.number])
        return not refused

    def flush_or_queue(self, waiter: Waiter) -> bool:
        """Whether all is sent; else the waiter was queued for that."""
        loop = running_loop()
        with self._mutex:
            if not self._out or self._cut:
                return True
            if loop is not None:
                self._serve_waiter(loop)
            self._flushed.add(waiter)
            return False

    # ------------------------------------------------------------------ the end

    def end(self) -> None:
        """No more items will be sent."""
        with self._mutex:
            if self.machine.ended or self._cut:
                self.machine.ended = True
                return
            self._queue(self.machine.end())
            self._push(running_loop())
            self._notify_leader()
            woken = self._settle()
        self._wake(woken)

    def begin_close(self) -> bool:
        """Nothing more is sent or taken; False: it was closed before."""
        with self._mutex:
            if self.machine.stopped or self._closed:
                return False
            if not self.machine.ended:
                self._queue(self.machine.end())
            self._queue(self.machine.stop())
            self.machine.forget()
            self._reserved = 0
            self._stir()
            if not self._cut:
                self._push(running_loop())
                self._notify_leader()
            woken = self._settle()
        self._wake(woken)
        return True

    def finish_close(self) -> bool:
        """Close the socket; whether all was sent, or nobody is there to take it."""
        with self._mutex:
            done = not self._out or self._cut
            woken = self._close()
        self._wake(woken)
        return done

    def abandon(self) -> None:
        """Close the socket and say nothing: the other end sees a death."""
        with self._mutex:
            woken = self._close()
        self._wake(woken)

    def drop(self) -> None:
        """As `abandon`, for a finalizer: it runs at any line, also at one that has the mutex."""
        # A lock that is free now is not held by this thread, so it can be waited for.
        is_busy = self._arenas.is_busy or self._loans.mappings.is_busy
        if is_busy or not self._mutex.acquire(blocking=False):
            run_errand(self.abandon)
            return
        try:
            woken = self._close()
        finally:
            self._mutex.release()
        self._wake(woken)

    # ------------------------------------------------------------------ why not

    @property
    def closed(self) -> bool:
        """Whether this end was closed, or has moved."""
        return self.machine.stopped or self._closed

    @property
    def is_dead(self) -> bool:
        """Whether the stream has ended without having been closed."""
        machine = self.machine
        return (
            self._finished and not self.closed and not (machine.peer_ended and machine.peer_stopped)
        )

    def why_no_item(self) -> Exception:
        """What a receive raises that gets nothing."""
        if self.closed:
            return self._is_closed()
        if self.machine.peer_ended:
            return EndOfStream("the other end sends no more items, and all were received")
        return self._death()

    def why_not_sent(self) -> Exception:
        """What a send raises that could not send."""
        machine = self.machine
        if self.closed:
            return self._is_closed()
        if machine.ended:
            return ChannelClosed("close_send() was called on this end: it sends no more items")
        if machine.peer_stopped:
            undelivered = machine.undelivered
            return BrokenChannel(
                "the other end of the channel was closed and takes no more items; of those sent, "
                f"{undelivered} may not have been received",
                undelivered=undelivered,
            )
        return self._death()

    def why_not_all_sent(self, timeout: float | None) -> BrokenChannel:
        """What a close raises that had no time to send all."""
        undelivered = self.machine.undelivered
        return BrokenChannel(
            "the channel was closed before all was sent, since the other end made no room in "
            f"{timeout} s; of the items sent, {undelivered} may not have been received",
            undelivered=undelivered,
        )

    def _is_closed(self) -> ChannelClosed:
        if self.moved is not None:
            return ChannelClosed(
                "this end of the channel has moved to another process; use it there"
            )
        return ChannelClosed("this end of the channel is closed")

    def _death(self) -> PeerDied:
        pid = self.machine.peer or None
        undelivered = self.machine.undelivered
        if pid is None:
            who = "the process that the other end was sent to did not take it"
        elif pid == os.getpid():
            who = "the other end, in this process, was dropped without being closed"
        else:
            status = "" if self.exitcode is None else f" (exit status {self.exitcode})"
            who = f"the process of the other end, {pid}, has died{status}, or dropped its end"
        half = ", in the middle of an item" if self._decoder._data else ""
        return PeerDied(
            f"{who}{half}; it had not closed the channel. Of the items sent to it, {undelivered} "
            "may not have been received",
            pid=pid,
            exitcode=self.exitcode,
            undelivered=undelivered,
        )


_BYTES = (wire.BYTES, wire.LARGE_BYTES)


def _not_bytes() -> TypeError:
    return TypeError(
        "the next item was sent with send(), not with send_bytes(); take it with receive()"
    )
