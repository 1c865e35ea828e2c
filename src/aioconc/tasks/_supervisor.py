"""Supervision: children that are started again when they end.

The meaning of restart policies, strategies, restart intensity and shutdown order is that of
Erlang/OTP supervisors (https://www.erlang.org/doc/system/sup_princ.html). One manager task treats
one event after another, so that restarts never overlap; a child that waits out its backoff does
so in its own task.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVarTuple

from aioconc._internal import _hooks
from aioconc._internal._check import check_choice, check_count, check_seconds, check_timeout
from aioconc.errors import SupervisorFailed, TaskCancelled
from aioconc.tasks._child import called, check_fn, name_of
from aioconc.tasks._group import TaskGroup
from aioconc.tasks._join import chain, join
from aioconc.tasks._scope import check_loop, enter_context_of

Ts = TypeVarTuple("Ts")

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Backoff = Callable[[int, Exception], float | None]

_log = logging.getLogger("aioconc")


@dataclass(frozen=True)
class SupervisorStatistics:
    """A snapshot of a `Supervisor`: its children, those that run, and restarts so far."""

    children: int
    running: int
    restarts: int


# Child life:   waiting -> running -> ended       (for good, or until the manager restarts it)
#                  \--------\-----> stopping -> ended
class SupervisedChild:
    """What `Supervisor.start_child` gives: a view of one child through all its restarts."""

    __slots__ = (
        "_args",
        "_attempt",
        "_context",
        "_error",
        "_fn",
        "_name",
        "_restart",
        "_restarts",
        "_shutdown",
        "_started_at",
        "_state",
        "_task",
    )

    def __init__(
        self,
        fn: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        restart: Restart,
        shutdown: float | None,
        name: str,
    ) -> None:
        self._fn = fn
        self._args = args
        self._restart: Restart = restart
        self._shutdown = shutdown
        self._name = name
        self._context = copy_context()
        self._task: asyncio.Task[Exception | None] | None = None
        self._state: Literal["waiting", "running", "stopping", "ended"] = "waiting"
        self._error: Exception | None = None
        self._restarts = 0
        # Restarts in a row, for the backoff; counts anew once the child has lived `within`.
        self._attempt = 0
        self._started_at = 0.0

    @property
    def name(self) -> str:
        """The child's name: given, or that of its function."""
        return self._name

    @property
    def state(self) -> Literal["waiting", "running", "stopping", "ended"]:
        """Where the child is in its life; "waiting" is the time before a delayed restart."""
        return self._state

    @property
    def restarts(self) -> int:
        """How often the child has been started again."""
        return self._restarts

    @property
    def error(self) -> Exception | None:
        """Its last failure, or None."""
        return self._error

    def __repr__(self) -> str:
        return f"<SupervisedChild {self._name!r} {self._state}, {self._restarts} restarts>"


