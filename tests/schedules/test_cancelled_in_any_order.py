"""Every awaitable of `tasks` and `flow`, cancelled at each of its awaits under other orders too."""

import pytest

from aioconc.testing import Schedule, loop_factory
from tests.properties import (
    test_cancelled_flow as flow,
    test_cancelled_in_scopes as in_scopes,
    test_cancelled_tasks as tasks,
)
from tests.properties.cancelling import Body, sweep

SCHEDULES = [
    *(Schedule(demotions=(point,)) for point in (0, 1, 3)),
    *(Schedule(random=seed) for seed in range(3)),
    Schedule(pct=1),
]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize(
    "program",
    [*flow.PROGRAMS, *tasks.PROGRAMS, *in_scopes.PROGRAMS],
    ids=lambda program: program.__name__,
)
def test_cancelled_in_any_order(program: Body, schedule: Schedule) -> None:
    """Whatever the order of steps, a cancel of the caller or inside leaves nothing and loses nothing."""
    new_loop = loop_factory(schedule, max_steps=100_000)
    for target in ("root", "children"):
        sweep(program, new_loop, target)
