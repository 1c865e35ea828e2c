"""A process's end of its manager: what it asks, what it holds, and who in it waits for an answer.

It guarantees that an answer reaches who waits for it, or is taken back if he does not wait any
more, and that all who wait hear of the end of the manager. There are two kinds, with one face: in
the process of the manager it calls the broker, in every other one it speaks over a socket.
"""

# Rule 1: a waiter is in `_waiting`, and `_asked` has it, until its answer is there. Then it is
#         granted, and its `value` is the error or None, and what was answered.
# Rule 2: a waiter that gives up has the broker cancel its request, whether it was answered or not;
#         but not if the answer was an error, which gave nothing.
# Rule 3: the state that this process keeps of a thing (`notes`) is changed with the mutex held.

import itertools
import os
import socket
from _pickle import dumps, loads
from _thread import get_ident
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Any, TypeVar

from aioconc._bridge._mailbox import mailbox_of
from aioconc._wire import _frames as wire
from aioconc._wire._body import Laden
from aioconc._wire._descriptors import Descriptor
from aioconc.channels._link import LONE, Frame, Link, Parked
from aioconc.channels._manager._broker import CANCEL, LEAVE, NOW, Broker, Message, closed
from aioconc.channels._manager._server import ADOPT, HELLO, MESSAGE, Server
from aioconc.errors import ManagerClosed
from aioconc.sync._wait_queue import (
    TaskWaiter,
    ThreadWaiter,
    Waitable,
    Waiter,
    WaitQueue,
    running_loop,
)
from aioconc.worker._place import at_end, place

T = TypeVar("T")

# The party that stands for a whole process, but for the calls in it that have one of their own.
PROCESS = 0


@dataclass(frozen=True)
class Ask:
    """Which request a waiter waits for."""

    number: int
    party: int
    thing: int

    @property
    def cancelled(self) -> Message:
        """The message that it is not wanted any more."""
        return self.number, self.party, self.thing, CANCEL


