"""Schedules as values: what is printed is read back, and what makes no sense is refused."""

import pytest
from hypothesis import given, strategies as st

from aioconc.testing import Schedule, schedules

POINTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=6, unique=True).map(sorted)
SEEDS = st.integers(0, 2**64)
ANY = st.one_of(
    st.just(Schedule()),
    POINTS.map(lambda points: Schedule(demotions=tuple(points))),
    POINTS.flatmap(
        lambda points: st.lists(st.integers(0, 50), min_size=len(points), max_size=len(points)).map(
            lambda ranks: Schedule(picks=tuple(zip(points, ranks, strict=True)))
        )
    ),
    SEEDS.map(lambda seed: Schedule(random=seed)),
    SEEDS.map(lambda seed: Schedule(pct=seed)),
)


@given(ANY)
def test_what_is_printed_is_read_back(schedule: Schedule) -> None:
    """`parse` undoes `str`, and the repr is the line to copy."""
    assert Schedule.parse(str(schedule)) == schedule
    assert eval(repr(schedule)) == schedule
    assert hash(Schedule.parse(str(schedule))) == hash(schedule)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("fifo", Schedule()),
        ("d2", Schedule(demotions=(2,))),
        (" d2,7\n", Schedule(demotions=(2, 7))),
        ("p3:1,9:2", Schedule(picks=((3, 1), (9, 2)))),
        ("r0", Schedule(random=0)),
        ("pct42", Schedule(pct=42)),
    ],
)
def test_texts_mean_what_they_meant(text: str, schedule: Schedule) -> None:
    """Schedules in old bug reports keep their meaning."""
    assert Schedule.parse(text) == schedule


@pytest.mark.parametrize(
    "text", ["", "d", "d1,", "d-1", "x3", "p3", "p3:", "r", "r1,2", "pct", "d1 2"]
)
def test_what_is_no_schedule_is_refused_with_what_one_looks_like(text: str) -> None:
    """The error shows the text and the forms there are."""
    with pytest.raises(ValueError, match="a schedule reads like 'fifo', 'd2,7'") as refused:
        Schedule.parse(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("points", [(3, 2), (2, 2), (-1,)])
def test_choice_points_ascend(points: tuple[int, ...]) -> None:
    """Each is met once, and in order; demotions and picks alike."""
    with pytest.raises(ValueError, match="choice points must be ascending"):
        Schedule(demotions=points)
    with pytest.raises(ValueError, match="choice points must be ascending"):
        Schedule(picks=tuple((point, 1) for point in points))


def test_a_schedule_has_one_kind_of_deviation() -> None:
    """Two at once would not say which goes first."""
    with pytest.raises(ValueError, match="one kind of deviation"):
        Schedule(demotions=(1,), random=0)


@given(schedules(max_points=2, horizon=5))
def test_drawn_schedules_keep_to_their_bounds(schedule: Schedule) -> None:
    """At most so many demotions, below the horizon."""
    assert len(schedule.demotions) <= 2
    assert all(point < 5 for point in schedule.demotions)
    assert schedule == Schedule(demotions=schedule.demotions)


@pytest.mark.parametrize(("option", "value"), [("max_points", -1), ("horizon", 0)])
def test_bounds_of_drawn_schedules_are_checked(option: str, value: int) -> None:
    """Before Hypothesis sees them."""
    with pytest.raises(ValueError, match=option):
        schedules(**{option: value})
