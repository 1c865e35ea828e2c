"""The standard library's own tests of locks and queues, run against ours: "drop-in", measured."""

import asyncio
import gc
import inspect
import unittest

import pytest

from aioconc import sync

locks = pytest.importorskip("test.test_asyncio.test_locks")
queues = pytest.importorskip("test.test_asyncio.test_queues")

LOCKS = ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier")
QUEUES = ("Queue", "LifoQueue", "PriorityQueue")

# Why a test fails with ours, by design. Each is run, and has to fail.
OWN_REPR = "the repr is our own line"
PRIVATE = "it looks at, or writes into, private parts of asyncio's"
AT_ONCE = (
    "what is released belongs to the first who waits at that moment, not when that one goes on; so "
    "further permits are free for whoever comes"
)
NO_DRAINING = (
    "a full party passes whole: there is no state between in which it may still be broken, and "
    "those who come next wait for the next party"
)
DIFFER = {
    "BarrierTests.test_abort_barrier_when_tasks_half_draining_half_blocking": NO_DRAINING,
    "BarrierTests.test_draining_state": NO_DRAINING,
    "BarrierTests.test_reset_barrier_when_tasks_half_draining": NO_DRAINING,
    "BarrierTests.test_reset_barrier_when_tasks_half_draining_half_blocking": NO_DRAINING,
    "BarrierTests.test_reset_barrier_while_tasks_draining": NO_DRAINING,
    "BarrierTests.test_barrier": OWN_REPR,
    "BarrierTests.test_filling_task_by_task": OWN_REPR,
    "BarrierTests.test_repr": OWN_REPR,
    "ConditionTests.test_ambiguous_loops": "locks belong to no loop, so none is the wrong one",
    "ConditionTests.test_explicit_lock": PRIVATE,
    "ConditionTests.test_repr": OWN_REPR,
    "EventTests.test_clear_with_waiters": PRIVATE,
    "EventTests.test_repr": OWN_REPR,
    "LockTests.test_cancel_race": PRIVATE,
    "LockTests.test_repr": OWN_REPR,
    "SemaphoreTests.test_acquire_fifo_order_2": AT_ONCE,
    "SemaphoreTests.test_acquire_fifo_order_4": AT_ONCE,
    "SemaphoreTests.test_repr": OWN_REPR,
    "QueueBasicTests.test_generic_alias": "Queue[int] is an alias of typing, not of types",
    "QueueBasicTests.test_repr": OWN_REPR,
    "QueueBasicTests.test_str": OWN_REPR,
    "QueueGetTests.test_get_with_putters": PRIVATE,
}
# Tests that not every Python has.
NEW = {"SemaphoreTests.test_acquire_fifo_order_4"}


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


@pytest.mark.parametrize(("cls", "name"), [*cases(locks), *cases(queues)])
def test_standard_library_case(cls, name, monkeypatch, loop_errors):
    """A test of asyncio's passes with our classes in place of its own, or fails as listed."""
    for each in LOCKS:
        monkeypatch.setattr(asyncio, each, getattr(sync, each))
        monkeypatch.setattr(asyncio.locks, each, getattr(sync, each))
    for each in QUEUES:
        monkeypatch.setattr(asyncio, each, getattr(sync, each))
    problems = problems_of(cls, name)
    if reason := DIFFER.get(f"{cls.__name__}.{name}"):
        assert problems, f"passes now, although {reason}"
        gc.collect()
        loop_errors.clear()  # tasks of the failed test that nobody awaited
    else:
        assert not problems, problems[0]


def test_every_listed_difference_is_a_test():
    """The list of deliberate differences names tests that this Python has."""
    known = {
        f"{case.values[0].__name__}.{case.values[1]}" for case in [*cases(locks), *cases(queues)]
    }
    assert DIFFER.keys() - known <= NEW
