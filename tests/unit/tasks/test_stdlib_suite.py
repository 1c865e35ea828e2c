"""The standard library's own TaskGroup tests, run against ours: the measure of "drop-in"."""

import asyncio
import inspect
import sys
import unittest

import pytest

from aioconc.tasks import TaskGroup

suite = pytest.importorskip("test.test_asyncio.test_taskgroups")

# A coroutine that the group refuses is closed, as in Python 3.13; before that it was left open,
# and these tests then await it.
CLOSES_REFUSED = {
    "test_taskgroup_finished",
    "test_taskgroup_no_create_task_after_failure",
    "test_taskgroup_not_entered",
    "test_taskgroup_without_parent_task",
}


def _cases():
    for _, cls in inspect.getmembers(suite, inspect.isclass):
        if issubclass(cls, unittest.TestCase):
            for name in unittest.TestLoader().getTestCaseNames(cls):
                if sys.version_info >= (3, 13) or name not in CLOSES_REFUSED:
                    yield pytest.param(cls, name, id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize(("cls", "name"), list(_cases()))
def test_standard_library_case(cls, name, monkeypatch, loop_errors):
    """A test of the standard library passes with our class in place of its own."""
    monkeypatch.setattr(asyncio, "TaskGroup", TaskGroup)
    monkeypatch.setattr(asyncio.taskgroups, "TaskGroup", TaskGroup)
    result = unittest.TestResult()
    cls(name).run(result)
    problems = [text for _, text in (*result.failures, *result.errors)]
    assert not problems, problems[0]
    if name.endswith("test_taskgroup_20"):  # a ZeroDivisionError beside a KeyboardInterrupt
        assert "ZeroDivisionError" in loop_errors.pop()
