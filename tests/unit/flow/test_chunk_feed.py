"""A source cut into chunks."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from aioconc.flow import _chunk_feed
from aioconc.flow._chunk import Chunk
from aioconc.flow._chunk_feed import ChunkFeed


def feed_of(source: Any, size: int = 3) -> ChunkFeed:
    return ChunkFeed(
        source,
        lambda left: size if left is None else min(size, left),
        lambda first, items: Chunk(first, items, "raise", "fn", lambda chunk: None),
    )


def cut(feed: ChunkFeed) -> list[tuple[int, list[Any]]]:
    return [(chunk.first, chunk.left()) for chunk in feed]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 70])
def test_all_items_come_once_and_in_order(length: int) -> None:
    """Whatever the length; the chunks know the number of their first item."""
    for source in (range(length), iter(range(length))):
        chunks = cut(feed_of(source))
        assert [item for _, items in chunks for item in items] == [*range(length)]
        assert [first for first, _ in chunks] == [*range(0, length, 3)]


def test_no_item_is_read_before_its_chunk_is_wanted() -> None:
    """A source without an end will do."""
    numbers = itertools.count()
    feed = feed_of(numbers, size=40)
    assert next(feed).left() == [*range(40)]
    assert feed.read == 40
    assert next(numbers) == 40


def test_an_error_comes_after_the_items_before_it() -> None:
    """They have a chunk; then the error is raised, once."""

    def source() -> Iterator[int]:
        yield from range(4)
        raise LookupError("no more")

    feed = feed_of(source())
    assert [next(feed).left(), next(feed).left()] == [[0, 1, 2], [3]]
    with pytest.raises(LookupError, match="no more"):
        next(feed)
    with pytest.raises(StopIteration):
        next(feed)


def test_closing_closes_a_generator() -> None:
    """Also one that was never read, and only once."""
    closed: list[str] = []

    def source(name: str) -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(name)

    feed = feed_of(source("read"))
    next(feed)
    feed.close()
    feed.close()
    assert closed == ["read"]
    with pytest.raises(StopIteration):
        next(feed)
    unread = source("unread")
    feed_of(unread).close()
    with pytest.raises(StopIteration):
        next(unread)


def test_what_an_iterable_makes_is_closed_too() -> None:
    """Its iterator may be a generator."""
    closed: list[int] = []

    class Source:
        def __iter__(self) -> Iterator[int]:
            try:
                yield from range(100)
            finally:
                closed.append(1)

    feed = feed_of(Source())
    next(feed)
    feed.close()
    assert closed == [1]


def test_a_slow_source_gives_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops after a millisecond, so that the loop goes on."""
    clock = itertools.count(0.0, 0.0006)
    monkeypatch.setattr(_chunk_feed, "monotonic", lambda: next(clock))
    feed = feed_of(itertools.count(), size=10_000)
    assert 32 <= len(next(feed).left()) <= 32 * 4


def test_nothing_can_be_thrown_into_it() -> None:
    """It ends, as any generator would."""
    feed = feed_of(range(10))
    with pytest.raises(LookupError):
        feed.throw(LookupError("not here"))
    with pytest.raises(StopIteration):
        next(feed)
