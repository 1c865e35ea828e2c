"""What the broker knows of events and barriers.

It guarantees that a party that dies at a barrier breaks it, since nobody will come in its place.
"""

import itertools

from aioconc.channels._manager._broker import Death, Party, Request, Thing, Waiters
from aioconc.sync._errors import BarrierBroken


class EventThing(Thing):
    """A flag."""

    asks = frozenset({"wait", "look"})
    tells = frozenset({"clear", "set"})

    def __init__(self) -> None:
        self.flag = False
        self.waiters = Waiters()

    def wait(self, request: Request) -> None:
        """Until it is set."""
        if self.flag:
            request.grant()
        else:
            request.wait(self.waiters)

    def set(self, party: Party) -> None:
        """All who wait go on."""
        self.flag = True
        self.waiters.grant_all()

    def clear(self, party: Party) -> None:
        """Who comes from now on waits."""
        self.flag = False

    def look(self, request: Request) -> None:
        """Its state."""
        request.grant((len(self.waiters), self.flag))


class BarrierThing(Thing):
    """A point at which so many wait for one another."""

    asks = frozenset({"look", "wait"})
    tells = frozenset({"abort", "reset"})

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self.waiters = Waiters()
        # Why it is broken, or None.
        self.broken: str | None = None

    def wait(self, request: Request) -> None:
        """Until all have arrived."""
        if self.broken is not None:
            request.refuse(BarrierBroken(f"the barrier was {self.broken}; reset it first"))
            return
        request.wait(self.waiters)
        if len(self.waiters) == self.parties:
            numbers = itertools.count()
            while self.waiters:
                self.waiters.first.grant(next(numbers))

    def abort(self, party: Party) -> None:
        """It is broken until it is reset."""
        self._break("broken")

    def reset(self, party: Party) -> None:
        """It begins anew."""
        self.broken = None
        self._refuse_all("the barrier was reset while this one waited")

    def died_waiting(self, request: Request, death: Death) -> None:
        """Nobody knows that another one has to arrive in its place."""
        self._break(f"broken, since {death.who} ended while it waited")

    def look(self, request: Request) -> None:
        """Its state."""
        request.grant((len(self.waiters), self.parties, self.broken is not None))

    def _break(self, why: str) -> None:
        self.broken = why
        self._refuse_all(f"the barrier was {why}; reset it first")

    def _refuse_all(self, text: str) -> None:
        self.waiters.refuse_all(lambda: BarrierBroken(text))
