"""When to try again after a failure, and when to give up.

A retry hook is asked after every failure and answers with a delay or with None: `backoff` makes
the usual one, exponential with full jitter, and `RetryBudget` keeps all retries together from
making an outage worse. Nothing here sleeps or starts a call: that is the map's part.
"""

import asyncio
import inspect
import math
import random as _random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aioconc._internal import _hooks
from aioconc._internal._check import check_count, check_seconds

RetryHook = Callable[[int, Exception], float | None]
RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]

# The window of a budget is counted in so many slices, which bounds its memory and makes old
# calls leave it a tenth at a time, as in Finagle's.
_SLICES = 10


@dataclass(frozen=True)
class RetryBudgetStatistics:
    """What a `RetryBudget` counted: in its window, and the retries it has refused in all."""

    calls: int
    retries: int
    refused: int


class RetryBudget:
    """A cap on the share of retries, so that they cannot amplify an outage.

    Retries multiply the load on a service that fails because of its load. With a budget, at most
    `ratio` of the calls are retried, on top of `min_per_second`, however many fail: the per-client
    retry budget of the Google SRE book ("Handling Overload"), as in Finagle's `RetryBudget`. One
    budget may serve several hooks that call the same service.

    The maps of aioconc count their calls in it. In a loop of your own call `record_call` once per
    call, without its retries; otherwise only `min_per_second` is allowed.

    Args:
        ratio: retries per call, >= 0. 0.1 is the SRE book's figure.
        min_per_second: retries per second allowed in any case, >= 0, so that a client with few
            calls can retry at all.
        window: seconds, > 0, over which calls and retries are counted; 10 as in Finagle.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of its range.

    Example:
        >>> async def main():
        ...     budget = RetryBudget(0.5, min_per_second=0)
        ...     for _ in range(4):
        ...         budget.record_call()
        ...     return [budget.try_retry() for _ in range(3)]
        >>> asyncio.run(main())
        [True, True, False]
    """

    def __init__(
        self, ratio: float = 0.1, *, min_per_second: float = 1.0, window: float = 10.0
    ) -> None:
        self._ratio = _check_number("ratio", ratio)
        self._min_per_second = _check_number("min_per_second", min_per_second)
        self._window = check_seconds("window", window, zero=False)
        # [number of the slice, calls, retries], oldest first; sums of them in `_calls`, `_retries`
        self._slices: deque[list[int]] = deque()
        self._calls = 0
        self._retries = 0
        self._refused = 0

    def record_call(self) -> None:
        """Count one call, not a retry.

        Raises:
            RuntimeError: no event loop is running.
        """
        self._current_slice()[1] += 1
        self._calls += 1

    def try_retry(self) -> bool:
        """Take one retry from the budget; False if it is used up.

        Raises:
            RuntimeError: no event loop is running.
        """
        current = self._current_slice()
        if self._retries + 1 > self._ratio * self._calls + self._min_per_second * self._window:
            self._refused += 1
            return False
        current[2] += 1
        self._retries += 1
        return True

    def statistics(self) -> RetryBudgetStatistics:
        """A snapshot of the counts, as of the last call or retry."""
        return RetryBudgetStatistics(self._calls, self._retries, self._refused)

    def _current_slice(self) -> list[int]:
        now = math.floor(asyncio.get_running_loop().time() / self._window * _SLICES)
        slices = self._slices
        # A clock that went back is another loop's: its slices say nothing about now.
        while slices and not now - _SLICES < slices[0][0] <= now:
            _, calls, retries = slices.popleft()
            self._calls -= calls
            self._retries -= retries
        if not slices or slices[-1][0] != now:
            slices.append([now, 0, 0])
        return slices[-1]

    def __repr__(self) -> str:
        return (
            f"<RetryBudget {self._retries} retries for {self._calls} calls in {self._window:g} s, "
            f"ratio {self._ratio:g}, {self._refused} refused>"
        )


def backoff(
    attempts: int,
    *,
    on: RetryOn = Exception,
    base: float = 0.1,
    max: float = 5.0,  # noqa: A002 - the word for it, and `max()` is not needed here
    jitter: bool = True,
    budget: RetryBudget | None = None,
    random: Callable[[], float] = _random.random,
) -> RetryHook:
    """A retry hook: exponential delays with full jitter, for `map_limited(..., retry=...)`.

    The delay before attempt n + 1 is drawn evenly from 0 to `base * 2 ** (n - 1)`, at most `max`:
    the "full jitter" of the AWS architecture blog ("Exponential Backoff And Jitter"), which
    spreads the retries of many clients best. If the error has a `retry_after` attribute with a
    number of seconds, that is added, also beyond `max`: `max` bounds our guess, not what the
    server asks for.

    Never retries what is no `Exception`: cancellation, KeyboardInterrupt, SystemExit.

    Args:
        attempts: calls in all, with the first one, int >= 1.
        on: errors that are worth another attempt: an `Exception` class, a tuple of them, or a
            plain function of the error that tells. Better name them than retry every bug.
        base: upper bound in seconds of the first delay, >= 0.
        max: upper bound in seconds of every delay, >= `base`.
        jitter: False for exactly the upper bounds.
        budget: `RetryBudget` that must allow each retry.
        random: source of numbers 0 <= x < 1, for tests.

    Returns:
        The hook: called with the number of the failed attempt, from 1, and its error, it returns
        the delay in seconds, or None to give up.

    Raises:
        TypeError: an argument is of the wrong kind, or `on` names what is never retried.
        ValueError: an argument is out of its range.

    Example:
        >>> retry = backoff(4, on=OSError, base=1, max=3, jitter=False)
        >>> [retry(attempt, OSError()) for attempt in (1, 2, 3, 4)]
        [1.0, 2.0, 3.0, None]
        >>> retry(1, ValueError()) is None
        True
    """
    return _Backoff(attempts, on, base, max, jitter, budget, random)


