"""Cancelled at any await, a call in a worker process ends cleanly, and the pool lives on.

One pool for all: it finds itself in a new event loop for each point.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from aioconc import worker
from aioconc.executors import ProcessExecutor
from aioconc.testing import CancelReport, cancel_everywhere
from tests.conftest import loop_variants
from tests.contracts import executor_work as work

pytestmark = pytest.mark.slow


@pytest.fixture(params=["kill", "soft", "wait"])
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessExecutor]:
    """A pool with a spare, so that what is killed is replaced at once."""
    with ProcessExecutor(2, spares=1) as executor:
        asyncio.run(executor.run(work.add, 1))
        options: dict[str, Any] = {"on_cancel": request.param}
        if request.param == "soft":
            options["grace"] = 0.05
        yield executor.options(**options)


@pytest.fixture(params=loop_variants())
def loop_factory(request: pytest.FixtureRequest) -> Any:
    return loop_variants()[request.param]


def check(pool: ProcessExecutor, report: CancelReport) -> None:
    """It was cancelled at every point, and no point swallowed it."""
    assert report.points
    assert not report.failures
    assert not report.swallowed
    now = pool.statistics()
    assert (now.busy, now.queued, now.abandoned) == (0, 0, 0)
    assert asyncio.run(pool.run(work.add, 1, 1)) == 2


def test_run(pool: ProcessExecutor, loop_factory: Any) -> None:
    """Before it is sent, while it runs, and when its result has just come."""

    async def program() -> None:
        assert await pool.run(work.add, 1, 2) == 3

    check(pool, cancel_everywhere(program, loop_factory=loop_factory))


def test_stream(pool: ProcessExecutor, loop_factory: Any) -> None:
    """At each item, and at the end."""

    async def program() -> None:
        async with pool.stream(range, 4, buffer=2) as items:
            assert [item async for item in items] == [0, 1, 2, 3]

    check(pool, cancel_everywhere(program, loop_factory=loop_factory))


def test_stream_left_early(pool: ProcessExecutor, loop_factory: Any) -> None:
    """Also while the clean-up of its generator is waited for."""

    async def program() -> None:
        async with pool.stream(work.count_later, 100, buffer=2) as items:
            assert await anext(items) == 0

    check(pool, cancel_everywhere(program, loop_factory=loop_factory))


def test_report(pool: ProcessExecutor, loop_factory: Any) -> None:
    """Reports that are still on their way then come to nothing."""

    async def program() -> None:
        await pool.options(on_report=lambda _: None).run(work.report_much, 300)

    check(pool, cancel_everywhere(program, loop_factory=loop_factory))


@pytest.mark.parametrize("target", ["root", "children"])
def test_call_in_loop(pool: ProcessExecutor, loop_factory: Any, target: Any) -> None:
    """The caller is cancelled, or what the worker called in the loop."""

    async def program() -> None:
        assert await pool.run(worker.call_in_loop, work.add_later, 1, 2) == 3

    check(pool, cancel_everywhere(program, loop_factory=loop_factory, target=target))
