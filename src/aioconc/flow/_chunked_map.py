"""A map whose calls take a chunk of items each, and whose results are those of the items.

The window sees chunks, and its limit counts them; the reader sees what came of their items, as it
comes. So an item costs what reading it, working on it and handing its result over cost, and
nothing for the window. For maps in which nothing is decided item by item but its failure.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar

from aioconc._internal._check import check_limit
from aioconc.flow._chunk import Chunk, OnError
from aioconc.flow._chunk_feed import ChunkFeed
from aioconc.flow._map import MapRun
from aioconc.flow._outcomes import Policy
from aioconc.flow._sinks import PENDING, Stream
from aioconc.flow._window import Window

R = TypeVar("R")


class ChunkedRun(MapRun[R]):
    """One run of a map in chunks, not started yet.

    Args:
        call: async function of a chunk: sees to it that each item has its outcome.
        source: sync iterable of items.
        limit: most items in flight, or None: as many as `chunks` chunks hold.
        chunks: most chunks in flight.
        size: how many items the next chunk should have, given how many are left, or None.
        ordered: results in the order of the items, or as they come.
        on_error: what the failure of one item does.
        name: the user's function.
    """

    def __init__(
        self,
        call: Callable[[Chunk], Awaitable[None]],
        source: Iterable[Any],
        *,
        limit: float | None,
        chunks: int,
        size: Callable[[int | None], int],
        ordered: bool,
        on_error: OnError,
        name: str,
    ) -> None:
        self._items_in_flight = limit
        self._chunks = chunks
        self._wanted = size
        self._feed = ChunkFeed(source, self._size, self._make)
        self._sink: ChunkList | ChunkStream[R] | None = None
        super().__init__(
            self._run_chunk,  # type: ignore[arg-type]  # its results are not what the reader gets
            self._feed,
            Policy(limit=self._chunks_for(limit), on_error=on_error),
            ordered=ordered,
            name=name,
        )
        self._call = call

    # -- the limit, in items --------------------------------------------------------------------

    @property
    def limit(self) -> float:
        """Most items in flight. May be set while the map runs."""
        if self._items_in_flight is not None:
            return self._items_in_flight
        return self._chunks * self._wanted(None)

    @limit.setter
    def limit(self, value: float) -> None:
        check_limit("limit", value)
        MapRun.limit.__set__(self, self._chunks_for(value))  # type: ignore[attr-defined]  # of a property
        self._items_in_flight = value

    def _chunks_for(self, limit: float | None) -> int:
        return self._chunks if limit is None else int(min(self._chunks, limit))

    def _size(self, left: int | None) -> int:
        size = self._wanted(left)
        if self._items_in_flight is not None and self._items_in_flight != math.inf:
            size = min(size, int(self._items_in_flight // self._policy.limit))
        return max(1, size)

    # -- a chunk --------------------------------------------------------------------------------

    def _make(self, first: int, items: list[Any]) -> Chunk:
        assert self._sink is not None
        return self._sink.make(first, items, self._policy.on_error, self._name)

    async def _run_chunk(self, chunk: Chunk) -> None:
        await self._call(chunk)
        if chunk.failure is not None:
            raise chunk.failure

    def _make_list(self) -> "ChunkList":
        sink = self._sink = ChunkList(self._feed, ordered=self._ordered)
        return sink

    def _make_stream(self) -> "ChunkStream[R]":
        sink = self._sink = ChunkStream(self._feed, ordered=self._ordered)
        return sink


class OpenChunks:
    """The chunks that are in flight, by the number of their first item."""

    # Bound to a sink that also is a `Stream`, so these are all it has.
    def __init__(self, feed: ChunkFeed) -> None:
        self._feed = feed
        self._open: dict[int, Chunk] = {}

    def make(self, first: int, items: list[Any], on_error: OnError, label: str) -> Chunk:
        """The next chunk of the source."""
        chunk = self._open[first] = Chunk(first, items, on_error, label, self.news)
        return chunk

    def indexes(self) -> Iterator[int]:
        """Numbers for the chunks: those of their first items."""
        while True:
            yield self._feed.read

    def put(self, index: int, value: Any) -> None:
        """The call of a chunk has ended, and well if there is no value."""
        chunk = self._open.pop(index)
        if isinstance(value, Exception):
            chunk.fail_all(value)
        chunk.end()

    def news(self, chunk: Chunk) -> None:
        """It has values, or has ended."""


class ChunkList(OpenChunks):
    """The results of all items."""

    def __init__(self, feed: ChunkFeed, *, ordered: bool) -> None:
        super().__init__(feed)
        self._ordered = ordered
        # In the order of the items.
        self._chunks: list[Chunk] = []
        # In the order in which they came.
        self._arrived: list[Any] = []

    def make(self, first: int, items: list[Any], on_error: OnError, label: str) -> Chunk:
        chunk = super().make(first, items, on_error, label)
        if self._ordered:
            self._chunks.append(chunk)
        return chunk

    def news(self, chunk: Chunk) -> None:
        if not self._ordered:
            self._arrived += chunk.values
            chunk.values.clear()

    def head(self) -> int:
        return -1

    def ended(self) -> None:
        pass

    def values(self) -> list[Any]:
        if self._ordered:
            return [*chain.from_iterable(chunk.values for chunk in self._chunks)]
        return self._arrived


class Unread:
    """Results that wait for the reader: of the first chunk, or of any that has some."""

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        # Chunks that the reader comes to, in this order. If any will do: those that have values.
        self.chunks: deque[Chunk] = deque()
        # Chunks that the reader has done with and the window has not been told of.
        self.emptied = 0

    def news(self, chunk: Chunk) -> bool:
        """Whether the reader has something to take, or to wait for no more."""
        if self.ordered:
            return chunk is self.chunks[0]
        if chunk.taken < len(chunk.values):
            if chunk not in self.chunks:
                self.chunks.append(chunk)
        elif chunk.over and chunk not in self.chunks:
            self.emptied += 1
        return True

    def pop(self) -> Any:
        chunks = self.chunks
        while chunks:
            chunk = chunks[0]
            at = chunk.taken
            if at < len(chunk.values):
                value = chunk.values[at]
                chunk.values[at] = None
                chunk.taken = at + 1
                return value
            if chunk.over:
                self.emptied += 1
            elif self.ordered:
                break
            chunks.popleft()
        return PENDING

    def put(self, index: int, value: Any) -> bool:
        raise NotImplementedError

    def head(self) -> int:
        return -1


class ChunkStream(OpenChunks, Stream[R]):
    """The results of all items, for a reader."""

    def __init__(self, feed: ChunkFeed, *, ordered: bool) -> None:
        OpenChunks.__init__(self, feed)
        self._unread = Unread(ordered=ordered)
        Stream.__init__(self, self._unread)

    def attach(self, window: Window, refill: int) -> None:
        super().attach(window, 1)

    def make(self, first: int, items: list[Any], on_error: OnError, label: str) -> Chunk:
        chunk = super().make(first, items, on_error, label)
        if self._unread.ordered:
            self._unread.chunks.append(chunk)
        return chunk

    def news(self, chunk: Chunk) -> None:
        if self._unread.news(chunk):
            self._wake()

    def _make_room(self, window: Window) -> None:
        self._taken = 0
        if self._unread.emptied:
            emptied, self._unread.emptied = self._unread.emptied, 0
            window.delivered(emptied)
