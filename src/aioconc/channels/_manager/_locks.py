"""What the broker knows of locks, conditions and semaphores.

It guarantees one holder at a time, in the order of arrival, and that nobody is given a lock whose
holder died in the middle of something without being told. Who in a process may release a lock, and
how often a lock was taken by its owner, is left to the handles.
"""

from typing import Literal, NamedTuple

from aioconc.channels._manager._broker import Connection, Death, Party, Request, Thing, Waiters
from aioconc.errors import OwnerDied

OnOwnerDeath = Literal["raise", "release"]


class _Wish(NamedTuple):
    """What a request for a lock says of itself: its `data`.

    Attributes:
        takes_dead: wants the lock also if its holder died, and is told.
        notified: whether it was, for one that comes from a condition.
        held: the number of the request by which such a one held the lock before.
    """

    takes_dead: bool
    notified: bool | None = None
    held: int = 0


# free <--release-- held --its holder dies--> left: `death` says how
#   '---acquire----->'  <------recover-------'   and the recovering holder may die as well
#
# Rule 1: somebody waits only while there is a holder.
# Rule 2: while `death` is set, only who takes the lock for dead is given it. The others are
#         refused, but not while somebody recovers it: then they wait for what comes of it.
class LockThing(Thing):
    """One holder at a time."""

    asks = frozenset({"acquire", "look"})
    tells = frozenset({"release"})

    def __init__(self, on_owner_death: OnOwnerDeath = "raise") -> None:
        self.on_owner_death: OnOwnerDeath = on_owner_death
        # The request that was granted, or None.
        self.holder: Request | None = None
        self.waiters = Waiters()
        self.death: Death | None = None
        self.conditions: list[ConditionThing] = []

    def acquire(self, request: Request, recover: bool, held: int = 0) -> None:
        """Take it.

        For one that gives up to wait on a condition, `held` is the request by which it held the
        lock. It may hold it yet, or again, where it was interrupted before it asked or was told.
        """
        request.data = _Wish(recover)
        holder = self.holder
        if holder is None:
            self._offer(request)
        elif (
            held
            and holder.party.connection is request.party.connection
            and held in (holder.number, holder.data.held)
        ):
            self.holder = request
            request.grant()
        else:
            request.wait(self.waiters)

    def release(self, party: Party, number: int, recovered: bool) -> None:
        """Who was granted that request is done with it."""
        if self.is_held_by(party.connection, number):
            if recovered:
                self.death = None
            self.holder = None
            self.pass_on()

    def is_held_by(self, connection: Connection, number: int) -> bool:
        """Whether the holder is that request."""
        holder = self.holder
        return (
            holder is not None and holder.number == number and holder.party.connection is connection
        )

    def pass_on(self) -> None:
        """Nobody holds it: give it to who is next."""
        while self.waiters and self.holder is None:
            self._offer(self.waiters.first)

    def _offer(self, request: Request) -> None:
        wish: _Wish = request.data
        told = None if self.death is None else self.told()
        if told is not None and not wish.takes_dead:
            request.refuse(told)
        else:
            self.holder = request
            request.grant(told if wish.notified is None else (wish.notified, told))

    def told(self) -> OwnerDied:
        """What is said to those who want it."""
        assert self.death is not None
        return self.death.error(
            "while it held this lock, so what the lock guards may be half changed",
            "put it right in `async with lock.recover():`, or make the lock with "
            'on_owner_death="release" if nothing can be half changed',
        )

    def undo(self, party: Party, number: int) -> None:
        """It was given to somebody who does not want it any more."""
        self.release(party, number, False)

    def abandon(self, party: Party, death: Death) -> None:
        """If the party holds it, it is left."""
        if self.holder is None or self.holder.party is not party:
            return
        self.holder = None
        if self.on_owner_death == "raise":
            self.death = death
        # Who waits to be notified may have waited for the one that died.
        for condition in self.conditions:
            condition.wake_all(spurious=self.death is None)
        self.pass_on()

    def look(self, request: Request) -> None:
        """Its state."""
        owner = None if self.holder is None else self.holder.party.connection.name
        request.grant((len(self.waiters), owner, self.death is not None))


