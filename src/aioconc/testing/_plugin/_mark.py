"""What the mark `aioconc` says, checked; and what options of the command line change about it."""

from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import pytest

from aioconc.testing._schedule import Schedule

_FORM: Final = "aioconc(virtual_time=True, schedule=None, leaks=True)"

LeakMode = Literal["off", "warn", "error"]


@dataclass(frozen=True)
class Wish:
    """What a test asks for.

    Attributes:
        virtual_time: whether sleeping takes no time.
        schedule: the order of task steps; None: asyncio's own.
        leaks: what happens if it leaves something behind.
        fixed: the mark itself gives the schedule.
    """

    virtual_time: bool = False
    schedule: Schedule | None = None
    leaks: LeakMode = "off"
    fixed: bool = False

    @property
    def needs_loop(self) -> bool:
        """Whether a loop of ours has to run it."""
        return self.virtual_time or self.schedule is not None


def wish_of(node: pytest.Item) -> Wish:
    """What `node`, by its closest mark, the options and the ini value, asks for.

    Raises:
        pytest.fail.Exception: the mark is wrong; reported without a traceback.
    """
    mark = node.get_closest_marker("aioconc")
    if mark is None:
        return Wish(leaks=node.config.getini("aioconc_leaks"))
    if mark.args:
        hint = f"; did you mean schedule={mark.args[0]!r}?" if _is_schedule(mark.args[0]) else ""
        refuse(node, f"the mark takes keywords only: {_FORM}, got {mark.args[0]!r}{hint}")
    told = dict(mark.kwargs)
    virtual_time = told.pop("virtual_time", True)
    schedule = told.pop("schedule", None)
    leaks = told.pop("leaks", True)
    if told:
        refuse(node, f"the mark has no argument {next(iter(told))!r}; it is {_FORM}")
    for name, value in (("virtual_time", virtual_time), ("leaks", leaks)):
        if not isinstance(value, bool):
            refuse(node, f"{name} must be True or False, got {value!r}")
    fixed = _check_schedule(node, schedule)
    option = schedule_of_option(node.config)
    return Wish(
        virtual_time=virtual_time,
        schedule=option or fixed,
        leaks="error" if leaks else "off",
        fixed=fixed is not None,
    )


def schedule_of_option(config: pytest.Config) -> Schedule | None:
    """What `--aioconc-schedule` says.

    Raises:
        pytest.UsageError: it is no schedule.
    """
    text = config.getoption("aioconc_schedule")
    if text is None:
        return None
    try:
        return Schedule.parse(text)
    except ValueError as error:
        raise pytest.UsageError(f"--aioconc-schedule: {error}") from None


def refuse(node: pytest.Item, why: str) -> NoReturn:
    """Fail the test, or the collection of its file, with this one line."""
    pytest.fail(f"{node.nodeid}: aioconc: {why}", pytrace=False)


def _check_schedule(node: pytest.Item, schedule: Any) -> Schedule | None:
    if schedule is None or isinstance(schedule, Schedule):
        return schedule
    if not isinstance(schedule, str):
        refuse(node, f"schedule must be a Schedule or its text, got {schedule!r}")
    try:
        return Schedule.parse(schedule)
    except ValueError as error:
        refuse(node, str(error))


def _is_schedule(value: Any) -> bool:
    try:
        return isinstance(value, Schedule) or bool(Schedule.parse(value))
    except (ValueError, AttributeError):
        return False
