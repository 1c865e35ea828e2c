"""Making failing schedules smaller: nothing superfluous stays, and the budget is kept."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from aioconc.testing import Schedule
from aioconc.testing._shrink import shrink
from aioconc.testing._simulate import Run

Picks = tuple[tuple[int, int], ...]

PICKS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 5)), unique_by=lambda pick: pick[0], max_size=16
).map(lambda picks: tuple(sorted(picks)))


def random_run(deviations: Picks) -> Run:
    return Run(Schedule(random=1), AssertionError(), points=70, deviations=deviations)


def needs(picks: Picks) -> Callable[[Schedule], bool]:
    """A program that fails where all of these picks are made, and under no demotions."""
    return lambda schedule: set(picks) <= set(schedule.picks)


@settings(max_examples=40)
@given(
    PICKS.flatmap(
        lambda picks: st.tuples(st.just(picks), st.sets(st.sampled_from(picks or [(0, 0)])))
    )
)
def test_only_the_picks_that_matter_stay(drawn: tuple[Picks, set[tuple[int, int]]]) -> None:
    """Whichever of them those are."""
    deviations, chosen = drawn
    needed = tuple(sorted(chosen & set(deviations)))
    if not needed:
        return  # a run that needs no deviation is never shrunk: the usual order comes first
    smallest = shrink(random_run(deviations), needs(needed), most=1_000)
    assert smallest == Schedule(picks=needed)


@settings(max_examples=40)
@given(PICKS, st.integers(0, 20), st.integers(0, 2**32))
def test_what_comes_out_failed_and_the_budget_is_kept(
    deviations: Picks, most: int, seed: int
) -> None:
    """Even where failing has no rule: the answer is the run itself or something seen to fail."""
    failed: list[Schedule] = []
    calls = 0

    def fails(schedule: Schedule) -> bool:
        nonlocal calls
        calls += 1
        if hash((schedule, seed)) % 3:
            return False
        failed.append(schedule)
        return True

    run = random_run(deviations)
    smallest = shrink(run, fails, most=most)
    assert smallest == run.schedule or smallest in failed
    assert calls <= most


@pytest.mark.parametrize(
    ("found", "needed", "smallest"),
    [((2, 5, 9), {5}, (5,)), ((2, 5, 9), {2, 9}, (2, 9)), ((2, 5), {2, 5}, (2, 5))],
)
def test_demotions_stay_demotions(
    found: tuple[int, ...], needed: set[int], smallest: tuple[int, ...]
) -> None:
    """The fewest of them, as they are what a person reads."""
    run = Run(Schedule(demotions=found), AssertionError(), points=10, deviations=((2, 1), (3, 1)))
    assert shrink(run, lambda each: needed <= set(each.demotions), most=50) == Schedule(
        demotions=smallest
    )


def test_few_picks_become_demotions_where_those_fail_too() -> None:
    """One number tells what would be a pick at each of many points."""

    def fails(schedule: Schedule) -> bool:
        return (2, 1) in schedule.picks or 2 in schedule.demotions

    smallest = shrink(random_run(((1, 1), (2, 1), (3, 2), (8, 1))), fails, most=100)
    assert smallest == Schedule(demotions=(2,))


def test_a_schedule_of_picks_is_shrunk_as_it_was_written() -> None:
    """A run may deviate at more points than its schedule asked for, if it was overruled."""
    run = Run(Schedule(picks=((4, 1),)), AssertionError(), points=9, deviations=((4, 1), (5, 1)))
    assert shrink(run, needs(((4, 1),)), most=50) == Schedule(picks=((4, 1),))


def test_a_random_run_that_does_not_fail_again_stays_as_it_is() -> None:
    """It depends on more than its order; its seed is all there is to tell."""
    run = random_run(((1, 1), (2, 1)))
    assert shrink(run, lambda _: False, most=50) == run.schedule