class Client(Waitable):
    """What both kinds have in common. Abstract."""

    # No `__slots__`, which would not go with those of `Link`; there are few clients.

    token: bytes
    notes: dict[int, Any]
    _asked: dict[int, Waiter]
    _calls: dict[Any, int]

    def _begin(self, token: bytes) -> None:
        self.token = token
        self._waiting = WaitQueue()
        self._asked = {}
        self._numbers = itertools.count(1)
        # Calls of a worker process that have asked for something -> their party.
        self._calls = {}
        self._party_numbers = itertools.count(1)
        # Number of a thing -> what this process has to remember of it.
        self.notes = {}

    # ------------------------------------------------------------------ to be overridden

    @property
    def is_closed(self) -> bool:
        """Whether the manager is known to have closed."""
        raise NotImplementedError

    def _send(self, message: Message) -> None:
        """Have the broker handle a message; without the mutex."""
        raise NotImplementedError

    def _thread_waiter(self) -> ThreadWaiter:
        raise NotImplementedError

    def new_end(self) -> socket.socket:
        """One end of a new connection to the manager, for another process."""
        raise NotImplementedError

    # ------------------------------------------------------------------ asking and telling

    def ask(self, waiter: Waiter, thing: int, what: str, *args: Any) -> Ask:
        """Send a request, whose answer the waiter is to wait for."""
        ask = waiter.owner = Ask(next(self._numbers), self._party(), thing)
        with self._mutex:
            self._waiting.add(waiter)
            self._asked[ask.number] = waiter
        self._send((ask.number, ask.party, thing, what, *args))
        return ask

    def tell(self, thing: int, what: str, *args: Any) -> None:
        """Send what needs no answer."""
        self._send((0, self._party(), thing, what, *args))

    async def call(self, thing: int, what: str, *args: Any) -> tuple[Ask, Any]:
        """Ask, and await the answer.

        Cancellation:
            The request is withdrawn; what it was granted is passed on.
        """
        waiter = TaskWaiter(self._waiting)
        ask = self.ask(waiter, thing, what, *args)
        try:
            await self._wait(waiter)
            return ask, outcome(waiter)
        finally:
            del waiter

    def block(
        self, timeout: float | None, thing: int, what: str, *args: Any
    ) -> tuple[Ask, Any] | None:
        """Ask, and block this thread until it is answered; None: the time was up.

        Without any time it waits for the broker all the same, which then answers at once.
        """
        if timeout == 0:
            return self._block_for_now(thing, what, *args)
        waiter = self._thread_waiter()
        ask = self.ask(waiter, thing, what, *args)
        try:
            if not self._park(waiter, timeout):
                return None
            return ask, outcome(waiter)
        finally:
            del waiter

    def _block_for_now(self, thing: int, what: str, *args: Any) -> tuple[Ask, Any] | None:
        try:
            return self.block(None, thing, NOW + what, *args)
        except TimeoutError:
            return None

    def _party(self) -> int:
        link: Any = place.link
        if link is None:
            return PROCESS
        number = self._calls.get(link)
        if number is None:
            if not hasattr(link, "cord"):  # not a call in a worker process
                return PROCESS
            number = self._calls[link] = next(self._party_numbers)
            at_end.append(self._call_ended)
        return number

    def _call_ended(self, link: Any) -> None:
        """A call in this process has ended: what it still holds, nobody will release."""
        number = self._calls.pop(link, None)
        if number is None:
            return
        with self._mutex:
            for note in tuple(self.notes.values()):  # other threads add to them
                note.forget(number)
        if not self.is_closed:
            who = f"a call of {link.label} in process {os.getpid()}"
            self._send((0, number, 0, LEAVE, who))

    # ------------------------------------------------------------------ answers

    def _answered(self, number: int, error: BaseException | None, value: Any) -> Sequence[Waiter]:
        """With the mutex: who is to be woken."""
        waiter = self._asked.pop(number, None)
        if waiter is None:
            return ()  # it has given up; the broker hears, or has heard of it
        del self._waiting[waiter]
        waiter.value = error, value
        waiter.granted = True
        return (waiter,)

    def _refuse_all(self) -> Sequence[Waiter]:
        """With the mutex: the manager has closed."""
        woken: list[Waiter] = []
        for number in tuple(self._asked):
            woken += self._answered(number, closed(), None)
        return woken

    def _left(self, waiter: Waiter) -> Iterable[Waiter]:
        self._asked.pop(waiter.owner.number, None)
        self._send_later(waiter.owner.cancelled)
        return ()

    def _undo(self, waiter: Waiter) -> Iterable[Waiter]:
        error, _ = waiter.value
        if error is None:
            self._send_later(waiter.owner.cancelled)
        return ()

    def _send_later(self, message: Message) -> None:
        """With the mutex: send it once the mutex is released, or at once if that may be."""
        raise NotImplementedError


def _frame(message: Message) -> bytes:
    data = dumps(message, 5)
    return wire.HEADER.pack(MESSAGE, 0, 0, len(data)) + data


def outcome(waiter: Waiter) -> Any:
    """What a waiter was answered.

    Raises:
        BaseException: the error that was answered.
    """
    error, value = waiter.value
    if error is None:
        return value
    try:
        raise error
    finally:
        waiter.value = None
        del error


