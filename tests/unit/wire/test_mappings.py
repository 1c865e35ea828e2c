"""Mappings that are kept: an arena that comes again is not mapped again."""

import gc
import os
import weakref
from collections.abc import Iterator

import pytest

from aioconc._wire import _mappings, _memory
from aioconc._wire._arenas import Arenas
from aioconc._wire._descriptors import Descriptor
from aioconc._wire._loans import Loan, Loans, numbers_of
from aioconc._wire._mappings import Mappings

np = pytest.importorskip("numpy")

SIZE = 1 << 16


@pytest.fixture
def memory() -> Iterator[int]:
    """The descriptor of some memory."""
    fd = _memory.make(SIZE)
    os.pwrite(fd, b"x" * SIZE, 0)
    yield fd
    os.close(fd)


def test_the_same_memory_is_mapped_once(memory: int) -> None:
    """Whatever the number of its descriptor; each use of it is an object of its own."""
    mappings = Mappings()
    first = mappings.use(memory, writable=False)
    copy = os.dup(memory)
    second = mappings.use(copy, writable=False)
    os.close(copy)
    assert first is not second
    assert first.ctypes.data == second.ctypes.data
    assert len(mappings) == 1
    assert bytes(second[:3]) == b"xxx"
    ended = weakref.ref(first)
    del first
    assert ended() is None
    mappings.clear()
    assert len(mappings) == 0
    assert bytes(second[:3]) == b"xxx"


def test_what_may_be_written_is_mapped_anew(memory: int) -> None:
    """What one reader writes the next does not see."""
    mappings = Mappings()
    memoryview(mappings.use(memory, writable=True))[:3] = b"abc"
    assert bytes(memoryview(mappings.use(memory, writable=True))[:3]) == b"xxx"
    assert len(mappings) == 0


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes and in number; what was used last stays."""
    monkeypatch.setattr(_mappings, "KEPT", 3 * SIZE)
    mappings = Mappings()
    fds = [_memory.make(SIZE) for _ in range(5)]
    for fd in fds:
        mappings.use(fd, writable=False)
        mappings.use(fds[0], writable=False)
    assert len(mappings) == 3
    large = _memory.make(4 * SIZE)
    mappings.use(large, writable=False)
    assert len(mappings) == 3
    monkeypatch.setattr(_mappings, "KEPT", 1 << 30)
    monkeypatch.setattr(_mappings, "_MOST", 2)
    mappings.use(large, writable=False)
    assert len(mappings) == 2
    for fd in [*fds, large]:
        os.close(fd)


def test_without_numpy_each_use_has_a_mapping(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept then."""
    monkeypatch.delitem(_mappings.sys.modules, "numpy")
    mappings = Mappings()
    assert bytes(memoryview(mappings.use(memory, writable=False))[:3]) == b"xxx"
    assert len(mappings) == 0


def test_an_arena_that_comes_again_is_read_anew() -> None:
    """What was written in between is what the next reader sees, through the mapping of the first."""
    arenas, loans = Arenas(), Loans()
    for turn in range(4):
        data = bytes([turn]) * (1 << 20)
        lease = arenas.fill([memoryview(data)])
        assert lease is not None
        loan = Loan(loans, lease.number, Descriptor(os.dup(lease.arena.fd)))
        view = loan.view(0, len(data))
        loan.end()
        assert view == data
        assert not loans
        del view
        gc.collect()
        arenas.give_back(numbers_of(loans.take_returned()))
        assert arenas.lent == 0
    assert len(loans.mappings) == 1
    loans.close()
    assert len(loans.mappings) == 0


def test_a_copy_into_a_mapping_is_broken_off_when_it_is_not_wanted() -> None:
    """As the first one is, which goes another way."""
    arenas = Arenas()
    data = [memoryview(bytes(5 << 20))]
    lease = arenas.fill(data)
    assert lease is not None
    arenas.give_back([lease.number])
    assert arenas.fill(data, lambda: False) is None
    assert arenas.fill(data) is not None


def test_without_a_number_of_its_own_memory_is_mapped_each_time(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS all segments have the number 0: one of them must not stand for another."""
    other = _memory.make(SIZE)
    monkeypatch.setattr(_memory, "kind", "segment")
    monkeypatch.setattr(_mappings, "fstat", lambda fd: os.stat_result([0] * 10))
    os.pwrite(other, b"y" * SIZE, 0)
    mappings = Mappings()
    assert bytes(memoryview(mappings.use(memory, writable=False))[:3]) == b"xxx"
    assert bytes(memoryview(mappings.use(other, writable=False))[:3]) == b"yyy"
    os.close(other)


def test_all_readers_together_keep_a_share_of_the_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many readers a process has: each mapping that is kept costs a descriptor."""
    gc.collect()
    kept_elsewhere = len(_mappings._everywhere)
    monkeypatch.setattr(_mappings, "most_descriptors", lambda: kept_elsewhere + 3)
    readers = [Mappings() for _ in range(4)]
    fds = [_memory.make(SIZE) for _ in range(8)]
    for reader in readers:
        for fd in fds:
            reader.use(fd, writable=False)
    assert [len(each) for each in readers] == [3, 0, 0, 0]
    readers[0].clear()
    readers[1].use(fds[0], writable=False)
    assert len(readers[1]) == 1
    for fd in fds:
        os.close(fd)
