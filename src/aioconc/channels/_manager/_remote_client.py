"""The client of every process but the manager's own: the broker is spoken to over a socket.

It guarantees what every client does, and that a thread which waits alone, as in most workers, has
its answer with one `send`, one `poll` and one `recv`. What is asked is left to the shared objects.
"""

import os
import socket
from _pickle import dumps, loads
from _thread import get_ident
from collections.abc import Iterable, Sequence
from math import ceil
from time import monotonic
from typing import Any, Final

from aioconc._wire import _frames as wire
from aioconc._wire._body import Laden
from aioconc._wire._descriptors import Descriptor
from aioconc.channels._link import LONE, Frame, Link, Parked
from aioconc.channels._manager._broker import Message, closed
from aioconc.channels._manager._client import PROCESS, Ask, Client, Question
from aioconc.channels._manager._server import ADOPT, HELLO, MESSAGE
from aioconc.channels._tie import Tie
from aioconc.errors import ManagerClosed
from aioconc.sync._wait_queue import (
    ThreadWaiter,
    Waiter,
    WaitQueue,
    running_loop,
)

# Bytes read at a time; of a large answer, more.
_READ: Final = 16_384
_MOST_READ: Final = 262_144

_pack = wire.HEADER.pack

# Seconds that a poll takes at a time.
_LONGEST: Final = 100_000.0


def _frame(message: Message) -> bytes:
    data = dumps(message, 5)
    return _pack(MESSAGE, 0, 0, len(data)) + data


class _Blocked(Parked):
    """A thread that waits for an answer, and mostly reads that itself."""

    __slots__ = ("_thread",)

    def __init__(self, queue: WaitQueue, link: Link) -> None:
        super().__init__(queue, link)
        self._thread = get_ident()

    def wake(self) -> bool:
        # By itself, as it moves the bytes: it looks whether it was granted before it waits again.
        return self._thread == get_ident() or super().wake()


