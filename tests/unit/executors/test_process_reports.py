"""Reports from worker processes, where the loop that hears them is in trouble."""

import asyncio
import time
from pathlib import Path

import pytest

from aioconc import worker
from aioconc.executors import ProcessExecutor
from tests.contracts import executor_work as work
from tests.unit.executors.process_work import report_three


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_loop_loses_nothing_that_came_with_it(
    error: type[BaseException], tmp_path: Path
) -> None:
    """Ctrl-C in `on_report`: the loop that is run again hears the rest, and gets the result."""
    heard: list[object] = []

    def hear(value: object) -> None:
        heard.append(value)
        if value == 0:
            raise error

    with ProcessExecutor(1) as pool, asyncio.Runner() as runner:
        loop = runner.get_loop()
        loop.run_until_complete(pool.run(work.add, 1))
        told = tmp_path / "told"
        call = loop.create_task(pool.options(on_report=hear).run(report_three, str(told)))
        loop.run_until_complete(asyncio.sleep(0))
        deadline = time.monotonic() + 30
        while not told.exists():  # the loop stands still, so that all comes at once
            assert time.monotonic() < deadline
            time.sleep(0.001)
        with pytest.raises(error):
            loop.run_until_complete(call)
        assert loop.run_until_complete(asyncio.wait_for(call, 20)) == "done"
    assert heard == [0, 1, 2]


async def test_a_failing_on_report_is_told_to_the_loop_and_costs_nothing(
    loop_errors: list[str],
) -> None:
    """Its error goes to the exception handler; the call and the other reports go on."""
    heard: list[object] = []

    def hear(value: object) -> None:
        heard.append(value)
        if value == 1:
            raise ValueError(value)

    async with ProcessExecutor(1) as pool:
        assert await pool.options(on_report=hear).run(report_three) == "done"
    assert heard == [0, 1, 2]
    (text,) = loop_errors
    assert "on_report of report_three failed on 1" in text
    loop_errors.clear()


async def test_a_report_that_cannot_be_unpickled_costs_itself(loop_errors: list[str]) -> None:
    """It is told, and the call goes on."""

    def reporting() -> str:
        worker.report(work.NoReturn())
        worker.report("next")
        return "done"

    heard: list[object] = []
    async with ProcessExecutor(1) as pool:
        assert await pool.options(on_report=heard.append).run(reporting) == "done"
    assert heard == ["next"]
    (text,) = loop_errors
    assert "a report of" in text
    loop_errors.clear()
