"""The pytest plugin: the mark `aioconc`, fixtures, options, readable reports.

pytest imports this file in every run in which aioconc is installed, so it loads nothing of asyncio
or of the rest of aioconc until a test asks for it, and changes nothing for tests that do not ask.
What a mark may say is in `_mark`, where loops come from in `_loops`, what happens around the test
in `_guard`, and how failures read in `_report`.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aioconc.testing._plugin._clock import Clock
    from aioconc.testing._wait_graph import WaitGraph

LEAK_MODES = ("off", "warn", "error")


# -- set-up ---------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options and the ini value."""
    group = parser.getgroup("aioconc")
    group.addoption(
        "--aioconc-schedule",
        metavar="TEXT",
        help="run tests marked aioconc under this schedule, as printed in a failure (such as d2)",
    )
    group.addoption(
        "--aioconc-schedules",
        metavar="N",
        type=int,
        help="run each test marked aioconc under N schedules, with fresh fixtures each time",
    )
    group.addoption(
        "--aioconc-budget",
        metavar="N",
        type=int,
        help="most schedules of an explore() that gives no budget of its own (default: 500)",
    )
    parser.addini(
        "aioconc_leaks",
        "check that no async test leaves tasks, threads, processes, sockets behind: off|warn|error",
        default="off",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and check what was asked for."""
    config.addinivalue_line(
        "markers",
        "aioconc(virtual_time=True, schedule=None, leaks=True): run the async test and its "
        "function-scoped fixtures in virtual time, its tasks in the order of `schedule`, and "
        "fail it if it leaves something behind",
    )
    if (mode := config.getini("aioconc_leaks")) not in LEAK_MODES:
        raise pytest.UsageError(f"aioconc_leaks must be one of off, warn, error; got {mode!r}")
    if config.getoption("aioconc_schedule") is not None:
        from aioconc.testing._plugin._mark import schedule_of_option

        schedule_of_option(config)
    for option in ("aioconc_schedules", "aioconc_budget"):
        number = config.getoption(option)
        if number is not None and number < 1:
            flag = "--" + option.replace("_", "-")
            raise pytest.UsageError(f"{flag} must be an int >= 1, got {number}")
    if (budget := config.getoption("aioconc_budget")) is not None:
        from aioconc.testing import _explore

        before, _explore.default_budget = _explore.default_budget, budget
        config.add_cleanup(lambda: setattr(_explore, "default_budget", before))


# -- collection: which loop a test gets --------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Let the runner of a marked test make simulation loops."""
    if metafunc.definition.get_closest_marker("aioconc") is None:
        return (yield)
    from aioconc.testing._plugin._loops import offered

    with offered(metafunc):
        return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    """See `keep_offering`."""
    if any(item.get_closest_marker("aioconc") for item in session.items):
        from aioconc.testing._plugin._loops import keep_offering

        keep_offering(session.config)


# -- the run -------------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a marked test that cannot get what its mark asks for."""
    if item.get_closest_marker("aioconc") is not None:
        from aioconc.testing._plugin._loops import check_can_run

        check_can_run(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Run the test inside of what its mark, or the ini value, asks for."""
    marked = item.get_closest_marker("aioconc") is not None
    if not marked and item.config.getini("aioconc_leaks") == "off":
        return (yield)
    from aioconc.testing._plugin._guard import guarded

    with guarded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make failures of the testing tools readable."""
    report = yield
    if report.failed and call.excinfo is not None:
        is_ours = type(call.excinfo.value).__module__ == "aioconc.errors"
        if is_ours or item.get_closest_marker("aioconc") is not None:
            from aioconc.testing._plugin._report import improve

            improve(report, item, call.excinfo)
    return report


# -- fixtures ------------------------------------------------------------------------------------

# Of the session: they keep nothing, and Hypothesis refuses fixtures of the function.


@pytest.fixture(scope="session")
def clock() -> "Clock":
    """The virtual time of the running loop: `clock.now`, `clock.advance(seconds)`."""
    from aioconc.testing._plugin._clock import Clock

    return Clock()


@pytest.fixture(scope="session")
def wait_graph() -> "Callable[..., WaitGraph]":
    """`wait_graph()` says who waits for whom now."""
    from aioconc.testing import wait_graph

    return wait_graph
