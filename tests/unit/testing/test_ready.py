"""What may overtake what: the queue under every policy, held against the rule in plain words."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from aioconc.testing import Schedule
from aioconc.testing._policies import FAIRNESS, Demotions, policy_of
from aioconc.testing._ready import ReadyQueue
from tests.unit.testing.handles import Handles, handles

TASKS = 6

POINTS = st.lists(st.integers(0, 40), max_size=4, unique=True).map(sorted)
SCHEDULES = st.one_of(
    POINTS.map(lambda points: Schedule(demotions=tuple(points))),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), unique_by=lambda pick: pick[0]).map(
        lambda picks: Schedule(picks=tuple(sorted(picks)))
    ),
    st.integers(0, 1_000).map(lambda seed: Schedule(random=seed)),
    st.integers(0, 1_000).map(lambda seed: Schedule(pct=seed)),
)


@dataclasses.dataclass(eq=False)
class Arrival:
    """Something in the queue, and what the rule needs to know of it."""

    kind: str
    group: object
    handle: Any


class Watched:
    """A queue beside a list of what is in it, in order of arrival; checks every pop."""

    def __init__(self, queue: ReadyQueue, may_overtake: Any) -> None:
        self.queue = queue
        self.may_overtake = may_overtake
        self.inside: list[Arrival] = []
        self.ran: list[Arrival] = []
        self.passed_over = 0

    def arrive(self, arrival: Arrival) -> None:
        self.inside.append(arrival)
        self.queue.append(arrival.handle)

    def pop(self) -> None:
        handle = self.queue.popleft()
        (place,) = (at for at, each in enumerate(self.inside) if each.handle is handle)
        for earlier in self.inside[:place]:
            assert self.may_overtake(self.inside[place], earlier)
        self.passed_over = 0 if place == 0 else self.passed_over + 1
        assert self.passed_over <= FAIRNESS
        self.ran.append(self.inside.pop(place))
        assert len(self.queue) == len(self.inside)
        assert bool(self.queue) == bool(self.inside)

    def drain(self) -> list[Arrival]:
        while self.inside:
            self.pop()
        with pytest.raises(IndexError):
            self.queue.popleft()
        return self.ran


@pytest.fixture(scope="module")
def make() -> Iterator[Handles]:
    with handles(TASKS) as made:
        yield made


# -- reorder="tasks" ------------------------------------------------------------------------------


def step_or_plain(mover: Arrival, passed: Arrival) -> bool:
    """A step may be delayed past what comes later; nothing jumps over a plain callback."""
    return passed.kind == "step"


def arrivals(make: Handles, program: list[int]) -> list[Arrival | None]:
    """None: something runs. Below zero: a plain callback. Else a step of that task."""
    return [
        None
        if number is None
        else Arrival("plain", None, make.plain())
        if number < 0
        else Arrival("step", number, make.step(number))
        for number in program
    ]


PROGRAMS = st.lists(st.none() | st.integers(-3, TASKS - 1), max_size=50)


def run_program(make: Handles, queue: ReadyQueue, program: list[Any]) -> list[object]:
    """What ran, by its number in the order of arrival."""
    watched = Watched(queue, step_or_plain)
    every: list[Arrival] = []
    for each in arrivals(make, program):
        if each is None:
            if watched.inside:
                watched.pop()
        # A task has one step in the queue at most.
        elif each.kind == "plain" or each.group not in {one.group for one in watched.inside}:
            every.append(each)
            watched.arrive(each)
    ran = watched.drain()
    assert sorted(map(id, ran)) == sorted(map(id, every))
    plain = [each for each in every if each.kind == "plain"]
    assert [each for each in ran if each.kind == "plain"] == plain
    return [every.index(each) for each in ran]


@settings(max_examples=50)
@given(PROGRAMS, SCHEDULES)
def test_nothing_jumps_over_an_earlier_plain_callback(
    make: Handles, program: list[Any], schedule: Schedule
) -> None:
    """Under any policy: plain callbacks keep their order, and none is lost or runs twice."""
    run_program(make, ReadyQueue(policy_of(schedule)), program)


@settings(max_examples=50)
@given(PROGRAMS)
def test_the_empty_schedule_is_the_order_of_arrival(make: Handles, program: list[Any]) -> None:
    """As asyncio's own queue."""
    queue = ReadyQueue(policy_of(Schedule()))
    assert run_program(make, queue, program) == sorted(run_program(make, queue, program))
    assert not queue.deviations


@settings(max_examples=50)
@given(PROGRAMS, SCHEDULES)
def test_where_a_run_left_the_usual_order_is_a_schedule_that_repeats_it(
    make: Handles, program: list[Any], schedule: Schedule
) -> None:
    """The deviations of a run, as picks, make the same run."""
    first = ReadyQueue(policy_of(schedule))
    order = run_program(make, first, program)
    second = ReadyQueue(policy_of(Schedule(picks=tuple(first.deviations.items()))))
    assert run_program(make, second, program) == order
    assert second.points == first.points
    assert second.deviations == first.deviations


@settings(max_examples=50)
@given(PROGRAMS)
def test_choice_points_are_counted_alike_whether_a_policy_is_asked_or_not(
    make: Handles,
    program: list[Any],
) -> None:
    """Else a number would mean another point before the first deviation than after it."""
    asked = ReadyQueue(policy_of(Schedule(picks=((0, 0),))))
    unasked = ReadyQueue(policy_of(Schedule()))
    assert run_program(make, asked, program) == run_program(make, unasked, program)
    assert asked.points == unasked.points


