"""What the broker knows of queues: items that are pickles, in three orders.

It guarantees that an item is in the queue, or on its way to one consumer that has not yet said
"taken", or taken; one that is not taken comes back, in its place. So a consumer that dies or is
cancelled before it has an item loses none, and a producer puts its items whole or not at all.
"""

# A getter:  waits -> is given items, kept in `_giving` -> "took": they are his
#                                          '-- cancel, or its death: back into the queue
# A putter:  waits -> is given places, kept in `_placed` -> "commit": its items are in the queue
#                                          '-- cancel, or its death: the places are free
#
# Rule 1: a getter waits only while there are no items, a putter only while `_used` fills the bound.
# Rule 2: what is in `_giving` and `_placed` fills the bound too: it may come, or come back.
# Rule 3: after `shutdown` a getter waits only while something may still come, or come back.

import heapq
import sys
from collections import Counter, deque
from typing import Any, ClassVar

from aioconc.channels._manager._broker import Connection, Death, Party, Request, Thing, Waiters
from aioconc.channels._manager._values import PART, PART_BYTES
from aioconc.errors import OwnerDied
from aioconc.sync._errors import QueueEmpty, QueueFull, QueueShutDown
from aioconc.sync._queue_orders import _Entry

# A pickle, and for a priority queue what is compared.
Item = tuple[bytes, Any]

Key = tuple[Connection, int]


class QueueThing(Thing):
    """First in, first out."""

    asks: ClassVar[frozenset[str]] = frozenset(
        {"get", "get_nowait", "join", "look", "put", "put_nowait"}
    )
    tells: ClassVar[frozenset[str]] = frozenset({"commit", "shutdown", "task_done", "took"})

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self._limit = maxsize if maxsize > 0 else sys.maxsize
        self._items: Any = self._empty()
        self._giving: dict[Key, list[Any]] = {}
        # Places, by the putter; and their sum.
        self._placed: dict[Key, list[Item]] = {}
        self._getters = Waiters()
        self._putters = Waiters()
        self._joiners = Waiters()
        self._unfinished = 0
        self._is_shutdown = False
        self._throws_away = False
        # Items that a process took and has not called done.
        self._with: Counter[Connection] = Counter()
        # Those of them that ended with their process, until `join` has told it.
        self._lost = 0
        self._death: Death | None = None

    # ------------------------------------------------------------------ the order of items

    def _empty(self) -> Any:
        return deque()

    def _push(self, item: Item) -> None:
        self._items.append(item)

    def _pop(self) -> Any:
        return self._items.popleft()

    def _put_back(self, item: Any) -> None:
        self._items.appendleft(item)

    def _payload(self, item: Any) -> bytes:
        data: bytes = item[0]
        return data

    def _check(self, item: Item) -> None:
        """Refuse an item that has no place in the order."""

    # ------------------------------------------------------------------ getting

    def get(self, request: Request, most: int) -> None:
        """Wait for an item."""
        request.data = most
        if self._items:
            self._give(request)
        elif self._is_shutdown and not self._giving and not self._placed:
            request.refuse(_nothing_left())
        else:
            request.wait(self._getters)

    def get_nowait(self, request: Request) -> None:
        """An item that is there."""
        request.data = 1
        if self._items:
            self._give(request)
        elif self._is_shutdown:
            request.refuse(_nothing_left())
        else:
            request.refuse(QueueEmpty("the queue is empty"))

    def _give(self, request: Request) -> None:
        items: list[Any] = []
        payloads: list[bytes] = []
        size, most = 0, min(request.data, PART)
        while self._items and len(items) < most and size < PART_BYTES:
            items.append(self._pop())
            payloads.append(self._payload(items[-1]))
            size += len(payloads[-1])
        self._giving[request.key] = items
        request.grant(payloads)

    def took(self, party: Party, number: int) -> None:
        """Its items are the party's."""
        self._with[party.connection] += len(self._giving.pop((party.connection, number)))
        self._settle()

    # ------------------------------------------------------------------ putting

    def put(self, request: Request, item: Item, more: int | None) -> None:
        """Wait for places for the item and for up to so many more; the answer says how many.

        With None it is in the queue at once, with no `commit`, and cannot be taken back.
        """
        self._check(item)
        request.data = (item, more)
        if self._is_shutdown:
            request.refuse(_takes_nothing())
        elif self._used() < self._limit:
            self._place(request)
            self._settle()
        else:
            request.wait(self._putters)

    def put_nowait(self, request: Request, item: Item, more: int | None = 0) -> None:
        """As `put`, if there is room."""
        self._check(item)
        request.data = (item, more)
        if self._is_shutdown:
            request.refuse(_takes_nothing())
        elif self._used() >= self._limit:
            request.refuse(QueueFull(f"the queue is full: it may have {self.maxsize} items"))
        else:
            self._place(request)
            self._settle()

    def _place(self, request: Request) -> None:
        item, more = request.data
        if more is None:
            self._push(item)
            self._unfinished += 1
            request.grant()
        else:
            places = min(self._limit - self._used(), 1 + more)
            # The item stands for all of its places until they are filled.
            self._placed[request.key] = [item] * places
            request.grant(places)

    def commit(self, party: Party, number: int, more: "list[Item]") -> None:
        """The putter goes on: its item is in the queue, with others that it had places for."""
        places = self._placed.pop((party.connection, number))
        if not self._throws_away:
            for item in (places[0], *more[: len(places) - 1]):
                self._push(item)
                self._unfinished += 1
        self._settle()

    # ------------------------------------------------------------------ the end of work

    def task_done(self, party: Party) -> None:
        """One item that the process took is done."""
        if self._with[party.connection]:
            self._with[party.connection] -= 1
            self._done(1)

    def _done(self, n: int) -> None:
        self._unfinished -= n
        if not self._unfinished:
            if self._joiners:
                while self._joiners:
                    self._tell_joiner(self._joiners.first)
                self._lost = 0

    def join(self, request: Request) -> None:
        """Wait until all is done."""
        if self._unfinished:
            request.wait(self._joiners)
        else:
            self._tell_joiner(request)
            self._lost = 0

    def _tell_joiner(self, request: Request) -> None:
        if self._lost:
            assert self._death is not None
            request.refuse(_items_lost(self._death, self._lost))
        else:
            request.grant()

    def shutdown(self, party: Party, immediate: bool) -> None:
        """Take nothing more."""
        self._is_shutdown = True
        self._putters.refuse_all(_takes_nothing)
        if immediate:
            self._throws_away = True
            thrown = len(self._items)
            self._items = self._empty()
            if thrown:
                self._done(thrown)
        self._settle()

    # ------------------------------------------------------------------ leaving

    def undo(self, party: Party, number: int) -> None:
        """Items come back, or places are free."""
        self._take_back((party.connection, number))
        self._settle()

    def _take_back(self, key: Key) -> None:
        self._placed.pop(key, None)
        items = self._giving.pop(key, [])
        if self._throws_away:
            if items:
                self._done(len(items))
            return
        for item in reversed(items):
            self._put_back(item)

    def abandon(self, party: Party, death: Death) -> None:
        """What it was about to get or put is as before; what it took and has not done is lost."""
        if death.of_call:
            return  # its process may yet say that they are done
        mine = party.connection
        for key in [key for key in (*self._giving, *self._placed) if key[0] is mine]:
            self._take_back(key)
        lost = self._with.pop(mine, 0)
        if lost:
            self._lost += lost
            self._death = death
            self._done(lost)
        self._settle()

    # ------------------------------------------------------------------ looking

    def look(self, request: Request) -> None:
        """Its state."""
        request.grant(
            (
                len(self._items),
                self._used(),
                self.maxsize,
                len(self._getters),
                len(self._putters),
                len(self._joiners),
                self._unfinished,
                self._is_shutdown,
            )
        )

    def _used(self) -> int:
        return len(self._items) + _sum(self._giving) + _sum(self._placed)

    def _settle(self) -> None:
        """Give what there is to those who wait for it."""
        while True:
            while self._items and self._getters:
                self._give(self._getters.first)
            if not self._putters or self._used() >= self._limit:
                break
            self._place(self._putters.first)
        if self._is_shutdown and not self._items and not self._giving and not self._placed:
            self._getters.refuse_all(_nothing_left)