class RemoteClient(Client, Link):
    """In another process: the broker is spoken to over a socket.

    Args:
        sock: connected to the server of the manager.
        token: what tells the manager from all others.
    """

    answers_at_once = False

    def __init__(self, sock: socket.socket, token: bytes) -> None:
        Link.__init__(self, sock)
        self._begin(token)
        # Granted, and to be returned by `_settle`.
        self._woken: list[Waiter] = []
        # An answer said that the manager closes, which comes before the end of the stream.
        self._was_told = False
        # The request of a thread that leads without a waiter, as `_link` calls it, its thread, and
        # what was answered; 0: there is none.
        self._lone_number = 0
        self._lone_thread = 0
        self._lone_answer: tuple[BaseException | None, Any] | None = None
        self._send((0, PROCESS, 0, HELLO, os.getpid()))

    @property
    def is_closed(self) -> bool:
        """Whether the manager is known to have closed."""
        return self._finished or self._was_told

    def _send(self, message: Message, waiter: Waiter | None = None) -> None:
        loop = running_loop()
        frame = _frame(message)
        flushed: Parked | None = None
        with self._mutex:
            if loop is not None and not self._closed:
                try:
                    tie = self._ties.get(loop) or self._serve(loop)
                except OSError:  # too many open files
                    if waiter is not None:  # who would not hear
                        raise
                else:
                    if waiter is not None:
                        tie.has_sent = True  # the answer is for a task of this loop
            if waiter is not None:
                self._await_answer(waiter)
            if not self._out and not self._cut:
                sent = self._try_to_send(frame)
                if sent == len(frame):  # what nearly always happens
                    return
                frame = frame[sent:]
            if not self._cut:
                self._queue([frame])
                self._push(loop)
                self._notify_leader()
            if self._out and loop is None and waiter is None:  # nobody else may come to send it
                flushed = Parked(self._flushed, self)
                self._flushed.add(flushed)
            woken = self._settle()
        self._wake(woken)
        if flushed is not None:
            self._park(flushed, None)

    def _try_to_send(self, frame: bytes) -> int:
        """With the mutex: how much of it the socket took."""
        try:
            return self._sock.send(frame)
        except OSError:  # it is full, or gone
            return 0

    def _send_later(self, message: Message) -> None:
        if not self._cut:
            self._queue([_frame(message)])
            self._push(running_loop())

    def _read(self) -> bool:
        try:
            # No descriptors come, of which the link would have to look out.
            missing = self._decoder.missing
            data = self._sock.recv(min(missing, _MOST_READ) if missing > _READ else _READ)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # ECONNRESET
            data = b""
        if not data:
            self._finished = True
            if not self._cut:
                self._cut_off()
            return False
        self._arrived(self._decoder.feed(data))
        return True

    def _arrived(self, frames: Sequence[Frame]) -> None:
        for _, _, payload, _ in frames:
            number, error, value = loads(payload)
            if error is not None and type(error) is ManagerClosed:
                self._was_told = True
            if number == self._lone_number:
                self._lone_answer = error, value
                if self._lone_thread != get_ident():
                    self._stir()
            else:
                self._answered(self._woken, number, error, value)

    # ------------------------------------------------------------------ threads

    def block(self, timeout: float | None, question: Question) -> tuple[Ask, Any] | None:
        """Ask, and block this thread until it is answered; None: the time was up.

        Where nobody else waits for an answer, which is so in most workers most of the time, this
        thread needs no waiter: it leads, and looks itself for its answer.
        """
        if timeout == 0:
            return self._block_for_now(question)
        ask = self._next(question)
        frame = _frame((ask.number, ask.party, *question))
        poller: Any = None
        alone = False
        error: BaseException | None = None
        try:
            with self._mutex:
                alone = self._leader is None and not (self._asked or self._out or self._cut)
                if alone:
                    poller = self._poller or self._poller_of_lone()
                    self._lone_thread = get_ident()
                    self._lone_number = ask.number
                    self._leader = LONE
                    sent = self._try_to_send(frame)
                    if sent < len(frame):
                        self._queue([frame[sent:]])
            if alone:
                self._wait_alone(poller, timeout)
                answer = self._leave_alone(ask)
                if answer is None:
                    return None
                error, value = answer
                if error is None:
                    return ask, value
        except BaseException:  # KeyboardInterrupt, at any line
            if alone:
                self._leave_alone(ask, gives_up=True)
            raise
        if not alone:
            return super().block(timeout, question)
        assert error is not None
        try:
            raise error
        finally:
            del error

    def _leave_alone(
        self, ask: Ask, *, gives_up: bool = False
    ) -> tuple[BaseException | None, Any] | None:
        """This thread leads no more, if it did; what it was answered."""
        with self._mutex:
            if gives_up:
                self._send_later(ask.cancelled)
            if self._lone_number != ask.number:
                return None
            answer = self._lone_answer
            if answer is None and self._finished:
                answer = closed(), None
            if answer is None and not gives_up:
                self._send_later(ask.cancelled)
            following = self._follow(LONE)
            self._lone_answer = None
            self._lone_number = 0
        if following is not None:
            following.wake()
        return answer

    def _wait_alone(self, poller: Any, timeout: float | None) -> None:
        """Move bytes until this thread's answer is there, or the time is up."""
        end = None if timeout is None else monotonic() + timeout
        left = timeout
        while True:
            if self._out:
                self._lead(True, left)
            else:
                ready = poller.poll(None if left is None else ceil(min(left, _LONGEST) * 1_000))
                with self._mutex:
                    if ready != self._lone_reads and self._waker is not None and not self._closed:
                        self._waker.clear()
                    if ready and not self._finished:
                        self._read()
                    woken = self._settle()
                if woken or self._finished:
                    self._wake(woken)
            if self._lone_answer is not None or self._finished:
                return
            if end is not None:
                left = end - monotonic()
                if left <= 0:
                    return

    def _on_readable(self, tie: Tie) -> None:
        super()._on_readable(tie)
        if self._finished and not self._closed:
            self._wake(())

    def _settle(self) -> Sequence[Waiter]:
        if self._finished:
            self._refuse_all(self._woken)
        if self._flushed:
            self._woken += Link._settle(self)
        if not self._woken:
            return ()
        woken, self._woken = self._woken, []
        return woken

    def _wake(self, waiters: Iterable[Waiter]) -> None:
        if waiters:
            super()._wake(waiters)
        if self._finished and not self._closed:
            with self._mutex:
                woken = self._close()
            super()._wake(woken)

    def look(self) -> None:
        """See whether the manager has closed, if nobody waits who would."""
        with self._mutex:
            if not self._finished:
                self._read()
            woken = self._settle()
        self._wake(woken)

    def _thread_waiter(self) -> ThreadWaiter:
        return _Blocked(self._waiting, self)

    def flush(self, timeout: float) -> None:
        """Send what the socket did not take yet, for so many seconds at most."""
        with self._mutex:
            if self._cut or not self._out:
                return
            waiter = Parked(self._flushed, self)
            self._flushed.add(waiter)
        self._park(waiter, timeout)

    # A waiter without an owner waits for no answer, but until all is sent.

    def _left(self, waiter: Waiter) -> Iterable[Waiter]:
        return () if waiter.owner is None else Client._left(self, waiter)

    def _undo(self, waiter: Waiter) -> Iterable[Waiter]:
        return () if waiter.owner is None else Client._undo(self, waiter)

    def new_end(self) -> socket.socket:
        """One end of a new connection to the manager, for another process."""
        ours, theirs = socket.socketpair()
        laden = Laden(b"")
        laden.lease = None
        laden.descriptors = [Descriptor(ours.detach())]
        with self._mutex:
            self._queue(wire.encode(ADOPT, 0, laden, laden=laden), laden)
            self._push(running_loop())
        return theirs