def test_a_step_is_passed_over_a_bounded_number_of_times(make: Handles) -> None:
    """A task that polls cannot keep the one it polls for from running, whatever the policy says."""
    queue = ReadyQueue(Demotions((0,)))
    queue.append(make.step(0))
    waiting = queue[0]
    queue.append(make.step(1))
    ran = 0
    while queue.popleft() is not waiting:
        ran += 1
        queue.append(make.step(1))
    assert ran == FAIRNESS


def test_plain_callback_is_a_candidate_after_the_steps_before_it(make: Handles) -> None:
    """A step may be delayed past it, and what arrived after it is no candidate yet."""
    step, plain, later = make.step(0), make.plain(), make.step(1)
    queue = ReadyQueue(policy_of(Schedule(picks=((0, 1),))))
    queue.extend([step, plain, later])
    assert [queue.popleft() for _ in range(3)] == [plain, step, later]
    assert queue.points == 2  # step or plain, then step or later


def test_usual_order_from_here_leaves_nothing_to_choice(make: Handles) -> None:
    """What is inside keeps its order, and no deviation is noted any more."""
    queue = ReadyQueue(policy_of(Schedule(random=1)))
    inside = [make.step(number) for number in range(TASKS)]
    queue.extend(inside)
    inside.remove(queue.popleft())
    noted = len(queue.deviations)
    queue.usual_order_from_here()
    assert [queue.popleft() for _ in range(TASKS - 1)] == inside
    assert len(queue.deviations) == noted


def test_a_cleared_queue_is_empty(make: Handles) -> None:
    """As a loop leaves it that is closed; what comes later is handed out."""
    queue = ReadyQueue(policy_of(Schedule(random=1)))
    queue.extend(make.step(number) for number in range(TASKS))
    queue.popleft()
    queue.clear()
    assert not queue
    plain = make.plain()
    queue.append(plain)
    assert queue.popleft() is plain


# -- reorder="external" ---------------------------------------------------------------------------


def same_source(mover: Arrival, passed: Arrival) -> bool:
    """Only timers for one moment, and calls from two threads, have no order among themselves."""
    if mover.kind == passed.kind == "thread":
        return mover.group != passed.group
    return mover.kind == passed.kind == "timer" and mover.group == passed.group


# More of what may change places than of what keeps its own.
ARRIVALS = st.lists(
    st.sampled_from(
        [("timer", 1), ("timer", 2), ("thread", 1), ("thread", 2), ("thread", 3)] * 2
        + [("plain", None), ("step", None), None]
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=100)
@given(ARRIVALS, SCHEDULES)
def test_only_arrivals_from_outside_change_places(
    make: Handles, program: list[Any], schedule: Schedule
) -> None:
    """With `reorder="external"` tasks and callbacks run as they came."""
    from_threads: dict[Any, object] = {}
    queue = ReadyQueue(policy_of(schedule, "external"), "external", from_threads)
    watched = Watched(queue, same_source)
    count = 0
    for each in program:
        if each is None:
            if watched.inside:
                watched.pop()
            continue
        count += 1
        kind, group = each
        handle: Any
        if kind == "timer":
            handle = make.timer(float(group))
        elif kind == "step":
            handle = make.step(0)
        else:
            handle = make.plain()
        if kind == "thread":
            from_threads[handle] = group
        watched.arrive(Arrival(kind, group, handle))
    assert len(watched.drain()) == count


@pytest.mark.parametrize(("schedule", "order"), [("fifo", "abc"), ("d0", "bca"), ("d0,1", "bac")])
def test_a_late_timer_goes_behind_the_others_of_its_moment(
    make: Handles, schedule: str, order: str
) -> None:
    """A demotion among arrivals from outside; the one demoted last is the last."""
    timers = {name: make.timer(1.0) for name in "abc"}  # equal, and not the same
    queue = ReadyQueue(policy_of(Schedule.parse(schedule), "external"), "external")
    queue.extend(timers.values())
    ran = [queue.popleft() for _ in timers]
    assert "".join(next(name for name in timers if timers[name] is each) for each in ran) == order


@pytest.mark.parametrize(
    ("threads", "order"), [([1, 2, 3], "bca"), ([1, 1, 2], "acb"), ([1, 1, 1], "abc")]
)
def test_calls_of_one_thread_keep_their_order(
    make: Handles, threads: list[int], order: str
) -> None:
    """As with `call_soon`; those of different threads have none."""
    calls = {name: make.plain() for name in "abc"}
    from_threads = dict(zip(calls.values(), threads, strict=True))
    queue = ReadyQueue(policy_of(Schedule.parse("d0"), "external"), "external", from_threads)
    queue.extend(calls.values())
    ran = [queue.popleft() for _ in calls]
    assert "".join(next(name for name in calls if calls[name] is each) for each in ran) == order


def test_timers_for_different_moments_keep_their_order(make: Handles) -> None:
    """Though the loop, when it is late, finds them due together."""
    timers = [make.timer(1.0), make.timer(2.0)]
    queue = ReadyQueue(policy_of(Schedule.parse("d0"), "external"), "external")
    queue.extend(timers)
    assert [queue.popleft() for _ in timers] == timers
    assert not queue.points
