"""The addresses that a crawl has yet to visit, as a source that grows while it is read.

Each address is given out once. The source ends when every address that went out is done and none
waits, which nobody can know in advance: reading pages finds more of them. Order is first come,
first served; how many are in flight is the reader's affair.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable


class Frontier:
    """An async iterator of addresses, to which more are added while it runs.

    Args:
        start: the first addresses.
        most: how many addresses it gives out at most, int >= 1, or None.
        wanted: tells whether to visit an address; by default all.

    Example:
        >>> async def main():
        ...     frontier = Frontier(["a"])
        ...     async for url in frontier:
        ...         frontier.add({"a": ["b", "c"], "b": ["a"], "c": []}[url])
        ...         print(url)
        ...         frontier.done()
        >>> asyncio.run(main())
        a
        b
        c
    """

    # In `_open` iff added and not done; the source ends when this is 0 and `_waiting` is empty.
    _open: int

    def __init__(
        self,
        start: Iterable[str] = (),
        *,
        most: int | None = None,
        wanted: Callable[[str], bool] = lambda url: True,
    ) -> None:
        self._most = most
        self._wanted = wanted
        self._seen: set[str] = set()
        self._waiting: deque[str] = deque()
        self._open = 0
        self._changed = asyncio.Event()
        self.add(start)

    def add(self, urls: Iterable[str]) -> None:
        """Visit these too, unless they are known or not wanted."""
        for url in urls:
            if self._most is not None and len(self._seen) >= self._most:
                return
            if url not in self._seen and self._wanted(url):
                self._seen.add(url)
                self._waiting.append(url)
                self._open += 1
        self._changed.set()

    def done(self) -> None:
        """One address that was given out is dealt with, and has added what it had to add."""
        self._open -= 1
        self._changed.set()

    @property
    def found(self) -> int:
        """How many addresses were added so far."""
        return len(self._seen)

    def __aiter__(self) -> "Frontier":
        return self

    async def __anext__(self) -> str:
        while not self._waiting:
            if self._open == 0:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()