# Rule 1: only the manager task starts children again and stops them; others leave a note in
#         `_ended` or cancel the group.
# Rule 2: a child is in `_children` from start_child until it has ended for good, in start order.
# Rule 3: `_runs` is None until the manager's first step, which starts the children so far.
class Supervisor:
    """Children that are restarted when they fail, until they fail too often.

    The block waits for its children as that of a `TaskGroup` does, so with permanent children it
    lasts until it is cancelled, `cancel` is called, or restarts become too many. Children then stop
    one after another, the one started last first.

    Args:
        strategy: what a restart takes along: "one_for_one" nothing; "one_for_all" every child;
            "rest_for_one" the children started after the failed one.
        max_restarts: most restarts within any `within` seconds, int >= 0; one more and the
            supervisor gives up.
        within: seconds > 0.
        backoff: called with the number of restarts in a row (from 1) and the error; returns the
            seconds to wait before the restart, or None to give up. Default: restart at once.
        name: shown in `repr` and in errors.

    Raises:
        SupervisorFailed: from the block, after all children have stopped: an `ExceptionGroup` of
            the failures that were too many.
        Exception: what the body raises, bare, after all children have stopped.

    Cancellation:
        Stops all children in order, waits for them, and raises.

    Example:
        >>> async def main():
        ...     tries = []
        ...     async def flaky():
        ...         tries.append(1)
        ...         if len(tries) < 3:
        ...             raise OSError("not yet")
        ...     async with Supervisor() as supervisor:
        ...         supervisor.start_child(flaky, restart="transient")
        ...     return len(tries)
        >>> logging.disable()  # each failure is logged
        >>> asyncio.run(main())
        3
        >>> logging.disable(logging.NOTSET)
    """

    def __init__(
        self,
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        within: float = 5.0,
        backoff: Backoff | None = None,
        name: str | None = None,
    ) -> None:
        check_choice("strategy", strategy, ("one_for_one", "one_for_all", "rest_for_one"))
        self._strategy: Strategy = strategy
        self._max_restarts = check_count("max_restarts", max_restarts, least=0)
        self._within = check_seconds("within", within, zero=False)
        if backoff is not None and not callable(backoff):
            raise TypeError(f"backoff must be a function of attempt and error, got {backoff!r}")
        self._backoff = backoff
        self._name = name
        # The host's group; its only child is the manager, whose group holds the children.
        self._group = TaskGroup(name=name)
        self._group._reports_overdue = False  # each child has its own `shutdown`
        self._runs: TaskGroup | None = None
        self._host: asyncio.Task[Any] | None = None
        self._children: list[SupervisedChild] = []
        self._ended: deque[tuple[SupervisedChild, asyncio.Task[Exception | None]]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._recent: deque[tuple[float, Exception]] = deque()
        self._restarts = 0
        self._body_done = False
        self._stopping = False
        self._failure: BaseException | None = None

    def start_child(
        self,
        fn: Callable[[*Ts], Awaitable[Any]],
        /,
        *args: *Ts,
        restart: Restart = "permanent",
        shutdown: float | None = 5.0,
        name: str | None = None,
    ) -> SupervisedChild:
        """Start `fn(*args)` as a supervised child.

        Args:
            fn: async function; called anew for each restart.
            args: its positional arguments.
            restart: "permanent": whenever it ends; "transient": when it fails; "temporary": never,
                a failure is logged and forgotten. A child that somebody else cancelled has failed.
            shutdown: seconds >= 0 it may take to end once it is cancelled; then that is logged and
                it is cancelled again. None to wait in silence. It is waited for in any case.
            name: its name; default: that of `fn`.

        Raises:
            TypeError: `fn` is a coroutine or not callable.
            RuntimeError: the supervisor is not open, or is stopping.
        """
        check_fn("start_child", fn)
        check_choice("restart", restart, ("permanent", "transient", "temporary"))
        shutdown = check_timeout("shutdown", shutdown)
        if self._host is None or self._stopping or self._group.scope.cancel_called:
            problem = "has not been entered; use `async with`"
            raise RuntimeError(f"{self!r} {problem if self._host is None else 'is stopping'}")
        check_loop(self._host.get_loop(), "a Supervisor", "supervisor.start_child")
        child = SupervisedChild(fn, args, restart, shutdown, name or name_of(fn))
        self._children.append(child)
        if self._runs is not None:
            self._begin(child, 0.0)
        return child

    def cancel(self, reason: object = None) -> None:
        """End the block early and quietly: cancels the body and stops the children in order.

        Raises:
            RuntimeError: called from outside the supervisor's event loop.
        """
        self._group.cancel(reason)

    @property
    def children(self) -> tuple[SupervisedChild, ...]:
        """The children that have not ended for good, in the order in which they were started."""
        return tuple(self._children)

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of the children's numbers."""
        return SupervisorStatistics(
            children=len(self._children),
            running=sum(child._state == "running" for child in self._children),
            restarts=self._restarts,
        )

    # ------------------------------------------------------------------ one child's run

    def _begin(self, child: SupervisedChild, delay: float) -> None:
        assert self._runs is not None
        child._state = "waiting"
        context = child._context.copy()
        context.run(enter_context_of, self._runs.scope)
        task = self._runs.create_task(self._live(child, delay), name=child._name, context=context)
        child._task = task
        task.add_done_callback(partial(self._on_end, child))
        # The error of a child that ran eagerly leads to this frame by f_back: hold no circle.
        del child, task

    async def _live(self, child: SupervisedChild, delay: float) -> Exception | None:
        """One run of the child; returns its failure, which must not reach the group."""
        if delay > 0:
            await asyncio.sleep(delay)
        child._state = "running"
        child._started_at = asyncio.get_running_loop().time()
        try:
            await called(child._fn, child._args)
        except Exception as error:
            return error
        finally:
            del child  # the error holds this frame, and the child shall hold the error
        return None

    def _on_end(self, child: SupervisedChild, task: "asyncio.Task[Exception | None]") -> None:
        if child._state != "stopping":
            child._state = "ended"
            self._ended.append((child, task))
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _report(self, event: str, child: SupervisedChild, what: str) -> None:
        _log.warning("%r: child %r %s", self, child._name, what, exc_info=child._error)
        if _hooks.listeners:
            _hooks.emit(event, supervisor=self, child=child, error=child._error)

    # ------------------------------------------------------------------ the manager

    async def _manage(self) -> None:
        try:
            await self._supervise()
        except (SystemExit, KeyboardInterrupt) as leaving:
            # Has left the loop through the child already. Raised by this task too, it would break
            # out of the loop a second time, out of the clean-up; the host raises it.
            self._failure = leaving
            self._group.cancel("a child ends the program")

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        runs = TaskGroup(name=self._name)
        runs._reports_overdue = False
        async with runs as self._runs:
            try:
                for child in self._children:
                    self._begin(child, 0.0)
                    del child
                while self._ended or self._children or not self._body_done:
                    if self._ended:
                        await self._treat(*self._ended.popleft())
                    else:
                        self._wake = loop.create_future()
                        await self._wake
            except Exception as failure:  # gave up, or the backoff hook failed
                self._failure = failure
                self._group.cancel("the supervisor gave up")
            finally:
                self._stopping = True
                cancelled = await self._stop(self._children)
                self._children.clear()
                if cancelled is not None:
                    try:
                        raise cancelled
                    finally:
                        cancelled = None

    async def _treat(self, child: SupervisedChild, task: "asyncio.Task[Exception | None]") -> None:
        """Restart a child that has ended, with those its strategy takes along, or let it go."""
        if child._task is not task or child._state != "ended" or child not in self._children:
            return  # restarted or stopped meanwhile
        failure = _failure_of(child, task)
        if failure is not None:
            child._error = failure
        if child._restart == "temporary" or (child._restart == "transient" and failure is None):
            self._children.remove(child)
            if failure is not None:
                self._report("supervisor.child_failed", child, "failed, and is not restarted")
            return
        delay = self._decide(child, failure)
        affected = self._taken_along(child)
        cancelled = await self._stop(affected)
        if cancelled is not None:
            raise cancelled
        for each in affected:
            if each._restart == "temporary" and each is not child:
                self._children.remove(each)
            else:
                each._restarts += 1
                self._begin(each, delay)
        self._restarts += 1
        self._report("supervisor.child_restarted", child, "ended, and is restarted")

    def _decide(self, child: SupervisedChild, failure: Exception | None) -> float:
        """The delay before a restart; SupervisorFailed if it is one too many."""
        now = asyncio.get_running_loop().time()
        lived = now - child._started_at
        child._attempt = 1 if lived >= self._within else child._attempt + 1
        self._recent.append(
            (now, failure or RuntimeError(f"{child._name} ended, and it is permanent"))
        )
        while self._recent[0][0] <= now - self._within:
            self._recent.popleft()
        if len(self._recent) > self._max_restarts:
            raise self._too_many(f"more than {self._max_restarts} restarts in {self._within:g} s")
        if failure is None or self._backoff is None:
            return 0.0
        delay = self._backoff(child._attempt, failure)
        if delay is None:
            raise self._too_many(f"backoff gave up on child {child._name!r}")
        return delay

    def _too_many(self, why: str) -> SupervisorFailed:
        what = f"supervisor {self._name!r}" if self._name else "supervisor"
        return SupervisorFailed(f"{what} gave up: {why}", [error for _, error in self._recent])

    def _taken_along(self, child: SupervisedChild) -> list[SupervisedChild]:
        if self._strategy == "one_for_one":
            return [child]
        if self._strategy == "one_for_all":
            return self._children[:]
        return self._children[self._children.index(child) :]

    async def _stop(self, children: Iterable[SupervisedChild]) -> asyncio.CancelledError | None:
        """End the children, the last one first; return the newest cancellation meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        for child in [*children][::-1]:
            task = child._task
            if task is not None and not task.done():
                child._state = "stopping"
                task.cancel()
                newer = await self._outlast(child, task)
                if newer is not None:
                    chain(newer, cancelled)
                    cancelled = newer
                if not task.cancelled() and task.exception() is None:
                    failure = task.result()
                    if failure is not None:
                        child._error = failure
                        self._report("supervisor.child_failed", child, "failed as it was stopped")
            child._state = "ended"
        try:
            return cancelled
        finally:
            cancelled = newer = None

    async def _outlast(
        self, child: SupervisedChild, task: "asyncio.Task[Exception | None]"
    ) -> asyncio.CancelledError | None:
        if child._shutdown is None:
            return await join(task)

        def insist() -> None:
            self._report(
                "supervisor.child_overdue",
                child,
                f"has not ended {child._shutdown:g} s after it was cancelled; cancelled again",
            )
            task.cancel()

        timer = asyncio.get_running_loop().call_later(child._shutdown, insist)
        try:
            return await join(task)
        finally:
            timer.cancel()

    # ------------------------------------------------------------------ the block

    async def __aenter__(self) -> Self:
        if self._host is not None:
            raise RuntimeError(f"{self!r} has already been entered; make another one")
        await self._group.__aenter__()
        self._host = asyncio.current_task()
        if not self._group.scope.cancel_called:
            self._group.create_task(self._manage(), name=f"{self._name or 'supervisor'} manager")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        host = self._host
        assert host is not None
        self._body_done = True
        self._notify()
        try:
            if exc is None or isinstance(exc, asyncio.CancelledError):
                swallow = await self._group.__aexit__(exc_type, exc, traceback)
            else:
                self._group.cancel(f"the body failed with {type(exc).__name__}")
                swallow = False
                await self._group.__aexit__(None, None, None)
            if self._failure is not None:
                raise self._failure
            return swallow
        except asyncio.CancelledError as cancelled:
            if self._failure is None:
                raise
            # It came from outside: the failure has cancelled the group, which swallows its own.
            # As in a TaskGroup the errors go first, and the cancellation strikes again.
            host.uncancel()
            host.cancel(*cancelled.args[:1])
            raise self._failure from None
        finally:
            for child in self._children:  # the manager was cancelled before its first step
                child._state = "ended"
            self._children.clear()
            self._recent.clear()
            self._failure = None
            del exc, traceback

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        state = "new" if self._host is None else f"{len(self._children)} children"
        stopping = ", stopping" if self._stopping else ""
        return f"<Supervisor{name} {self._strategy}, {state}, {self._restarts} restarts{stopping}>"


def _failure_of(child: SupervisedChild, task: "asyncio.Task[Exception | None]") -> Exception | None:
    try:
        # A KeyboardInterrupt or SystemExit has gone to the group of the runs, which ends all.
        return task.result() if task.cancelled() or task.exception() is None else None
    except asyncio.CancelledError as error:
        failure = TaskCancelled(f"{child._name} was cancelled by somebody else")
        failure.__cause__ = error
        return failure
