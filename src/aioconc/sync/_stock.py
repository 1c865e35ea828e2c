"""What is in a queue: items that are free, and those granted to getters that have not gone on yet.

It guarantees that an item is in one of the two, or taken, whatever threads do at once, and that
getters are given the item that is next when they go on. Who may have an item, and how many there
may be, is left to the queue; other orders than this one are in `_queue_orders`.
"""

# `take` needs no mutex: any thread may call it at any time. All else is called with the queue's
# mutex, and only there do items come in. So a stock that is seen empty with the mutex stays empty
# until the mutex is released.
#
# `take` of a deque is one call into C, which no other thread interrupts: under the GIL, and by the
# deque's own lock in a build without one.

from collections import deque
from typing import Any


class Stock(deque[Any]):
    """First in, first out. As a sequence: the items that are free."""

    # Items granted, oldest first: older than all that are free.
    __slots__ = ("granted",)

    put = deque.append
    take = deque.popleft

    def __init__(self) -> None:
        super().__init__()
        self.granted: deque[Any] = deque()

    def put_granted(self, item: Any) -> None:
        """Add an item that is granted to a getter at once."""
        self.granted += (item,)  # no call, as in `take_granted`

    def take_next(self) -> Any:
        """Take the item that is next, of all, if one is free; that one is granted in its place."""
        self.granted.append(self.popleft())
        return self.granted.popleft()

    def take_granted(self) -> Any:
        """A getter goes on, with the item that is next."""
        # No call, after which KeyboardInterrupt would lose what the getter could still give back.
        item = self.granted[0]
        del self.granted[0]
        return item

    def give_back(self) -> None:
        """A getter gives up: one item less is granted, the last of them."""
        self.appendleft(self.granted.pop())

    def throw_away(self) -> int:
        """Without all that is in it; how many those were."""
        count = len(self.granted)
        self.granted.clear()
        while self:
            try:
                self.take()
            except IndexError:  # taken by another thread
                break
            count += 1
        return count
