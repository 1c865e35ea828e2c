"""The first successes of several attempts at the same thing.

`race` starts every function in a task of its own and returns once enough have succeeded, or too
few still can. All of them have ended by then: losers are cancelled and joined. Starting them one
after another, or with a delay between them, is left to the functions.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from aioconc._internal import _hooks
from aioconc._internal._check import check_count
from aioconc.errors import TaskCancelled
from aioconc.tasks._join import join
from aioconc.tasks._scope import adopt, raise_if_cancelled

T = TypeVar("T")


async def race(*fns: Callable[[], Awaitable[T]], want: int = 1) -> list[T]:
    """The results of the first `want` functions to succeed, in order of completion.

    Equals `asyncio.wait(tasks, return_when=FIRST_COMPLETED)` in a loop that passes over failures,
    and then cancels and awaits the rest. Failures do not matter as long as enough can succeed.

    Args:
        fns: async functions without arguments; use `functools.partial` or a lambda to give them
            some. Each runs in its own task, with a copy of the caller's context.
        want: successes wanted, 1 <= want <= number of functions.

    Returns:
        Exactly `want` results.

    Raises:
        ExceptionGroup: fewer than `want` can still succeed; holds all failures. Where somebody
            else cancelled a function's work, its failure is `TaskCancelled`.
        TypeError: a function is not callable, or is a coroutine; nothing has started.
        ValueError: no functions, or `want` out of its range; nothing has started.
        KeyboardInterrupt, SystemExit: a function raised it; leaves bare, after the join.

    Cancellation:
        Cancels all functions, waits until they have ended, and is raised; results are lost, also
        in the tick of the win. A loser that has succeeded in that tick, or that swallows its
        cancellation and returns, is ignored: what it opened is its own to close. What a loser
        raises while it is being cancelled goes to the loop's exception handler when there is no
        group to put it in. Failures of a race that is won are emitted as the event `race.failed`.

    Example:
        >>> async def answer(delay, value):
        ...     await asyncio.sleep(delay)
        ...     return value
        >>> async def main():
        ...     return await race(lambda: answer(60, "slow"), lambda: answer(0.001, "quick"))
        >>> asyncio.run(main())
        ['quick']
    """
    _check_fns(fns)
    if check_count("want", want) > len(fns):
        raise ValueError(f"want must be <= the number of functions ({len(fns)}), got {want}")
    raise_if_cancelled()
    contest: _Contest[T] = _Contest(want, len(fns))
    cancelled: asyncio.CancelledError | None = None
    try:
        contest.start(fns)
        cancelled = await join(*contest.tasks, on_cancel=contest.stop)
        contest.settle()
        if contest.exit is not None:
            contest.report_late()
            raise contest.exit
        if cancelled is not None:
            contest.report_late()
            raise cancelled
        if len(contest.results) == want:
            contest.report_late()
            return contest.results
        failures = contest.failures + contest.late
        raise ExceptionGroup(
            f"race: {len(contest.results)} of {want} wanted succeeded, {len(failures)} failed",
            failures,
        )
    finally:
        # Exceptions hold frames, and the frames hold these.
        contest.clear()
        failures = []
        cancelled = None


# Rule 1: the outcome is decided once, inside the step in which a function ends; from then on
#         `over` is True, every other task has been cancelled once, and no function is started.
# Rule 2: `failures` holds what failed before that, `late` what failed after.
class _Contest(Generic[T]):
    """The state of one race."""

    def __init__(self, want: int, entrants: int) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.results: list[T] = []
        self.failures: list[Exception] = []
        self.late: list[Exception] = []
        self.exit: BaseException | None = None
        self.over = False
        self._want = want
        self._entrants = entrants
        # True while a task is being created: an eager one runs already, unknown to `tasks`.
        self._creating = False
        # Tasks that `_ended` has looked at.
        self._settled: set[asyncio.Task[None]] = set()

    def start(self, fns: tuple[Callable[[], Awaitable[T]], ...]) -> None:
        loop = asyncio.get_running_loop()
        context = copy_context()
        context.run(adopt, self._is_member)
        for fn in fns:
            if self.over:  # decided by eager tasks
                return
            self._creating = True
            try:
                task = loop.create_task(
                    self._run(fn), name=f"race:{_name_of(fn)}", context=context.copy()
                )
            finally:
                self._creating = False
            self.tasks.append(task)
            if task.done():
                self._ended(task)
            else:
                task.add_done_callback(self._ended)

    def stop(self, _: object = None) -> None:
        """Decide the race: nothing counts any more, and whoever still runs is cancelled."""
        if self.over:
            return
        self.over = True
        current = asyncio.current_task()
        for task in self.tasks:
            if task is not current and not task.done():
                task.cancel()

    def settle(self) -> None:
        """Look at every task, for join may return before the loop has called `_ended`."""
        for task in self.tasks:
            self._ended(task)

    def clear(self) -> None:
        self.tasks = []
        self._settled.clear()
        self.results = []
        self.failures = []
        self.late = []
        self.exit = None

    def report_late(self) -> None:
        """Hand what losers raised while being cancelled to the loop: nothing else can carry it.

        A loser cannot fail by itself after the decision: its next step meets the cancellation.
        """
        loop = asyncio.get_running_loop()
        for error in self.late:
            loop.call_exception_handler(
                {"message": "race: a loser failed while being cancelled", "exception": error}
            )

    async def _run(self, fn: Callable[[], Awaitable[T]]) -> None:
        try:
            awaitable = fn()
            if not hasattr(awaitable, "__await__"):
                raise TypeError(
                    f"race expected async functions, but {_name_of(fn)} returned {awaitable!r}"
                )
            result = await awaitable
        except asyncio.CancelledError as error:
            if self.over:
                raise
            self._failed(fn, _as_failure(fn, error))
        except GeneratorExit:
            # Raised by fn, or this coroutine is being destroyed: only `_ended` can tell.
            raise
        except Exception as error:
            self._failed(fn, error)
        except BaseException as error:
            # KeyboardInterrupt and SystemExit would stop the loop here, before anything is
            # joined; race raises them in the caller's task instead.
            self.exit = self.exit or error
            self.stop()
        else:
            if not self.over:
                self.results.append(result)
                if len(self.results) == self._want:
                    self.stop()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Catch the ends that `_run` cannot see: cancelled before its first step, GeneratorExit."""
        if task in self._settled or task not in self.tasks:
            return
        self._settled.add(task)
        if task.cancelled():
            if not self.over:
                self._failed(task, _as_failure(task, asyncio.CancelledError()))
        elif (error := task.exception()) is not None:
            self._failed(task, _as_failure(task, error))

    def _failed(self, entrant: object, error: Exception) -> None:
        if _hooks.listeners:
            _hooks.emit("race.failed", name=_name_of(entrant), error=error, late=self.over)
        if self.over:
            self.late.append(error)
            return
        self.failures.append(error)
        if self._entrants - len(self.failures) < self._want:
            self.stop()

    def _is_member(self, task: "asyncio.Task[Any]") -> bool:
        return self._creating or task in self.tasks


