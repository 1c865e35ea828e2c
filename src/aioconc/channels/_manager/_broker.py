"""Decides who holds what: the things of one manager, the parties that use them, their requests.

It guarantees that a party that ends gives back all that it held and waits for nothing more, and
that what was granted to a request that is cancelled is passed on. Sans-I/O: messages come in by
`handle`, answers go out by the connection's `answer`; sockets and loops are left to others.
"""

# A request:   waiting --grant--> answered --the client goes on--> settled
#                 |                   |
#                 '--- cancelled      '--- cancelled: `undo`, it goes to the next
#
# Rule 1: all of it runs in one thread, the owner's loop, and nothing here waits or runs code of
#         users: values are pickles, which are not looked into; keys are of built-in types.
# Rule 2: a grant is made in the same step as its answer, and is final. The client says "cancel" of
#         a request only if it has not acted on the answer, so cancelling one that is answered takes
#         the grant back.
# Rule 3: messages of one connection are handled in the order in which they were sent.
# Rule 4: a party that ends first leaves what it waits for, then gives back what it holds: so that
#         nothing is granted to it on the way.

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from aioconc.errors import ManagerClosed, OwnerDied

# Number of the request (0: nobody waits for an answer), of the party, of the thing; what is to be
# done with it, and how.
Message = tuple[Any, ...]

# Takes the number of a request, and its error or None with its value.
Answer = Callable[[int, BaseException | None, Any], object]

CANCEL = "cancel"
LEAVE = "leave"
LOOK = "look"

# In front of what is asked for: at once, or not at all.
NOW = "!"


@dataclass
class Death:
    """How a party ended.

    Attributes:
        who: it, for people, such as "process 4711".
        pid: of its process.
        exitcode: of its process, or None where unknown, or where only a call has ended.
        of_call: whether it was a call in a process that goes on.
    """

    who: str
    pid: int | None
    exitcode: int | None = None
    of_call: bool = False

    def error(self, what: str, remedy: str) -> OwnerDied:
        """What is told to somebody who wants what it had."""
        code = "" if self.exitcode is None else f" (exit status {self.exitcode})"
        return OwnerDied(
            f"{self.who} ended{code} {what}; {remedy}", pid=self.pid, exitcode=self.exitcode
        )


class Party:
    """Who may hold something: a process, or one call in a worker process."""

    __slots__ = ("connection", "number", "requests", "things")

    def __init__(self, connection: "Connection", number: int) -> None:
        self.connection = connection
        self.number = number
        # Those that wait.
        self.requests: dict[int, Request] = {}
        # What it may hold something of.
        self.things: set[Thing] = set()


class Request:
    """Something that a party wants and may have to wait for."""

    # In `party.requests` and in `place` iff it waits.
    __slots__ = ("answered", "data", "number", "party", "place", "thing")

    def __init__(self, party: Party, number: int, thing: "Thing") -> None:
        self.party = party
        self.number = number
        self.thing = thing
        self.answered = False
        self.place: Waiters | None = None
        # What the thing has to remember of it.
        self.data: Any = None

    @property
    def key(self) -> tuple["Connection", int]:
        """What tells it from all others."""
        return self.party.connection, self.number

    def wait(self, place: "Waiters") -> None:
        """It waits as the last one there, and nowhere else."""
        if self.place is None:
            self.party.requests[self.number] = self
        else:
            del self.place[self]
        self.place = place
        place[self] = None

    def leave(self) -> None:
        """It waits no longer."""
        if self.place is not None:
            del self.place[self]
            del self.party.requests[self.number]
            self.place = None

    def grant(self, value: Any = None) -> None:
        """It has what it wants."""
        if self.place is not None:
            self.leave()
        self.answered = True
        self.party.connection.answer(self.number, None, value)

    def refuse(self, error: BaseException) -> None:
        """It never will."""
        self.leave()
        self.answered = True
        self.party.connection.answer(self.number, error, None)


class Waiters(OrderedDict[Request, None]):
    """Those who wait for one thing, first come first; answering one takes it out."""

    __slots__ = ()

    @property
    def first(self) -> Request:
        """Who has waited longest; there must be one."""
        return next(iter(self))

    def grant_all(self) -> None:
        """All of them have what they want."""
        while self:
            self.first.grant()

    def refuse_all(self, error: Callable[[], BaseException]) -> None:
        """None of them will."""
        while self:
            self.first.refuse(error())


