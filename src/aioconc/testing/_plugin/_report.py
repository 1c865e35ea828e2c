"""How failures read: what was found, where in the user's code, and how to see it again.

Frames of asyncio and of the testing tools are left out where a finding is reported, as nothing in
them is to be fixed. `--full-trace` shows them.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any, Final

import pytest

from aioconc.testing._plugin._guard import ORDER, VERDICTS

_TOOLS: Final = Path(__file__).parents[1]
_ASYNCIO: Final = Path(asyncio.__file__).parent


def improve(
    report: pytest.TestReport, item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]
) -> None:
    """Make the report of a failure readable, and say how to replay it."""
    if _is_finding(excinfo.value) and _may_be_changed(item.config):
        report.longrepr = _representation(item, excinfo)
    order = item.stash.get(ORDER, None)
    if order is not None and report.when == "call":
        schedule = str(order.schedule)
        line = f"{_without_schedule(item.nodeid, schedule)}"
        text = f"schedule {schedule}, {order.points} choice points; to run it so again:\n"
        report.sections.append(
            ("aioconc", f"{text}  pytest {_quoted(line)} --aioconc-schedule={schedule}")
        )


def _is_finding(error: BaseException) -> bool:
    from aioconc import errors

    return isinstance(
        error,
        (
            *VERDICTS,
            errors.BlockingError,
            errors.CancelFailure,
            errors.LeakError,
            errors.ScheduleFailure,
        ),
    )


def _may_be_changed(config: pytest.Config) -> bool:
    return not config.getoption("fulltrace", False) and config.getoption("tbstyle", "auto") in (
        "auto",
        "long",
        "short",
    )


def _representation(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    usual = getattr(item, "_traceback_filter", None)

    def users_frames(each: pytest.ExceptionInfo[BaseException]) -> Any:
        traceback = each.traceback if usual is None else usual(each)
        return traceback.filter(lambda entry: not _is_internal(Path(entry.path)))

    style = item.config.getoption("tbstyle", "auto")
    return excinfo.getrepr(
        style="short" if style == "short" else "long",
        tbfilter=users_frames,
        showlocals=bool(item.config.getoption("showlocals", False)),
    )


def _is_internal(path: Path) -> bool:
    return (
        _TOOLS in path.parents
        or _ASYNCIO in path.parents
        or path == Path(contextlib.__file__)
        or not {"anyio", "pluggy", "pytest_asyncio", "unittest"}.isdisjoint(path.parts)
    )


def _without_schedule(nodeid: str, schedule: str) -> str:
    """Undo what `--aioconc-schedules` put into the id of the test."""
    return nodeid.replace(f"[{schedule}-", "[", 1).replace(f"[{schedule}]", "", 1)


def _quoted(text: str) -> str:
    return f"'{text}'" if set(text) & set('[ ]$"\\') and os.name != "nt" else text