def _as_failure(entrant: object, cause: BaseException) -> Exception:
    error: Exception
    if isinstance(cause, asyncio.CancelledError):
        error = TaskCancelled(f"race: the work of {_name_of(entrant)} was cancelled by other code")
    else:
        error = RuntimeError(f"race: {_name_of(entrant)} raised {type(cause).__name__}")
    error.__cause__ = cause
    return error


def _name_of(entrant: object) -> str:
    if isinstance(entrant, asyncio.Task):
        return entrant.get_name().removeprefix("race:")
    inner = getattr(entrant, "func", entrant)  # functools.partial
    return getattr(inner, "__qualname__", None) or type(inner).__qualname__


def _check_fns(fns: tuple[Any, ...]) -> None:
    try:
        if not fns:
            raise ValueError("race needs at least one function; did you forget the *: race(*fns)?")
        for fn in fns:
            if asyncio.iscoroutine(fn):
                name = getattr(fn, "__qualname__", "it")
                raise TypeError(
                    f"race expected async functions, got the coroutine {name}(...); "
                    f"did you mean race(lambda: {name}(...), ...)?"
                )
            if isinstance(fn, (list, tuple)):
                raise TypeError(
                    f"race expected async functions, got a {type(fn).__name__} of {len(fn)}; "
                    f"did you mean race(*fns)?"
                )
            if not callable(fn):
                raise TypeError(f"race expected async functions, got {fn!r}")
    except BaseException:
        for fn in fns:
            if asyncio.iscoroutine(fn):
                fn.close()
        raise
