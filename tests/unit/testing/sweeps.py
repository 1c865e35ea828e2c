"""What the tests of `cancel_everywhere` share."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aioconc.errors import CancelFailure
from aioconc.testing import CancelPoint, CancelReport, cancel_everywhere

Program = Callable[[], Coroutine[Any, Any, object]]
Loop = asyncio.AbstractEventLoop


def failure(program: Program, **options: Any) -> CancelReport:
    """The report of a sweep that fails."""
    with pytest.raises(CancelFailure) as raised:
        cancel_everywhere(program, **options)
    report = raised.value.report
    assert isinstance(report, CancelReport)
    return report


def at(points: tuple[CancelPoint, ...]) -> list[tuple[int, str]]:
    """Where points are, without what came of them."""
    return [(each.k, each.phase) for each in points]


async def two_sleeps() -> None:
    """Two suspensions."""
    await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)