def checked_delay(delay: Any) -> float | None:
    """What a retry hook returned, if it makes sense."""
    if delay is None:
        return None
    rule = "retry must return seconds >= 0 to wait before the next attempt, or None to give up"
    if inspect.iscoroutine(delay):
        delay.close()
        raise TypeError(f"{rule}, got a coroutine; make it a plain function")
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise TypeError(f"{rule}, got {delay!r}")
    if not 0 <= delay < math.inf:
        raise ValueError(f"{rule}, got {delay!r}")
    return float(delay)


def call_counter(retry: RetryHook | None) -> Callable[[], None] | None:
    """What a map must call once per item for the budget of its hook, or None if it has none."""
    budget = retry.budget if isinstance(retry, _Backoff) else None
    return None if budget is None else budget.record_call


class _Backoff:
    """The hook that `backoff` makes."""

    __slots__ = ("_accepts", "_attempts", "_base", "_jitter", "_max", "_on", "_random", "budget")

    def __init__(
        self,
        attempts: int,
        on: RetryOn,
        base: float,
        most: float,
        jitter: bool,
        budget: RetryBudget | None,
        random: Callable[[], float],
    ) -> None:
        self._attempts = check_count("attempts", attempts, remedy="it counts the first call too")
        self._base = check_seconds("base", base)
        self._max = check_seconds("max", most)
        if self._max < self._base:
            raise ValueError(f"max must be >= base ({base!r}), got {most!r}")
        self._accepts = _check_on(on)
        if not isinstance(budget, RetryBudget | None):
            raise TypeError(f"budget must be a RetryBudget or None, got {budget!r}")
        if not callable(random):
            raise TypeError(f"random must be a function like random.random, got {random!r}")
        self._on = on
        self._jitter = jitter
        self._random = random
        self.budget = budget

    def __call__(self, attempt: int, error: Exception) -> float | None:
        if attempt >= self._attempts or not isinstance(error, Exception):
            return None
        if not self._accepts(error):
            return None
        if self.budget is not None and not self.budget.try_retry():
            if _hooks.listeners:
                _hooks.emit("retry.refused", budget=self.budget, attempt=attempt, error=error)
            return None
        # 2.0 ** 1024 would overflow; long before that the bound is `max`, unless base is 0.
        delay = min(self._max, self._base * 2.0 ** min(attempt - 1, 1000))
        if self._jitter:
            delay *= self._random()
        return delay + _retry_after(error)

    def __repr__(self) -> str:
        on = self._on
        names = ", ".join(
            getattr(each, "__qualname__", repr(each))
            for each in (on if isinstance(on, tuple) else (on,))
        )
        return (
            f"<backoff {self._attempts} attempts on {names}, "
            f"{self._base:g} to {self._max:g} s{'' if self._jitter else ', no jitter'}>"
        )


def _retry_after(error: Exception) -> float:
    seconds = getattr(error, "retry_after", None)
    if isinstance(seconds, (int, float)) and 0 < seconds < math.inf:
        return float(seconds)
    return 0.0  # absent, or not seconds: a date, say


def _check_on(on: Any) -> Callable[[Exception], bool]:
    """`on` as a function that tells whether an error is worth another attempt."""
    classes = on if isinstance(on, tuple) else (on,)
    if all(isinstance(each, type) for each in classes):
        for each in classes:
            if not issubclass(each, Exception):
                raise TypeError(
                    f"on must name subclasses of Exception, got {each.__qualname__}; "
                    f"cancellation and exits are never retried"
                )
        return lambda error: isinstance(error, classes)
    if inspect.iscoroutinefunction(on):
        raise TypeError(f"on must be a plain function, got the async function {on.__qualname__}")
    if not callable(on):
        raise TypeError(
            f"on must be an Exception class, a tuple of them, or a function of the error, "
            f"got {on!r}"
        )
    predicate: Any = on
    return lambda error: bool(predicate(error))


def _check_number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number >= 0, got {value!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number >= 0, got {value!r}")
    return float(value)