class OwnClient(Client):
    """In the process of the manager: the broker is called, in its loop.

    Args:
        broker: that of the manager.
        server: its other connections.
        token: what tells the manager from all others.
    """

    def __init__(self, broker: Broker, server: Server, token: bytes) -> None:
        super().__init__()
        self._begin(token)
        self.broker = broker
        self.server = server
        self._loop = server.loop
        # Sent once the mutex is released.
        self._letters: deque[Message] = deque()
        pid = os.getpid()
        self._connection = broker.connect(self._answer, f"process {pid}", pid)

    @property
    def is_closed(self) -> bool:
        """Whether the manager has closed."""
        return self.broker.closed

    def _send(self, message: Message) -> None:
        if running_loop() is self._loop:
            self.broker.handle(self._connection, message)
        elif not mailbox_of(self._loop).post(
            self._loop, lambda: self.broker.handle(self._connection, message)
        ):
            with self._mutex:
                woken = self._refuse_all()
            self._wake(woken)

    def _send_later(self, message: Message) -> None:
        self._letters.append(message)

    def _wake(self, waiters: Iterable[Waiter]) -> None:
        super()._wake(waiters)
        while True:
            try:
                message = self._letters.popleft()
            except IndexError:
                return
            self._send(message)

    def _answer(self, number: int, error: BaseException | None, value: Any) -> None:
        with self._mutex:
            woken = self._answered(number, error, value)
        self._wake(woken)

    def _thread_waiter(self) -> ThreadWaiter:
        return ThreadWaiter(self._waiting)

    def new_end(self) -> socket.socket:
        """One end of a new connection to the manager, for another process."""
        return self.server.new_end()


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

    def _send(self, message: Message) -> None:
        loop = running_loop()
        frame = _frame(message)
        waiter: Parked | None = None
        with self._mutex:
            if loop is not None and loop not in self._ties and not self._closed:
                self._serve(loop)  # the answer is for a task of this loop
            if not self._out and not self._cut:
                sent = self._try_to_send(frame)  # what nearly always happens
                if sent == len(frame):
                    return
                frame = frame[sent:]
            if not self._cut:
                self._queue([frame])
                self._push(loop)
                self._notify_leader()
            if self._out and loop is None and not message[0]:  # nobody else may come to send it
                waiter = Parked(self._flushed, self)
                self._flushed.add(waiter)
            woken = self._settle()
        self._wake(woken)
        if waiter is not None:
            self._park(waiter, None)

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

    def _arrived(self, frames: Sequence[Frame]) -> None:
        for _, _, payload, _ in frames:
            number, error, value = loads(payload)
            if type(error) is ManagerClosed:
                self._was_told = True
            if number == self._lone_number:
                self._lone_answer = error, value
                if self._lone_thread != get_ident():
                    self._stir()
            else:
                self._woken += self._answered(number, error, value)

    # ------------------------------------------------------------------ threads

    def block(
        self, timeout: float | None, thing: int, what: str, *args: Any
    ) -> tuple[Ask, Any] | None:
        """Ask, and block this thread until it is answered; None: the time was up.

        Where nobody else waits for an answer, which is so in most workers most of the time, this
        thread needs no waiter: it leads, and looks itself for its answer.
        """
        if timeout == 0:
            return self._block_for_now(thing, what, *args)
        ask = Ask(next(self._numbers), self._party(), thing)
        frame = _frame((ask.number, ask.party, thing, what, *args))
        with self._mutex:
            if self._leader is not None or self._asked or self._out or self._cut:
                poller = None
            else:
                poller = self._poller_of_lone()
                self._leader = LONE
                self._lone_number = ask.number
                self._lone_thread = get_ident()
                sent = self._try_to_send(frame)
                if sent < len(frame):
                    self._queue([frame[sent:]])
        if poller is None:
            return Client.block(self, timeout, thing, what, *args)
        goes_on = False
        try:
            self._wait_alone(poller, timeout)
            goes_on = True
        finally:
            with self._mutex:
                answer, self._lone_answer = self._lone_answer, None
                self._lone_number = 0
                if answer is None and self._finished:
                    answer = closed(), None
                if answer is None or (not goes_on and answer[0] is None):
                    self._send_later(ask.cancelled)
            self._leave(LONE)
        if answer is None:
            return None
        error, value = answer
        if error is None:
            return ask, value
        try:
            raise error
        finally:
            del answer, error

    def _wait_alone(self, poller: Any, timeout: float | None) -> None:
        """Move bytes until this thread's answer is there, or the time is up."""
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = None if end is None else end - monotonic()
            if self._out:
                self._lead(True, left)
            else:
                ready = poller.poll(None if left is None else ceil(max(0.0, left) * 1_000))
                with self._mutex:
                    for fd, _ in ready:
                        if self._waker is not None and fd == self._waker.fd:
                            self._waker.clear()
                        elif not self._finished:
                            self._read()
                    woken = self._settle()
                if woken or self._finished:
                    self._wake(woken)
            if self._lone_answer is not None or self._finished:
                return
            if left is not None and left <= 0:
                return

    def _settle(self) -> Sequence[Waiter]:
        if self._finished:
            self._woken += self._refuse_all()
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
