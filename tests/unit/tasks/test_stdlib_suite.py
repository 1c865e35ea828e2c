"""The standard library's own tests of groups and timeouts, run against ours: "drop-in", measured."""

import asyncio
import inspect
import math
import sys
import unittest

import pytest

from aioconc.tasks import TaskGroup, fail_after, move_on_after

groups = pytest.importorskip("test.test_asyncio.test_taskgroups")
timeouts = pytest.importorskip("test.test_asyncio.test_timeouts")

# A coroutine that the group refuses is closed, as in Python 3.13; before that it was left open,
# and these tests then await it.
CLOSES_REFUSED = {
    "test_taskgroup_finished",
    "test_taskgroup_no_create_task_after_failure",
    "test_taskgroup_not_entered",
    "test_taskgroup_without_parent_task",
}

# Why a test of timeouts fails with ours, by design. Each is run, and has to fail.
MAY_ALWAYS_BE_SET = "the deadline of a scope may be set at any time, without effect after its end"
NO_TIMEOUT_INSIDE = (
    "asyncio puts a TimeoutError into the context of a foreign exception since Python 3.13; ours "
    "leaves the CancelledError, whose text names the scope and its deadline"
)
OWN_REPR = "the repr is that of a CancelScope"
TIMEOUTS_DIFFER = {
    "test_repr_active": OWN_REPR,
    "test_repr_disabled": OWN_REPR,
    "test_repr_expired": OWN_REPR,
    "test_repr_finished": OWN_REPR,
    "test_timeout_expired": MAY_ALWAYS_BE_SET,
    "test_timeout_expiring": MAY_ALWAYS_BE_SET,
    "test_timeout_finished": MAY_ALWAYS_BE_SET,
    "test_timeout_in_the_past_sleep_zero": "a negative number of seconds is refused as a slip",
    "test_timeout_not_entered": MAY_ALWAYS_BE_SET,
    "test_timeout_without_task": MAY_ALWAYS_BE_SET,
}
if sys.version_info >= (3, 13):
    TIMEOUTS_DIFFER |= {
        "test_foreign_exception_on_timeout": NO_TIMEOUT_INSIDE,
        "test_foreign_exception_on_timeout_2": NO_TIMEOUT_INSIDE,
        "test_timeout_taskgroup": NO_TIMEOUT_INSIDE,
    }


class Timeout:
    """What `asyncio.timeout` gives, made of a scope; only spelling is added."""

    def __init__(self, scope):
        self.scope = scope

    async def __aenter__(self):
        self.scope.__enter__()
        return self

    async def __aexit__(self, *error):
        caught = self.scope.__exit__(*error)
        if caught:  # a scope of move_on_after, which ends quietly
            raise TimeoutError from error[1]
        return caught

    def expired(self):
        return self.scope.cancel_called

    def when(self):
        return None if self.scope.deadline == math.inf else self.scope.deadline

    def reschedule(self, when):
        self.scope.deadline = math.inf if when is None else when


def timeout_like(make):
    """`asyncio.timeout` and `asyncio.timeout_at`, made of one of our functions."""

    def timeout(seconds):
        return Timeout(make(seconds))

    def timeout_at(when):
        timeout = Timeout(make(None))
        timeout.reschedule(when)
        return timeout

    return timeout, timeout_at


def cases(suite):
    for _, cls in inspect.getmembers(suite, inspect.isclass):
        if issubclass(cls, unittest.TestCase):
            for name in unittest.TestLoader().getTestCaseNames(cls):
                yield pytest.param(cls, name, id=f"{cls.__name__}.{name}")


def problems_of(cls, name):
    """The tracebacks of one test of the standard library."""
    result = unittest.TestResult()
    cls(name).run(result)
    return [text for _, text in (*result.failures, *result.errors)]


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        case
        for case in cases(groups)
        if sys.version_info >= (3, 13) or case.values[1] not in CLOSES_REFUSED
    ],
)
def test_standard_library_case(cls, name, monkeypatch, loop_errors):
    """A test of the standard library's group passes with our class in place of its own."""
    monkeypatch.setattr(asyncio, "TaskGroup", TaskGroup)
    monkeypatch.setattr(asyncio.taskgroups, "TaskGroup", TaskGroup)
    problems = problems_of(cls, name)
    assert not problems, problems[0]
    if name.endswith("test_taskgroup_20"):  # a ZeroDivisionError beside a KeyboardInterrupt
        assert "ZeroDivisionError" in loop_errors.pop()


@pytest.mark.parametrize("make", [fail_after, move_on_after], ids=lambda make: make.__name__)
@pytest.mark.parametrize(("cls", "name"), list(cases(timeouts)))
def test_standard_library_case_of_timeouts(make, cls, name, monkeypatch):
    """A test of `asyncio.timeout` passes with our scopes in its place, or fails as listed."""
    for module in (asyncio, asyncio.timeouts):
        for each in timeout_like(make):
            monkeypatch.setattr(module, each.__name__, each)
    problems = problems_of(cls, name)
    if reason := TIMEOUTS_DIFFER.get(name):
        assert problems, f"passes now, although {reason}"
    else:
        assert not problems, problems[0]


def test_every_listed_difference_is_a_test():
    """The list of deliberate differences names tests that this Python has."""
    assert TIMEOUTS_DIFFER.keys() <= {case.values[1] for case in cases(timeouts)}
