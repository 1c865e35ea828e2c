"""A process's end of its manager: what it asks, what it holds, and who in it waits for an answer.

It guarantees that an answer reaches who waits for it, or is taken back if he does not wait any
more, and that all who wait hear of the end of the manager. There are two kinds, with one face: in
the process of the manager it calls the broker, in every other one (`_remote_client`) it speaks over
a socket.
"""

# Rule 1: a waiter is in `_waiting`, and `_asked` has it, until its answer is there. Then it is
#         granted, and its `value` is the error or None, and what was answered.
# Rule 2: a waiter that gives up has the broker cancel its request, whether it was answered or not;
#         but not if the answer was an error, which gave nothing.
# Rule 3: the state that this process keeps of a thing (`notes`) is changed with the mutex held; but
#         what was granted is noted in one assignment, after which no line can be interrupted.

import asyncio
import itertools
import os
import socket
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, Final, NamedTuple

from aioconc._bridge._errand import run_errand
from aioconc._bridge._mailbox import mailbox_of
from aioconc.channels._manager._broker import CANCEL, LEAVE, LOOK, NOW, Broker, Message, closed
from aioconc.channels._manager._server import Server
from aioconc.channels._prompt import PromptWaiter
from aioconc.sync._wait_queue import (
    ThreadWaiter,
    Waitable,
    Waiter,
    WaitQueue,
    running_loop,
)
from aioconc.worker._place import at_end, place

# The party that stands for a whole process, but for the calls in it that have one of their own.
PROCESS = 0

# As in `aioconc.sync`: calls that need not wait, after which the loop turns once.
_TURN: Final = 64

# What a process wants: of which thing, what, and how.
Question = tuple[Any, ...]


class Ask(NamedTuple):
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

    # Whether an answer that need not wait is there at once, with no turn of the loop.
    answers_at_once: ClassVar[bool]

    @property
    def is_closed(self) -> bool:
        """Whether the manager is known to have closed."""
        raise NotImplementedError

    def _send(self, message: Message, waiter: Waiter | None = None) -> None:
        """Have the broker handle a message, whose answer is for the waiter; without the mutex."""
        raise NotImplementedError

    def _thread_waiter(self) -> ThreadWaiter:
        raise NotImplementedError

    def new_end(self) -> socket.socket:
        """One end of a new connection to the manager, for another process."""
        raise NotImplementedError

    # ------------------------------------------------------------------ asking and telling

    async def call(self, question: Question) -> tuple[Ask, Any]:
        """Ask, and await the answer.

        Cancellation:
            The request is withdrawn; what it was granted is passed on.
        """
        waiter = PromptWaiter(self._waiting)
        ask = waiter.owner = self._next(question)
        try:
            try:
                self._send((ask.number, ask.party, *question), waiter)
                await waiter.future
            except BaseException:
                self._give_up(waiter)
                raise
            return ask, _outcome(waiter)
        finally:
            del waiter

    def block(self, timeout: float | None, question: Question) -> tuple[Ask, Any] | None:
        """Ask, and block this thread until it is answered; None: the time was up.

        Without any time it waits for the broker all the same, which then answers at once.
        """
        if timeout == 0:
            return self._block_for_now(question)
        waiter = self._thread_waiter()
        ask = waiter.owner = self._next(question)
        try:
            try:
                self._send((ask.number, ask.party, *question), waiter)
            except BaseException:  # KeyboardInterrupt
                self._give_up(waiter)
                raise
            if not self._park(waiter, timeout):
                return None
            return ask, _outcome(waiter)
        finally:
            del waiter

    def _block_for_now(self, question: Question) -> tuple[Ask, Any] | None:
        thing, what, *args = question
        try:
            return self.block(None, (thing, NOW + what, *args))
        except TimeoutError:
            return None

    def withdraw(self, ask: Ask) -> None:
        """Nobody acts on the answer to that, which was no error."""
        self._send(ask.cancelled)

    def tell(self, thing: int, what: str, *args: Any) -> None:
        """Send what needs no answer."""
        self._send((0, self._party(), thing, what, *args))

    def tell_anywhere(self, thing: int, what: str, *args: Any) -> None:
        """As `tell`, also where a generator is collected: at any line, maybe one with the mutex."""
        if self._home.left:
            return
        if self._mutex.locked():
            run_errand(self.tell, thing, what, *args)
        else:
            self.tell(thing, what, *args)

    def _next(self, question: Question) -> Ask:
        return Ask(next(self._numbers), self._party(), question[0])

    def _await_answer(self, waiter: Waiter) -> None:
        """With the mutex: an answer is for the waiter."""
        self._waiting.add(waiter)
        self._asked[waiter.owner.number] = waiter

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

    def _answered(
        self, woken: list[Waiter], number: int, error: BaseException | None, value: Any
    ) -> None:
        """With the mutex: who waits for that is granted it, and is to be woken."""
        waiter = self._asked.pop(number, None)
        if waiter is not None:  # else it has given up; the broker hears, or has heard of it
            self._waiting.withdraw(waiter)
            waiter.value = error, value
            waiter.granted = True
            woken.append(waiter)

    def _refuse_all(self, woken: list[Waiter]) -> None:
        """With the mutex: the manager has closed."""
        for number in tuple(self._asked):
            self._answered(woken, number, closed(), None)

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


def _outcome(waiter: Waiter) -> Any:
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

    answers_at_once = True

    def __init__(self, broker: Broker, server: Server, token: bytes) -> None:
        super().__init__()
        self._begin(token)
        self.broker = broker
        self.server = server
        self._loop = server.loop
        # Sent once the mutex is released.
        self._letters: deque[Message] = deque()
        # Calls since the loop last turned because of them.
        self._streak = 0
        pid = os.getpid()
        self._connection = broker.connect(self._answer, f"process {pid}", pid)

    @property
    def is_closed(self) -> bool:
        """Whether the manager has closed."""
        return self.broker.closed

    def _send(self, message: Message, waiter: Waiter | None = None) -> None:
        if waiter is not None:
            with self._mutex:
                self._await_answer(waiter)
        if running_loop() is self._loop:
            self.broker.handle(self._connection, message)
        elif not mailbox_of(self._loop).post(
            self._loop, lambda: self.broker.handle(self._connection, message)
        ):
            woken: list[Waiter] = []
            with self._mutex:
                self._refuse_all(woken)
            self._wake(woken)

    async def call(self, question: Question) -> tuple[Ask, Any]:
        """As for every client; what need not wait lets the loop turn now and then."""
        if question[1] != LOOK:  # which changes nothing, so that who looks sees one state
            self._streak += 1
            if self._streak >= _TURN:
                self._streak = 0
                await asyncio.sleep(0)
        return await super().call(question)

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
        woken: list[Waiter] = []
        with self._mutex:
            self._answered(woken, number, error, value)
        self._wake(woken)

    def _thread_waiter(self) -> ThreadWaiter:
        return ThreadWaiter(self._waiting)

    def new_end(self) -> socket.socket:
        """One end of a new connection to the manager, for another process."""
        return self.server.new_end()
