"""`schedules()`: schedules as values for Hypothesis, which shrinks, stores and replays them."""

from typing import TYPE_CHECKING

from aioconc._internal._check import check_count
from aioconc.errors import MissingExtra
from aioconc.testing._schedule import Schedule

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def schedules(*, max_points: int = 3, horizon: int = 200) -> "SearchStrategy[Schedule]":
    """A Hypothesis strategy of schedules; the smallest is asyncio's own order.

    A failing example shrinks to the few demotions that matter, and is replayed by
    `@example(schedule=Schedule.parse("d2"))` or from Hypothesis' own database.

    Args:
        max_points: most demotions in a schedule, int >= 0.
        horizon: choice points, int >= 1, among which they are drawn.

    Raises:
        MissingExtra: hypothesis is not installed.

    Example:
        >>> import asyncio
        >>> from hypothesis import given
        >>> from aioconc.testing import run
        >>> @given(schedules())
        ... def test_sleepers(schedule):
        ...     run(lambda: asyncio.sleep(1), schedule=schedule)
        >>> test_sleepers()
    """
    check_count("max_points", max_points, least=0)
    check_count("horizon", horizon)
    try:
        from hypothesis import strategies
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "schedules() needs hypothesis; install it with: pip install 'aioconc[test]'"
        ) from error
    points = strategies.lists(strategies.integers(0, horizon - 1), max_size=max_points, unique=True)
    return points.map(lambda each: Schedule(demotions=tuple(sorted(each))))
