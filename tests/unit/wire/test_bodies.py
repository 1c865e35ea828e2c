"""Bodies and frames: what goes in comes out, inline or through an arena."""

import socket
from pathlib import Path
from threading import Thread
from typing import Any, Self

import pytest
from hypothesis import given, strategies as st

from aioconc._wire import _frames as wire
from aioconc._wire._arenas import Arenas
from aioconc._wire._body import LARGE, OUT_OF_BAND, Laden, dump, is_slow, joined, load, ready
from aioconc._wire._descriptors import ancillary, receive
from aioconc._wire._loans import Loans


def descriptors() -> int:
    """How many descriptors this process has."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


class Wire:
    """Two ends of a socket, and the arenas of the sender."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.arenas, self.loans = Arenas(), Loans()
        self.decoder = wire.Decoder(self.loans)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.ends:
            each.close()

    def carry(self, value: Any, *, size: int = 1 << 20, writable: bool = False) -> Any:
        """`value` as it arrives, read in pieces of `size` bytes."""
        pieces = dump(ready(value), self.arenas)
        first = pieces[0]
        if isinstance(first, Laden):
            frame = wire.encode(wire.RESULT, 7, *pieces, laden=first)
            with_it = ancillary(first.carried)
        else:
            frame = wire.encode(wire.RESULT, 7, *pieces)
            with_it = []
        # In a thread: the socket holds less than the largest of the frames.
        sender = Thread(target=self.ends[0].sendmsg, args=(frame, with_it))
        sender.start()
        frames: list[Any] = []
        while not frames:
            frames = self.decoder.feed(*receive(self.ends[1], size))
        sender.join()
        ((kind, number, payload, _),) = frames
        assert (kind, number) == (wire.RESULT, 7)
        return load(payload, writable=writable)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.integers(OUT_OF_BAND - 2, OUT_OF_BAND + 2).map(bytes),
    st.integers(OUT_OF_BAND - 2, OUT_OF_BAND + 2).map(bytearray),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(values, st.sampled_from([1, 17, 4096, 1 << 20]))
def test_values_come_out_as_they_went_in(value: Any, size: int) -> None:
    """Whatever their shape, and in whatever pieces the bytes arrive."""
    with Wire() as link:
        got = link.carry(value, size=max(size, 512) if len(repr(value)) > 4000 else size)
        assert got == value
        assert type(got) is type(value)


@given(values)
def test_without_an_arena_values_come_out_as_they_went_in(value: Any) -> None:
    """All is inline then."""
    assert load(b"".join(dump(ready(value)))) == value


@pytest.mark.parametrize("size", [0, 10, OUT_OF_BAND, LARGE + 1])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_own_their_memory(kind: type, size: int) -> None:
    """They are copies, so their arena is free again at once."""
    with Wire() as link:
        value = kind(b"x" * size)
        got = link.carry(value)
        assert type(got) is kind
        assert got == value
        assert bool(link.loans) == (size >= OUT_OF_BAND)


@pytest.mark.parametrize("count", [3, 200_000])
def test_a_memoryview_arrives_read_only_with_its_shape(count: int) -> None:
    """Small or large, whether it was writable or not."""
    with Wire() as link:
        data = bytearray(range(3)) * (4 * count)
        view = memoryview(data).cast("i", [3, count])
        got = link.carry(view)
        assert (got.format, got.shape, got.readonly) == ("i", (3, count), True)
        assert got == view
        assert link.carry(memoryview(data)[::2]) == memoryview(data)[::2]


def test_what_takes_long_to_unpickle_is_told_before() -> None:
    """By the body alone."""
    assert not is_slow(joined(dump(1)))
    assert is_slow(joined(dump("x" * LARGE)))
    arenas = Arenas()
    assert is_slow(joined(dump(ready(bytes(LARGE)), arenas)))
    assert is_slow(joined(dump("x" * LARGE, arenas)))
    assert not is_slow(joined(dump(ready(bytes(OUT_OF_BAND)), arenas)))


def test_a_large_pickle_travels_in_an_arena_too() -> None:
    """And the arena is free once it is unpickled."""
    with Wire() as link:
        value = [str(each) for each in range(200_000)]
        assert link.carry(value) == value
        assert link.loans


def test_descriptors_of_frames_that_are_dropped_are_closed() -> None:
    """And their arenas are given back."""
    with Wire() as link:
        before = descriptors()
        (first, *rest) = dump(ready(bytes(OUT_OF_BAND)), link.arenas)
        assert isinstance(first, Laden)
        frame = wire.encode(wire.RESULT, 1, first, *rest, laden=first)
        link.ends[0].sendmsg(frame, ancillary(first.carried))
        frames = link.decoder.feed(*receive(link.ends[1], 1 << 16))
        assert len(frames) == 1
        del frames
        assert link.loans
        assert descriptors() == before + 1  # the sender's own


def test_arrays_arrive_read_only_or_writable_as_asked() -> None:
    """Of every layout, and equal."""
    numpy = pytest.importorskip("numpy")
    with Wire() as link:
        for array in (
            numpy.arange(20_000.0).reshape(100, 200),
            numpy.asfortranarray(numpy.arange(20_000.0).reshape(100, 200)),
            numpy.arange(40_000.0)[::2],
            numpy.zeros((0, 5)),
            numpy.array([{"a": 1}, None], dtype=object),
        ):
            got = link.carry(array)
            assert numpy.array_equal(got, array)
            assert got.shape == array.shape
        for size in (1, 1_000, 20_000):
            assert not link.carry(numpy.zeros(size)).flags.writeable
            mine = link.carry(numpy.zeros(size), writable=True)
            mine[0] = 1
            assert mine[0] == 1


@given(st.lists(st.integers(0, OUT_OF_BAND // 4), max_size=20), st.booleans())
def test_arrays_of_all_sizes_travel_together(sizes: list[int], writable: bool) -> None:
    """Small ones beside the pickle, large ones in an arena, each in its place."""
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(size, place, dtype="i4") for place, size in enumerate(sizes)]
    arrays += [numpy.full(OUT_OF_BAND, 7, dtype="i1")] if len(sizes) % 2 else []
    with Wire() as link:
        got = link.carry(arrays, writable=writable)
        assert len(got) == len(arrays)
        for mine, theirs in zip(got, arrays, strict=True):
            assert numpy.array_equal(mine, theirs)
            assert mine.flags.writeable == writable or not mine.size


def test_a_small_array_is_sent_as_it_was_when_it_was_pickled() -> None:
    """What is written to it afterwards is not sent."""
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(10)
    pieces = dump([array])
    array[:] = 1
    assert load(b"".join(pieces))[0].sum() == 0
