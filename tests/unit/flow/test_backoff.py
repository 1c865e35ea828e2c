"""backoff and RetryBudget: which errors, how long, how often."""

import asyncio
import dataclasses
import random

import pytest

from aioconc._internal import _hooks
from aioconc.flow import RetryBudget, backoff
from aioconc.flow._backoff import call_counter
from tests.virtual_time import run_virtual


def test_delays_double_up_to_the_maximum():
    """Without jitter the bounds themselves are the delays."""
    retry = backoff(6, base=0.1, max=0.5, jitter=False)
    assert [retry(n, OSError()) for n in range(1, 6)] == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_attempts_count_the_first_call():
    """After the last attempt, and with a single one, there is no retry."""
    assert backoff(3, jitter=False)(2, OSError()) is not None
    assert backoff(3)(3, OSError()) is None
    assert backoff(1)(1, OSError()) is None


def test_full_jitter_draws_evenly_from_zero_to_the_bound():
    """The draw is a plain fraction of the bound, and repeatable with a seeded source."""
    halves = backoff(5, base=1, max=3, random=lambda: 0.5)
    assert [halves(n, OSError()) for n in range(1, 5)] == [0.5, 1.0, 1.5, 1.5]
    drawn = [backoff(2, base=1, random=random.Random(7).random)(1, OSError()) for _ in range(2)]
    assert drawn[0] == drawn[1]
    retry = backoff(2, base=1)
    delays = [retry(1, OSError()) for _ in range(200)]
    assert all(0 <= delay < 1 for delay in delays)
    assert len(set(delays)) > 100


def test_a_huge_attempt_number_does_not_overflow():
    """The bound stays `max`; with a base of 0 it stays 0."""
    assert backoff(10**9, base=1e-9, max=2, jitter=False)(10**8, OSError()) == 2
    assert backoff(10**9, base=0, max=2, jitter=False)(10**8, OSError()) == 0


@pytest.mark.parametrize(
    ("on", "retried", "final"),
    [
        (OSError, ConnectionError(), ValueError()),
        ((OSError, ValueError), ValueError(), TypeError()),
        (lambda error: "again" in str(error), OSError("again"), OSError("never")),
        (Exception, ValueError(), asyncio.CancelledError()),
        (Exception, ValueError(), KeyboardInterrupt()),
        ((), None, OSError()),
    ],
)
def test_only_errors_named_by_on_are_retried(on, retried, final):
    """A class, a tuple, or a predicate; and never what is no Exception."""
    retry = backoff(3, on=on)
    if retried is not None:
        assert retry(1, retried) is not None
    assert retry(1, final) is None


@pytest.mark.parametrize(
    ("value", "extra"),
    [(10, 10), (0.5, 0.5), (0, 0), (None, 0), ("10", 0), (-1, 0), (float("inf"), 0)],
)
def test_retry_after_of_the_error_is_added(value, extra):
    """Also beyond `max`; anything but a finite number of seconds is not understood as one."""
    error = OSError()
    error.retry_after = value
    assert backoff(2, base=1, max=2, jitter=False)(1, error) == 1 + extra
    jittered = backoff(2, base=1, max=2)(1, error)
    assert extra <= jittered <= extra + 1


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"attempts": 0}, ValueError, "attempts must be an int >= 1, got 0; it counts the first"),
        ({"attempts": 1.5}, TypeError, "attempts must be an int >= 1"),
        ({"base": -1}, ValueError, "base must be a number of seconds >= 0, got -1"),
        ({"base": 9}, ValueError, r"max must be >= base \(9\), got 5.0"),
        ({"on": asyncio.CancelledError}, TypeError, "got CancelledError; cancellation and exits"),
        ({"on": (OSError, KeyboardInterrupt)}, TypeError, "got KeyboardInterrupt"),
        ({"on": OSError()}, TypeError, "on must be an Exception class, a tuple of them, or"),
        ({"on": asyncio.sleep}, TypeError, "got the async function sleep"),
        ({"budget": 0.1}, TypeError, "budget must be a RetryBudget or None, got 0.1"),
        ({"random": 0.5}, TypeError, "random must be a function"),
    ],
)
def test_bad_arguments_are_refused(arguments, kind, message):
    """With the value, the rule and the remedy."""
    with pytest.raises(kind, match=message):
        backoff(**({"attempts": 3} | arguments))


