"""Backpressure from a loop to a worker thread: a bounded number of things may be under way.

The thread takes a credit before it makes a thing and the loop gives it back when the thing is
used up, so that memory follows the bound. A thread never waits for a loop that is closed, nor for
a reader that has left. What is counted, and how it travels, is left to the caller.
"""

import asyncio
import threading
from collections.abc import Callable

# Seconds after which a waiting thread looks whether the loop was closed, which wakes nobody. A
# reader that leaves gives a credit back and so wakes the thread at once.
_LOOK = 0.5


class Credits:
    """Credits that one thread takes and one loop gives back."""

    __slots__ = ("_free", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, places: int) -> None:
        self._loop = loop
        self._free = threading.Semaphore(places)

    def take(self, unwanted: Callable[[], bool]) -> bool:
        """In the thread: wait for a credit; False if there is nobody to make anything for.

        Args:
            unwanted: tells whether the other side has lost interest. Who makes it true calls
                `give_back` afterwards, and the thread looks at once.
        """
        while not self._free.acquire(timeout=_LOOK):
            if self._loop.is_closed():
                return False
        return not unwanted()

    def give_back(self) -> None:
        """One thing less is under way. Any thread may call it."""
        self._free.release()
