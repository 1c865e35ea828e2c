"""Cutting a source into chunks, read no faster than the map takes them.

A chunk is read when the map has a place for it. Reading stops early where the source is slow, so
that the loop is not held up, and at an error of the source, which is raised after the items before
it have had their chunk. How large a chunk should be is asked for each time.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from itertools import islice
from time import monotonic
from typing import Any, Final

from aioconc.flow._chunk import Chunk

# Reading a chunk may hold the loop for so many seconds; as long as calls that never suspend may.
_SLICE: Final = 0.001

# Items read between two looks at the clock, of which one costs as much as reading two items.
_AT_A_TIME: Final = 32


class ChunkFeed(Generator[Chunk, Any, None]):
    """The chunks of a source; a generator, so that it is closed with the map.

    Args:
        source: any iterable.
        size: how many items the next chunk should have, given how many are left, or None.
        make: makes a chunk of the number of its first item and its items.
    """

    def __init__(
        self,
        source: Iterable[Any],
        size: Callable[[int | None], int],
        make: Callable[[int, list[Any]], Chunk],
    ) -> None:
        self._source = source
        self._size = size
        self._make = make
        self._iterator: Iterator[Any] | None = None
        self._total = len(source) if isinstance(source, Sized) else None
        # Items read.
        self.read = 0
        # What the source raised after the items of the last chunk; or it has ended.
        self._error: BaseException | None = None
        self._ended = False

    def send(self, value: Any, /) -> Chunk:
        """The next chunk."""
        if self._ended:
            self._raise()
        if self._iterator is None:
            # Here and not at once: now it runs in the context that belongs to the source.
            self._iterator = iter(self._source)
        left = None if self._total is None else max(1, self._total - self.read)
        size = self._size(left)
        items: list[Any] = []
        late = 0.0
        try:
            while (missing := size - len(items)) > 0:
                part = min(missing, _AT_A_TIME)
                before = len(items)
                # If it raises, what came before stays in the list.
                items.extend(islice(self._iterator, part))
                if len(items) - before < part:
                    self._ended = True
                    break
                now = monotonic()
                if not late:
                    late = now + _SLICE
                elif now > late:
                    break
        except BaseException as error:
            self._ended = True
            self._error = error
        if not items:
            self._raise()
        first = self.read
        self.read += len(items)
        return self._make(first, items)

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is None:
            raise StopIteration
        try:
            raise error
        finally:
            del error

    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Chunk:
        """As for any generator; nobody calls it."""
        self._ended = True
        raise error if value is None else value

    def close(self) -> None:
        """Close the source, if it is a generator."""
        self._ended = True
        if isinstance(self._source, Generator):
            self._source.close()
        elif isinstance(self._iterator, Generator):
            self._iterator.close()
