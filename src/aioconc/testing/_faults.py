"""Faults for worker processes: functions that die or hang at a chosen step of their own call.

A fault is a wrapper of the user's function, so it works on every executor whose workers are
processes, through the same road that real calls take. It refuses to strike in the process that
made it. What an executor does to the wire between two steps is its own tests' business.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar

from aioconc._internal._check import check_choice, check_count, check_seconds
from aioconc.worker import info

P = ParamSpec("P")
R = TypeVar("R")

When = Literal["before", "during", "after"]

_WHEN: Final = ("before", "during", "after")

# The hardest end there is: no handler runs, nothing is flushed. Windows has no SIGKILL; there
# `os.kill` ends a process just as hard, whatever the signal.
_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)


class _Fault(Generic[P, R]):
    """`fn`, with a fault at one step. Pickles as long as `fn` does."""

    def __init__(self, fn: Callable[P, R], when: When, attempts: int | None) -> None:
        self._fn = fn
        self._when = when
        self._attempts = attempts
        self._made_in = os.getpid()
        self.__qualname__ = self.__name__ = getattr(fn, "__qualname__", type(fn).__qualname__)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if os.getpid() == self._made_in:
            raise RuntimeError(
                f"{type(self).__name__} of {self.__name__} would strike the process that made it; "
                "run it on an executor whose workers are processes"
            )
        if self._attempts is not None and info().attempt > self._attempts:
            return self._fn(*args, **kwargs)
        if self._when == "before":
            self.strike()
        if self._when == "during":
            # From a thread, so that `fn` may be anything; the call waits for it, or else a short
            # `fn` would be over and the fault would hit the next call.
            striker = threading.Thread(target=self.strike_soon, daemon=True)
            striker.start()
            try:
                return self._fn(*args, **kwargs)
            finally:
                striker.join()
        result = self._fn(*args, **kwargs)
        self.strike()
        return result

    def strike(self) -> None:
        raise NotImplementedError

    def strike_soon(self) -> None:
        raise NotImplementedError


class _Kill(_Fault[P, R]):
    def __init__(
        self, fn: Callable[P, R], when: When, attempts: int | None, delay: float, number: int
    ) -> None:
        super().__init__(fn, when, attempts)
        self._delay = delay
        self._number = number

    def strike(self) -> None:
        os.kill(os.getpid(), self._number)
        time.sleep(60)  # a signal is delivered a little later

    def strike_soon(self) -> None:
        time.sleep(self._delay)
        self.strike()


class _Hang(_Fault[P, R]):
    def strike(self) -> None:
        while True:
            time.sleep(3600)


def kill_worker(
    fn: Callable[P, R],
    *,
    when: When = "during",
    attempts: int | None = None,
    delay: float = 0.01,
    signal: int = _KILL,
) -> Callable[P, R]:
    """`fn`, but its worker process is killed at a chosen step of the call.

    Equals a worker that the kernel kills for want of memory, at a moment of the test's choosing.

    Args:
        fn: what the worker runs; must pickle as for any call.
        when: "before" `fn` starts, "during" its run, or "after" it has returned and before its
            result is sent.
        attempts: strike in so many attempts of a call, int >= 1, and let later ones be; None:
            always. For tests of `retries`.
        delay: seconds into the run at which "during" strikes.
        signal: number of the signal; SIGKILL.

    Returns:
        A function to hand to an executor.

    Raises:
        RuntimeError: (when called) it runs in the process that made it, and would kill the test.
        TypeError, ValueError: an argument is out of range.

    Example:
        >>> from aioconc.errors import WorkerCrashed
        >>> async def main():
        ...     try:
        ...         await offload_cpu(kill_worker(sum, when="before"), [1, 2])
        ...     except WorkerCrashed:
        ...         return "a crash"
    """
    check_choice("when", when, _WHEN)
    _check_attempts(attempts)
    check_seconds("delay", delay)
    return _Kill(fn, when, attempts, delay, signal)


def hang_worker(
    fn: Callable[P, R],
    *,
    when: Literal["before", "after"] = "after",
    attempts: int | None = None,
) -> Callable[P, R]:
    """`fn`, but its worker never answers: it hangs before `fn`, or keeps its result.

    Args:
        fn: what the worker runs; must pickle as for any call.
        when: "before" `fn` starts, or "after" it has returned.
        attempts: as for `kill_worker`.

    Returns:
        A function to hand to an executor; only a kill ends the call.

    Raises:
        RuntimeError: (when called) it runs in the process that made it.
        TypeError, ValueError: an argument is out of range.

    Example:
        >>> hang_worker(sum, when="after").__name__
        'sum'
    """
    check_choice("when", when, ("before", "after"))
    _check_attempts(attempts)
    return _Hang(fn, when, attempts)


def _check_attempts(attempts: Any) -> None:
    if attempts is not None:
        check_count("attempts", attempts, remedy="pass None to strike always")
