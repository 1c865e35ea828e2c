"""Arenas and loans: memory that is lent, read where it is, given back and written again."""

import gc
import os
from pathlib import Path

import pytest

from aioconc._wire import _memory
from aioconc._wire._arenas import SMALLEST, Arenas
from aioconc._wire._descriptors import Descriptor
from aioconc._wire._loans import Loan, Loans, numbers_of

SIZE = 100_000
DATA = bytes(range(250)) * (SIZE // 250)


@pytest.fixture(params=["memfd", "segment"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kind of memory that this system has."""
    if request.param == "memfd" and not hasattr(os, "memfd_create"):
        pytest.skip("this system has no memfd")
    monkeypatch.setattr(_memory, "kind", request.param)
    return str(request.param)


def lend(arenas: Arenas, loans: Loans, *data: bytes) -> tuple[Loan, list[int]]:
    """What the reader gets when `data` is sent in an arena."""
    lease = arenas.fill([memoryview(each) for each in data])
    assert lease is not None
    return Loan(loans, lease.number, Descriptor(os.dup(lease.arena.fd))), lease.offsets


def test_what_is_lent_is_read_by_reference_until_its_last_view_is_gone(kind: str) -> None:
    """The arena comes back after the last view, not before."""
    arenas, loans = Arenas(), Loans()
    loan, (first, second) = lend(arenas, loans, DATA, b"x" * SIZE)
    view, other = loan.view(first, SIZE), loan.view(second, SIZE)
    loan.end()
    assert (bytes(view), bytes(other)) == (DATA, b"x" * SIZE)
    assert view.readonly
    part = other[5:10]
    del view, other
    assert not loans
    del part
    assert loans
    arenas.give_back(numbers_of(loans.take_returned()))
    assert (arenas.lent, arenas.bytes_free) == (0, 4 * SMALLEST)
    assert not loans


def test_an_arena_that_came_back_is_written_again(kind: str) -> None:
    """The same memory carries the next message."""
    arenas, loans = Arenas(), Loans()
    numbers = set()
    for turn in range(5):
        data = bytes([turn]) * SIZE
        loan, (offset,) = lend(arenas, loans, data)
        assert loan.read(offset, SIZE) == data
        assert loan.read_into_bytearray(offset, SIZE) == data
        loan.end()
        returned = numbers_of(loans.take_returned())
        numbers.update(returned)
        arenas.give_back(returned)
        assert arenas.bytes_free == 2 * SMALLEST
    assert len(numbers) == 5


def test_a_message_that_is_never_read_gives_its_arena_back(kind: str) -> None:
    """A loan that is dropped counts as read, once."""
    arenas, loans = Arenas(), Loans()
    loan, _ = lend(arenas, loans, DATA)
    del loan
    gc.collect()
    assert len(numbers_of(loans.take_returned())) == 1


def test_writable_views_are_private(kind: str) -> None:
    """What one reader writes no other sees."""
    arenas, loans = Arenas(), Loans()
    lease = arenas.fill([memoryview(DATA)])
    assert lease is not None
    mine = Loan(loans, lease.number, Descriptor(os.dup(lease.arena.fd)))
    mine.writable = True
    view = mine.view(0, SIZE)
    view[:3] = b"abc"
    other = Loan(loans, lease.number, Descriptor(os.dup(lease.arena.fd)))
    assert other.read(0, SIZE) == DATA
    assert bytes(view[:3]) == b"abc"


def test_with_few_descriptors_left_buffers_are_copied(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy is not a mapping: the arena comes back at once."""
    monkeypatch.setattr("aioconc._wire._loans.most_descriptors", lambda: 0)
    arenas, loans = Arenas(), Loans()
    loan, (offset,) = lend(arenas, loans, DATA)
    view = loan.view(offset, SIZE)
    loan.end()
    assert loans
    assert bytes(view) == DATA


def test_free_arenas_are_kept_up_to_a_limit() -> None:
    """What was used last stays; the rest goes."""
    arenas = Arenas(kept=4 * SMALLEST)
    leases = [arenas.fill([memoryview(DATA)]) for _ in range(4)]
    arenas.give_back([each.number for each in leases if each is not None])
    assert arenas.bytes_free == 4 * SMALLEST
    too_large = arenas.fill([memoryview(bytes(8 * SMALLEST))])
    assert too_large is not None
    arenas.give_back([too_large.number])
    assert arenas.bytes_free == 4 * SMALLEST


def test_without_memory_a_message_goes_without_an_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    """No arena is no error."""

    def refuse(size: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_memory, "make", refuse)
    assert Arenas().fill([memoryview(DATA)]) is None
    monkeypatch.undo()
    monkeypatch.setattr(_memory, "kind", "none")
    assert Arenas().fill([memoryview(DATA)]) is None


def test_a_copy_that_is_not_wanted_any_more_is_broken_off(kind: str) -> None:
    """Its arena is free at once."""
    arenas = Arenas()
    assert arenas.fill([memoryview(DATA)], lambda: False) is None
    assert (arenas.lent, arenas.bytes_free) == (0, 2 * SMALLEST)


def test_arenas_leave_no_names_and_no_descriptors(kind: str) -> None:
    """Nothing is in /dev/shm while they are used, and no descriptor is left after them."""
    before = sum(1 for _ in Path("/dev/fd").iterdir())
    arenas, loans = Arenas(), Loans()
    loan, (offset,) = lend(arenas, loans, DATA)
    view = loan.view(offset, SIZE)
    if Path("/dev/shm").exists():
        assert not [each for each in Path("/dev/shm").iterdir() if "aioconc" in each.name]
    del loan, view, arenas, loans
    gc.collect()
    assert sum(1 for _ in Path("/dev/fd").iterdir()) == before


def test_a_lost_descriptor_is_told_in_plain_words() -> None:
    """The error names the limit to raise."""
    loan = Loan(Loans(), 1, Descriptor(-1))
    with pytest.raises(OSError, match="too many open files"):
        loan.read(0, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_what_a_forked_child_shares_is_never_written_again() -> None:
    """The owner does not get back what a child may still read."""
    arenas, loans = Arenas(), Loans()
    loan, (offset,) = lend(arenas, loans, DATA)
    view = loan.view(offset, SIZE)
    loan.end()
    del loan
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    del view
    assert not loans
