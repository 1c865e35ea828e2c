"""Queues that give their items in another order: last in first out, and lowest first.

What waits, how, and what a cancel does is that of `Queue`.
"""

import _thread
import heapq
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from aioconc.sync._queue import Queue
from aioconc.sync._stock import Stock

T = TypeVar("T")


class LifoQueue(Queue[T]):
    """A `Queue` that gives the item that was put last.

    Equals `asyncio.LifoQueue`, and `queue.LifoQueue` under `sync`.

    Example:
        >>> queue = LifoQueue()
        >>> queue.put_nowait("first"), queue.put_nowait("last")
        (None, None)
        >>> queue.get_nowait()
        'last'
    """

    __slots__ = ()

    def _new_stock(self) -> Stock:
        return _Lifo()


class _Lifo(Stock):
    """The item that was put last is next."""

    __slots__ = ()

    take = deque.pop

    take_next = deque.pop  # free ones came after all that are granted

    def take_granted(self) -> Any:
        try:
            item = self.pop()
        except IndexError:
            return self.granted.pop()
        self.give_back()  # in its place
        return item


class _Entry:
    """An item in a heap. Equal ones go in the order in which they were put."""

    __slots__ = ("item", "key", "number")

    def __init__(self, key: Any, number: int, item: Any) -> None:
        self.key = key
        self.number = number
        self.item = item

    def __lt__(self, other: "_Entry") -> bool:
        mine, theirs = self.key, other.key
        try:
            if mine < theirs:
                return True
            if theirs < mine:
                return False
        except Exception:
            # `(priority, payload)` with the same priority, and payloads without an order.
            if not (type(mine) is type(theirs) is tuple and mine and theirs):
                raise
            if mine[0] != theirs[0]:
                raise
        return self.number < other.number


class PriorityQueue(Queue[T]):
    """A `Queue` that gives the lowest item first; equal ones in the order in which they were put.

    Equals `asyncio.PriorityQueue`, and `queue.PriorityQueue` under `sync`. Items are often tuples
    `(priority, payload)`: where priorities are equal and payloads cannot be compared, those count
    as equal.

    Args:
        maxsize: items that may be in the queue; <= 0: no bound.
        key: gives what is compared, as with `sorted`; None: the items themselves. It is called
            under the queue's mutex, so it must be short and may not use the queue.

    Example:
        >>> queue = PriorityQueue(key=len)
        >>> for word in ("long", "word", "a"):
        ...     queue.put_nowait(word)
        >>> [queue.get_nowait() for _ in range(3)]
        ['a', 'long', 'word']
    """

    __slots__ = ("_key",)

    def __init__(self, maxsize: int = 0, *, key: Callable[[T], Any] | None = None) -> None:
        self._key = key
        super().__init__(maxsize)

    def _new_stock(self) -> "_Heap":
        return _Heap(self._key, self._mutex)


class _Heap:
    """The lowest item is next. Granted ones stay in the heap: which they are is seen at the end."""

    __slots__ = ("_entries", "_granted", "_key", "_mutex", "_number")

    def __init__(self, key: Callable[[Any], Any] | None, mutex: "_thread.LockType") -> None:
        self._entries: list[_Entry] = []
        self._granted = 0
        self._key = key
        # Of the queue. To compare may run code, so unlike with a deque, to take is not one step.
        self._mutex = mutex
        self._number = 0

    def __len__(self) -> int:
        # Not below 0: asked without the mutex, it may see one number before and one after a change.
        return max(0, len(self._entries) - self._granted)

    def put(self, item: Any) -> None:
        """Add an item; if it cannot be compared, it raises and changes nothing."""
        key = item if self._key is None else self._key(item)
        self._number += 1
        entry = _Entry(key, self._number, item)
        heap = self._entries
        # All comparisons first: `heapq.heappush` would leave the item in the heap.
        path = [len(heap)]
        while path[-1] and entry < heap[(path[-1] - 1) >> 1]:
            path.append((path[-1] - 1) >> 1)
        heap.append(entry)
        for below, above in pairwise(path):
            heap[below] = heap[above]
        heap[path[-1]] = entry

    def take(self) -> Any:
        """Take the lowest; IndexError: none is free."""
        with self._mutex:
            return self.take_next()

    def take_next(self) -> Any:
        """As `take`, with the mutex."""
        if not len(self):
            raise IndexError("no item is free")
        return self._pop()

    def put_granted(self, item: Any) -> None:
        """Add an item that is granted to a getter at once."""
        self.put(item)
        self._granted += 1

    def take_granted(self) -> Any:
        """A getter goes on, with the item that is next."""
        self._granted -= 1
        return self._pop()

    def give_back(self) -> None:
        """A getter gives up: one item less is granted."""
        self._granted -= 1

    def throw_away(self) -> int:
        """Without all that is in it; how many those were."""
        count = len(self._entries)
        self._entries.clear()
        self._granted = 0
        return count

    def _pop(self) -> Any:
        best = self._entries[0]
        try:
            heapq.heappop(self._entries)
        except Exception:
            # Two others cannot be compared, so no order of them is wrong. `best` is out.
            pass
        return best.item
