"""How many items a worker is given at a time."""

from aioconc.executors.process._chunk_sizes import ChunkSizes

# Seconds that an item takes, which float numbers are exact about: about 30 us.
QUICK = 2.0**-15


def test_the_first_chunk_has_one_item() -> None:
    """Nothing is known about the items yet."""
    assert ChunkSizes(2)() == 1


def test_chunks_of_quick_items_grow_fourfold_up_to_twenty_milliseconds() -> None:
    """1, 4, 16, 64, 256, then what fits."""
    sizes = ChunkSizes(2)
    seen = []
    for _ in range(7):
        seen.append(sizes())
        sizes.measured(sizes(), sizes() * QUICK)
    assert seen == [1, 4, 16, 64, 256, 655, 655]


def test_one_slow_chunk_makes_the_next_ones_small() -> None:
    """Down at once, and up again by and by."""
    sizes = ChunkSizes(2)
    for _ in range(7):
        sizes.measured(sizes(), sizes() * QUICK)
    sizes.measured(655, 655 * 0.0095)
    assert sizes() == 2
    for _ in range(30):
        sizes.measured(sizes(), sizes() * QUICK)
    assert sizes() > 500


def test_slow_items_travel_alone() -> None:
    """Whatever a chunk of two of them would be."""
    sizes = ChunkSizes(2)
    sizes.measured(1, 0.02)
    assert sizes() == 1
    sizes.measured(1, 3.0)
    assert sizes() == 1


def test_the_last_chunks_shrink() -> None:
    """To an eighth of what is left for two workers, but not below a millisecond of work."""
    sizes = ChunkSizes(2)
    for _ in range(7):
        sizes.measured(sizes(), sizes() * QUICK)
    assert sizes(100_000) == 655
    assert sizes(4_000) == 500
    assert sizes(10) == 32  # the feed has no more than ten


def test_a_size_that_is_asked_for_stays() -> None:
    """Whatever the items take."""
    sizes = ChunkSizes(2, 7)
    sizes.measured(7, 100.0)
    assert sizes() == 7
    assert sizes(3) == 7


def test_no_chunk_is_larger_than_allowed() -> None:
    """As with `max_tasks_per_worker`."""
    sizes = ChunkSizes(2, most=5)
    for _ in range(7):
        sizes.measured(sizes(), sizes() * 1e-9)
    assert sizes() == 5
    sizes.measured(0, 1.0)
    assert sizes() == 5