class ConditionThing(Thing):
    """Those who wait for a notification; notified, they wait for the lock."""

    asks = frozenset({"wait", "look"})
    tells = frozenset({"notify"})

    def __init__(self, lock: LockThing) -> None:
        self.lock = lock
        # To be notified; who was waits in the queue of the lock.
        self.waiters = Waiters()
        lock.conditions.append(self)

    def wait(self, request: Request, number: int) -> None:
        """Release the lock and wait; answered when notified and the lock is held again."""
        lock = self.lock
        if not lock.is_held_by(request.party.connection, number):
            raise RuntimeError("cannot wait on a Condition whose lock this process does not hold")
        request.party.things.add(lock)
        request.data = _Wish(True, held=number)
        request.wait(self.waiters)
        lock.release(request.party, number, False)

    def notify(self, party: Party, n: int) -> None:
        """Wake those who have waited longest; 0: all."""
        self._notify(n or len(self.waiters))

    def _notify(self, n: int) -> None:
        for _ in range(min(n, len(self.waiters))):
            self._want_lock(True)

    def wake_all(self, *, spurious: bool) -> None:
        """All go for the lock; `spurious`: as if they had been notified."""
        while self.waiters:
            self._want_lock(spurious)

    def _want_lock(self, notified: bool) -> None:
        request = self.waiters.first
        request.data = request.data._replace(notified=notified)
        request.wait(self.lock.waiters)
        if self.lock.holder is None:
            self.lock.pass_on()

    def left(self, request: Request) -> None:
        """It waits neither for a notification nor for the lock."""
        if request.data.notified:
            self._notify(1)

    def undo(self, party: Party, number: int) -> None:
        """It holds the lock, but does not go on: the lock and the notification are for others."""
        lock = self.lock
        if lock.holder is not None and lock.is_held_by(party.connection, number):
            if lock.holder.data.notified:
                self._notify(1)
            lock.undo(party, number)

    def look(self, request: Request) -> None:
        """Its state."""
        lock = self.lock
        owner = None if lock.holder is None else lock.holder.party.connection.name
        request.grant((len(self.waiters), owner, lock.death is not None))


# Rule: somebody waits only while `value` is 0.
class SemaphoreThing(Thing):
    """A number of permits; which each party has taken is known."""

    asks = frozenset({"acquire", "look"})
    tells = frozenset({"release"})

    def __init__(self, value: int, bounded: bool) -> None:
        self.value = value
        self.bounded = bounded
        self.waiters = Waiters()
        # Each permit that is taken, by the request that was granted: who has it.
        self.taken: dict[tuple[Connection, int], Party] = {}

    def acquire(self, request: Request) -> None:
        """Take one."""
        if self.value:
            self.value -= 1
            self.taken[request.key] = request.party
            request.grant()
        else:
            request.wait(self.waiters)

    def release(self, party: Party, numbers: "list[int]", more: int) -> None:
        """Give back what those requests were granted, and so many new ones; once, if said twice."""
        given = [self.taken.pop((party.connection, number), None) for number in numbers]
        self._add(len(given) - given.count(None) + (0 if self.bounded else more))

    def undo(self, party: Party, number: int) -> None:
        """It was given to somebody who does not want it any more."""
        self.release(party, [number], 0)

    def abandon(self, party: Party, death: Death) -> None:
        """What it has is free again."""
        self.release(party, [key[1] for key, each in self.taken.items() if each is party], 0)

    def look(self, request: Request) -> None:
        """Its state."""
        request.grant((len(self.waiters), self.value))

    def _add(self, n: int) -> None:
        self.value += n
        while self.value and self.waiters:
            self.acquire(self.waiters.first)
