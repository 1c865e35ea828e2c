"""Who gets which item of a queue, and whose item comes in, between tasks and threads.

It guarantees that no item is lost or doubled, whoever is cancelled when, that the bound is never
exceeded, and that those who wait are served in the order in which they came. Nothing in here waits:
that is left to the two faces, which call `_queue_getter`, wait, and call `_take_granted`; or
`_place_or_queue`, wait, and `_put_granted`. What an item is taken from is in `_stock`.
"""

# An item that is granted to a getter stays in `_items` until that one goes on and takes it; so a
# getter that is cancelled meanwhile has taken nothing, and the bound holds all the time. It belongs
# to no `qsize`. A putter keeps its item until it goes on, and has a place until then. Whoever grants
# something wakes its waiter in a `finally`: KeyboardInterrupt most often comes after a call such as
# `release`, and he who waits in another thread must not wait for ever.
#
#   Rule 1: a getter waits only while no item is free: an item that comes then is granted at once.
#           So who comes takes what is free and need not look whether others wait. While items are
#           granted, which were put before, he is given the first of those, and the free one is
#           granted in its place: items come out in the order in which they were put, whoever is
#           cancelled. To look whether any are granted and to take a free one is one step under the
#           GIL, which is not let go of before the call; were another thread in between, nothing
#           would be lost, but a consumer could see two items in the other order.
#   Rule 2: a putter waits only while free items fill `_room`. What is free is taken without the
#           mutex, so room is made without it: who does that looks for putters after it, who waits
#           looks for room once he is in the queue, and who comes to put lets those first who wait.
#           One of the two sees the other, since the GIL gives all these steps one order; a build
#           without it would want both of them under the mutex.

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from aioconc.sync._errors import QueueShutDown
from aioconc.sync._stock import Stock
from aioconc.sync._wait_queue import Waitable, Waiter, WaitQueue

T = TypeVar("T")

# The room of a queue without a bound. The largest int of one digit, since others are compared at
# three times the costs; with more items than that, each `put` asks `_has_room`.
_NO_BOUND: Final = 2**30 - 1

# Items that `put_many` takes from its source at once, however large the queue.
_CHUNK: Final = 1_024

# Told to a waiter that gets nothing, since the queue was shut down.
_REFUSED: Final = "refused"


