"""Making a failing schedule smaller while it keeps failing.

A run is told by where it left the usual order, so shrinking drops such places: first as
demotions, which one integer tells, then by delta debugging (Zeller and Hildebrandt, IEEE TSE
2002) over the picks themselves.
"""

from collections.abc import Callable
from itertools import combinations

from aioconc.testing._schedule import Schedule
from aioconc.testing._simulate import Run

Picks = tuple[tuple[int, int], ...]

# Longest list of demotions whose parts are all tried, and longest list of picks that is tried as
# demotions.
_FEW = 4


def shrink(run: Run, fails: Callable[[Schedule], bool], *, most: int) -> Schedule:
    """The smallest schedule found that fails as `run` did.

    Args:
        run: the run that failed.
        fails: whether a schedule fails in the same way.
        most: most calls of `fails`.
    """
    left = most

    def still_fails(schedule: Schedule) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and fails(schedule)

    if run.schedule.demotions:
        return _fewer_demotions(run.schedule, still_fails)
    if run.schedule.picks and len(run.schedule.picks) <= len(run.deviations):
        picks = run.schedule.picks
    else:
        picks = run.deviations
        if not picks or not still_fails(Schedule(picks=picks)):
            return run.schedule
    picks = _fewer_picks(picks, still_fails)
    if picks and len(picks) <= _FEW:
        as_demotions = Schedule(demotions=tuple(point for point, _ in picks))
        if still_fails(as_demotions):
            return _fewer_demotions(as_demotions, still_fails)
    return Schedule(picks=picks)


def _fewer_demotions(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    points = schedule.demotions
    if len(points) > _FEW:
        return schedule
    for count in range(len(points)):
        for some in combinations(points, count):
            if fails(smaller := Schedule(demotions=some)):
                return smaller
    return schedule


def _fewer_picks(picks: Picks, fails: Callable[[Schedule], bool]) -> Picks:
    pieces = 2
    while picks:
        size = -(-len(picks) // pieces)
        for start in range(0, len(picks), size):
            rest = picks[:start] + picks[start + size :]
            if fails(Schedule(picks=rest)):
                picks = rest
                pieces = max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(picks), 2 * pieces)
    return picks