def test_budget_caps_the_share_of_retries():
    """However many fail, at most ratio x calls + min_per_second x window are retried."""

    async def main():
        budget = RetryBudget(0.1, min_per_second=0.5, window=10)
        retry = backoff(5, budget=budget)
        for _ in range(100):
            budget.record_call()
        allowed = sum(retry(1, OSError()) is not None for _ in range(100))
        return allowed, budget.statistics()

    allowed, numbers = run_virtual(main())
    assert allowed == 15
    assert dataclasses.astuple(numbers) == (100, 15, 85)


def test_budget_forgets_what_left_its_window():
    """Old calls allow nothing any more, and old retries use up nothing."""

    async def main():
        budget = RetryBudget(0.5, min_per_second=0, window=10)
        budget.record_call()
        budget.record_call()
        first = budget.try_retry(), budget.try_retry()
        await asyncio.sleep(9)
        during = budget.try_retry()
        await asyncio.sleep(2)
        budget.record_call()
        budget.record_call()
        return first, during, (budget.try_retry(), budget.try_retry()), len(budget._slices)

    assert run_virtual(main()) == ((True, False), False, (True, False), 2)


def test_budget_serves_a_loop_with_an_earlier_clock():
    """Counts of a clock that lies ahead say nothing about now."""
    budget = RetryBudget(1, min_per_second=0)

    async def use():
        budget.record_call()
        return budget.try_retry(), budget.try_retry()

    assert run_virtual(use(), start=1e6) == (True, False)
    assert run_virtual(use(), start=0) == (True, False)


async def test_a_refused_retry_is_an_event_and_costs_nothing():
    """Errors that are not retried anyway leave the budget alone."""
    budget = RetryBudget(0, min_per_second=0.1)
    retry = backoff(3, on=OSError, budget=budget)
    events = []
    unsubscribe = _hooks.subscribe(lambda event, fields: events.append((event, fields["attempt"])))
    try:
        assert retry(1, ValueError()) is None
        assert retry(3, OSError()) is None
        assert retry(1, OSError()) is not None
        assert retry(2, OSError()) is None
    finally:
        unsubscribe()
    assert events == [("retry.refused", 2)]


async def test_a_map_learns_from_the_hook_whether_to_count_calls():
    """Only a hook with a budget has a counter."""
    budget = RetryBudget()
    counter = call_counter(backoff(2, budget=budget))
    counter()
    assert budget.statistics().calls == 1
    assert call_counter(backoff(2)) is None
    assert call_counter(lambda attempt, error: None) is None
    assert call_counter(None) is None


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"ratio": -1}, ValueError, "ratio must be a number >= 0, got -1"),
        ({"ratio": "much"}, TypeError, "ratio must be a number >= 0, got 'much'"),
        ({"min_per_second": float("inf")}, ValueError, "min_per_second must be"),
        ({"window": 0}, ValueError, "window must be a number of seconds > 0, got 0"),
    ],
)
def test_bad_budgets_are_refused(arguments, kind, message):
    """With the value and the rule."""
    with pytest.raises(kind, match=message):
        RetryBudget(**arguments)


def test_reprs_are_status_lines():
    """They say what the hook retries and what the budget has counted."""
    assert repr(backoff(3, on=(OSError, ValueError))) == (
        "<backoff 3 attempts on OSError, ValueError, 0.1 to 5 s>"
    )
    assert repr(backoff(3, jitter=False)).endswith("0.1 to 5 s, no jitter>")
    assert repr(RetryBudget(0.2)) == (
        "<RetryBudget 0 retries for 0 calls in 10 s, ratio 0.2, 0 refused>"
    )
