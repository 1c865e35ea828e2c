"""What each test of the gallery shows about a bug: hidden, found, replayed; and its fix holds.

The schedules are written down where the bugs are: the same on every Python, or a schedule in a
bug report would mean nothing to who reads it.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aioconc.errors import ScheduleFailure
from aioconc.testing import Schedule, explore

Program = Callable[[], Coroutine[Any, Any, object]]


async def steps(count: int) -> None:
    """Let others run, so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def check_bug(
    program: Program, *, schedule: str, within: int, raises: type[BaseException], **options: Any
) -> None:
    """`program` passes under asyncio's own loop, fails under exploration, and fails again.

    Args:
        program: what has the bug.
        schedule: text of the smallest schedule that shows it.
        within: most schedules until it is found.
        raises: how it fails.
        options: of `explore`.
    """
    for _ in range(5):
        asyncio.run(program())
    with pytest.raises(ScheduleFailure) as found:
        explore(program, **options)
    text = str(found.value)
    runs = re.search(r"\(run (\d+)", text)
    assert runs is not None, text
    assert int(runs[1]) <= within, text
    assert isinstance(found.value.__cause__, raises), text
    assert found.value.schedule == schedule, text
    assert f'Schedule.parse("{schedule}")' in text
    with pytest.raises(ScheduleFailure) as again:
        explore(program, schedule=Schedule.parse(found.value.schedule), **options)
    assert type(again.value.__cause__) is type(found.value.__cause__)
    assert again.value.schedule == schedule


def check_fix(program: Program, **options: Any) -> None:
    """`program` passes all that is explored, placements of two demotions included."""
    explored = explore(program, **({"budget": 500} | options))
    assert explored.exhausted == 2, explored
    assert explored.orders > 1, explored