class Connection:
    """One process, as the broker knows it.

    Args:
        answer: sends an answer there; it must not call back.
        name: the process, for people.
    """

    __slots__ = ("answer", "name", "parties", "pid")

    def __init__(self, answer: Answer, name: str, pid: int | None) -> None:
        self.answer = answer
        self.name = name
        self.pid = pid
        self.parties: dict[int, Party] = {}


class Thing:
    """What the broker keeps; its methods are named as the messages call them."""

    # What may be asked, with a `Request` to answer, and what may be told, with a `Party`.
    asks: ClassVar[frozenset[str]] = frozenset()
    tells: ClassVar[frozenset[str]] = frozenset()

    def left(self, request: Request) -> None:
        """A request that has waited was withdrawn."""

    def undo(self, party: Party, number: int) -> None:
        """Take back what the answer to that request gave, and pass it on."""

    def died_waiting(self, request: Request, death: Death) -> None:
        """Who waited has ended."""
        self.left(request)

    def abandon(self, party: Party, death: Death) -> None:
        """Take back all that the party holds, and pass it on."""


class Broker:
    """The things of one manager."""

    def __init__(self) -> None:
        self._things: dict[int, Thing] = {}
        self._numbers = itertools.count(1)
        self.connections: dict[Connection, None] = {}
        self.closed = False

    def add(self, thing: Thing) -> int:
        """Keep a thing; its number. Any thread may call it."""
        if self.closed:
            raise closed()
        number = next(self._numbers)
        self._things[number] = thing
        return number

    @property
    def things(self) -> int:
        """How many it keeps."""
        return len(self._things)

    def thing(self, number: int) -> Thing:
        """The thing of that number. Any thread may call it."""
        if self.closed:
            raise closed()
        return self._things[number]

    def connect(self, answer: Answer, name: str, pid: int | None) -> Connection:
        """A process joins."""
        connection = Connection(answer, name, pid)
        self.connections[connection] = None
        return connection

    def handle(self, connection: Connection, message: Message) -> None:
        """What a process says.

        Raises:
            Exception: it makes no sense; the connection cannot be trusted any more.
        """
        number, party_number, thing_number, what, *args = message
        if self.closed:
            if number and what != CANCEL:
                connection.answer(number, closed(), None)
            return
        party = connection.parties.get(party_number)
        if what == LEAVE:
            if party is not None:
                self._end_call(party, *args)
            return
        if party is None:
            party = connection.parties[party_number] = Party(connection, party_number)
        thing = self._things[thing_number]
        if what == CANCEL:
            waiting = party.requests.get(number)
            if waiting is None:
                thing.undo(party, number)
            else:
                waiting.leave()
                thing.left(waiting)
        elif not number:
            if what not in thing.tells:
                raise ValueError(f"{type(thing).__name__} is not told {what!r}")
            getattr(thing, what)(party, *args)
        else:
            if now := what[0] == NOW:
                what = what[1:]
            if what not in thing.asks:
                raise ValueError(f"{type(thing).__name__} is not asked {what!r}")
            party.things.add(thing)
            request = Request(party, number, thing)
            try:
                getattr(thing, what)(request, *args)
            except Exception as error:
                if request.answered:
                    raise
                request.refuse(error)
            if now and not request.answered:
                request.refuse(TimeoutError("it is not to be had at once"))
                thing.left(request)

    def _end_call(self, party: Party, who: str) -> None:
        connection = party.connection
        self._leave([party], Death(who, connection.pid, of_call=True))
        del connection.parties[party.number]
        # What it has left to its process, such as items that may be called done yet.
        process = connection.parties.setdefault(0, Party(connection, 0))
        process.things |= party.things

    def disconnect(self, connection: Connection, death: Death) -> None:
        """A process has ended, or has let go of the manager."""
        if self.connections.pop(connection, self) is self or self.closed:
            return
        self._leave([*connection.parties.values()], death)
        connection.parties.clear()

    def close(self) -> None:
        """Who waits hears of the end, and so does who asks from now on."""
        self.closed = True
        for connection in self.connections:
            for party in connection.parties.values():
                for request in [*party.requests.values()]:
                    request.refuse(closed())
        self._things.clear()

    def _leave(self, parties: list[Party], death: Death) -> None:
        for party in parties:
            for request in [*party.requests.values()]:
                if request.place is not None:  # it may have left with the one before
                    request.leave()
                    request.thing.died_waiting(request, death)
        for party in parties:
            for thing in party.things:
                thing.abandon(party, death)


def closed() -> ManagerClosed:
    """What is told after the end."""
    return ManagerClosed(
        "the manager is closed: its `async with open_manager()` block has ended, or the process "
        "that had it; end the work that shares its objects inside of the block"
    )