def _sum(held: "dict[Key, list[Any]]") -> int:
    return sum(map(len, held.values())) if held else 0


class LifoThing(QueueThing):
    """Last in, first out."""

    def _empty(self) -> Any:
        return []

    def _pop(self) -> Any:
        return self._items.pop()

    def _put_back(self, item: Any) -> None:
        self._items.append(item)


class PriorityThing(QueueThing):
    """Lowest first; equal ones in the order in which they were put."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self._number = 0

    def _empty(self) -> Any:
        return []

    def _check(self, item: Item) -> None:
        if self._items:
            one, other = _Entry(item[1], 0, b""), self._items[0]
            # Raises what the caller is told.
            _ = one < other or other < one

    def _push(self, item: Item) -> None:
        self._number += 1
        self._put_back(_Entry(item[1], self._number, item[0]))

    def _put_back(self, item: Any) -> None:
        try:
            heapq.heappush(self._items, item)
        except TypeError:
            # Keys that fit what was first, but not each other: no order of them is wrong. The
            # entry is in.
            pass

    def _pop(self) -> Any:
        best = self._items[0]
        try:
            heapq.heappop(self._items)
        except TypeError:
            pass  # as above; `best` is out
        return best

    def _payload(self, item: Any) -> bytes:
        data: bytes = item.item
        return data


def _nothing_left() -> QueueShutDown:
    return QueueShutDown("the queue was shut down, and nothing is left in it")


def _takes_nothing() -> QueueShutDown:
    return QueueShutDown("the queue was shut down; it takes nothing more")


def _items_lost(death: Death, count: int) -> OwnerDied:
    return death.error(
        f"with {count} item{'' if count == 1 else 's'} of this queue that "
        f"{'was' if count == 1 else 'were'} not done, the last of those that died so",
        "put them again if they must be done; they count as done now",
    )