class Exchange(Waitable, Generic[T]):
    """What a queue is under its two faces."""

    __slots__ = (
        "_getters",
        "_is_calm",
        "_is_shutdown",
        "_items",
        "_joiners",
        "_maxsize",
        "_put_in",
        "_putters",
        "_reserved",
        "_room",
        "_take",
        "_unfinished",
        "_was_emptied",
    )

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__()
        self._maxsize = maxsize
        # Methods of the stock, not of the queue, so that the queue is in no circle of references.
        # `_put_in(item)` changes nothing if it raises; `_take()` raises IndexError if none is free.
        self._items = items = self._new_stock()
        self._put_in: Callable[[T], object] = items.put
        self._take: Callable[[], T] = items.take
        # Items granted to getters that have not gone on yet.
        self._reserved = 0
        # How many items may be free: the bound, less the items that are granted, less the places
        # granted to putters that have not gone on yet.
        self._room = maxsize if maxsize > 0 else _NO_BOUND
        self._unfinished = 0
        self._is_shutdown = False
        # If true, nobody waits for items or room, and it is not shut down: a put need only look
        # whether there is room. The first one that finds it so in `_put_now` sets it again.
        self._is_calm = True
        # Shut down with all that was in it: no reservation holds any more.
        self._was_emptied = False
        self._getters = WaitQueue()
        self._putters = WaitQueue()
        self._joiners = WaitQueue()

    def _new_stock(self) -> Any:
        """A `Stock`, or what has its methods."""
        return Stock()

    # ------------------------------------------------------------------ getting

    def _take_many(self, most: int) -> list[T]:
        """So many of the items that are free, or all."""
        items: list[T] = []
        try:
            while self._items and len(items) < most:
                items.append(self._take_next() if self._reserved else self._take())
        except IndexError:  # another thread was faster
            pass
        if items and self._putters:
            self._let_in()
        return items

    def _take_next(self) -> T:
        """Take the item that is next, granted ones included; IndexError: none is free."""
        with self._mutex:
            item: T = self._items.take_next()
            return item

    def _queue_getter(self, waiter: Waiter) -> bool:
        """Queue the waiter for an item; False: there is a free one by now."""
        woken: Sequence[Waiter] = ()
        for _ in self._entry:
            try:
                if self._items:
                    return False
                if self._is_shutdown and not self._reserved:
                    raise self._nothing_left()
                self._getters.add(waiter)
                self._is_calm = False
                if self._putters:  # who took an item was interrupted before he let them in
                    woken = self._settle()
            finally:
                self._mutex.release()
            break
        if woken:
            self._wake(woken)
        return True

    def _take_granted(self, waiter: Waiter) -> T:
        """The item that was granted to the waiter."""
        item: Any = None
        woken: Sequence[Waiter] = ()
        putter = None
        try:
            for _ in self._entry:
                try:
                    if waiter.value is _REFUSED or self._was_emptied:
                        raise self._nothing_left()
                    item = self._items.take_granted()
                    waiter.granted = False
                    self._reserved -= 1
                    if self._putters:  # its room is for the first of them
                        putter = self._putters.grant()
                    else:
                        self._room += 1
                        if self._getters:
                            woken = self._settle()
                finally:
                    self._mutex.release()
                break
        finally:
            if putter is not None:
                if not putter.wake():
                    self._give_up(putter)
            elif woken:
                self._wake(woken)
        return item  # type: ignore[no-any-return]

    def _nothing_left(self) -> QueueShutDown:
        return QueueShutDown("the queue was shut down, and nothing is left in it")

    # ------------------------------------------------------------------ putting

    def _put_now(self, item: T) -> bool:
        """Put the item if there is room that nobody waits for."""
        getter = None
        try:
            for _ in self._entry:
                try:
                    if self._is_shutdown or self._putters or not self._has_room():
                        return False
                    getter = self._add(item)
                    self._is_calm = not self._getters
                finally:  # also for items that cannot be compared
                    self._mutex.release()
                break
        finally:
            if getter is not None and not getter.wake():
                self._give_up(getter)
        return True

    def _has_room(self) -> bool:
        """With the mutex: whether one more item may be free."""
        return len(self._items) < self._room or self._maxsize <= 0

    def _add(self, item: T) -> Waiter | None:
        """With the mutex: put the item where there is room; the getter to which it is granted."""
        if not self._getters:
            self._put_in(item)
            self._unfinished += 1
            return None
        self._items.put_granted(item)
        self._unfinished += 1
        self._reserved += 1
        self._room -= 1
        return self._getters.grant()

    def _place_or_queue(self, waiter: Waiter) -> bool:
        """Grant the waiter a place, or queue it for one: True if it has to wait."""
        woken: Sequence[Waiter] = ()
        for _ in self._entry:
            try:
                if self._is_shutdown:
                    raise self._takes_nothing()
                if not self._putters and self._has_room():
                    self._room -= 1
                    waiter.granted = True
                    return False
                self._putters.add(waiter)
                self._is_calm = False
                # Who makes room from now on sees the waiter; room that was made before is looked
                # for.
                if len(self._items) < self._room:
                    woken = self._settle()
            finally:
                self._mutex.release()
            break
        if woken:
            self._wake(woken)
        return True

    def _put_granted(self, waiter: Waiter, items: Sequence[T], places: int = 1) -> None:
        """Put the items into so many places that were granted to the waiter."""
        woken: list[Waiter] = []
        try:
            with self._mutex:
                try:
                    if waiter.value is _REFUSED:
                        raise self._takes_nothing()
                    waiter.granted = False
                    self._room += places
                    if self._is_shutdown:
                        raise self._takes_nothing()
                    for item in items:
                        getter = self._add(item)
                        if getter is not None:
                            woken.append(getter)
                finally:  # also for items that cannot be compared
                    if self._putters and len(self._items) < self._room:
                        woken += self._settle()
        finally:
            if woken:
                self._wake(woken)

    def _put_one_granted(self, waiter: Waiter, item: T) -> None:
        """Put the item into the place that was granted to the waiter."""
        is_alone = False
        getter = None
        try:
            for _ in self._entry:
                try:
                    if not self._is_shutdown and not self._putters:
                        is_alone = True
                        waiter.granted = False
                        self._room += 1
                        getter = self._add(item)
                finally:  # also for items that cannot be compared
                    self._mutex.release()
                break
        finally:
            if getter is not None and not getter.wake():
                self._give_up(getter)
        if not is_alone:
            self._put_granted(waiter, (item,))

    def _fill(self, waiter: Waiter, first: T, source: Iterator[T]) -> None:
        """Put the item, and as many more of `source` as there is room for."""
        more = 0
        chunk = [first]
        try:
            with self._mutex:
                room = min(self._room - len(self._items), _CHUNK)
                more = 0 if self._is_shutdown or self._putters else max(room, 0)
                self._room -= more
            # The source may do what it likes, so not under the mutex.
            chunk.extend(islice(source, more))
        finally:
            self._put_granted(waiter, chunk, more + 1)

    def _takes_nothing(self) -> QueueShutDown:
        return QueueShutDown("the queue was shut down, and takes nothing more")

    # ------------------------------------------------------------------ those who wait

    def _let_in(self) -> None:
        """Items were taken: the room is for those who wait for it."""
        woken: Sequence[Waiter] = ()
        try:
            with self._mutex:
                woken = self._settle()
        finally:
            self._wake(woken)

    def _settle(self) -> Sequence[Waiter]:
        """With the mutex: grant room to those who wait for it; at the end, refuse all who wait."""
        woken: list[Waiter] = []
        if self._is_shutdown:
            woken += self._putters.grant_all(_REFUSED)
            # An item that is reserved comes back if its getter is cancelled.
            if not self._reserved:
                woken += self._getters.grant_all(_REFUSED)
        while self._putters and len(self._items) < self._room:
            self._room -= 1
            woken.append(self._putters.grant())
        return woken

    def _undo(self, waiter: Waiter) -> Sequence[Waiter]:
        if waiter.value is _REFUSED:
            return ()
        if waiter.queue is self._putters:
            self._room += 1
        elif waiter.queue is self._getters and not self._was_emptied:
            if self._getters:
                return (self._getters.grant(),)
            self._reserved -= 1
            self._room += 1
            self._items.give_back()
        return self._settle()

    def _queue_join(self, waiter: Waiter) -> bool:
        with self._mutex:
            if not self._unfinished:
                return False
            self._joiners.add(waiter)
        return True
