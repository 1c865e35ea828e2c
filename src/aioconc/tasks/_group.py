"""Task groups: children that end before their block does.

`TaskGroup` can stand wherever `asyncio.TaskGroup` does, and adds a limit, a time limit, quiet
cancellation, service children and a start-up handshake. The group's cancellation of its own block
is a `CancelScope`, its limit is kept by `Slots`, and what it raises is decided by `Ending`; this
module adds the children and the join.
"""

import asyncio
import math
from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, TypeVarTuple

from aioconc._internal import _hooks
from aioconc._internal._check import check_limit
from aioconc.tasks._child import Queued, TaskStatus, called, check_fn, coroutine_of, name_of
from aioconc.tasks._ending import Ending
from aioconc.tasks._handle import TaskHandle
from aioconc.tasks._join import cancel_and_join, chain, join, wait_done
from aioconc.tasks._overdue import watch_overdue
from aioconc.tasks._scope import CancelScope, raise_if_cancelled
from aioconc.tasks._slots import Slots

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class GroupStatistics:
    """A snapshot of a `TaskGroup`: children running, queued for a slot, and in the background."""

    running: int
    queued: int
    background: int
    errors: int


# Group life:   new -> open (body runs) -> joining (body done, children left) -> closed
#               aborting may begin in open or joining and lasts until closed.
# Rule 1: a live child is in exactly one of `_tasks` and `_background`; the block ends when both
#         are empty and no slot is promised to a child to come.
# Rule 2: once `_aborting`, no child is added, and every child present has been cancelled once.
# Rule 3: `_ending` holds each child's failure once; only __aexit__ raises them.
class TaskGroup:
    """Children that have all ended when the block ends; one failure cancels the others.

    A drop-in superset of `asyncio.TaskGroup`: the same `create_task`, the same `ExceptionGroup`.
    It is also right where the standard one is not: nested groups that fail in the same tick, eager
    children, and inside an anyio scope.

    Args:
        limit: most children running at once, int >= 1; None or `math.inf` for no limit. Bounds
            `start_soon`, `spawn` and `create_task`, not `start` and `start_background`.
        timeout: seconds >= 0 for the whole block, children included; None for no limit.
        name: shown in `repr`.

    Raises:
        ExceptionGroup: from the block, with the errors of the children and of the body.
        TimeoutError: from the block, when `timeout` is up. Where children fail as they are
            cancelled, it is in the group with their errors.

    Cancellation:
        Cancels all children, waits for them, and raises the original `CancelledError`; if a child
        fails meanwhile, raises the group instead and cancels again at the next await. A child that
        has not ended 10 s after it was cancelled is waited for further, and named in a warning of
        the logger "aioconc" with the place where it is.

    Example:
        >>> async def main():
        ...     async with TaskGroup(limit=2) as group:
        ...         handles = [group.start_soon(asyncio.sleep, 0, n) for n in range(4)]
        ...     return [handle.result() for handle in handles]
        >>> asyncio.run(main())
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        *,
        limit: float | None = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> None:
        slots = math.inf if limit is None else check_limit("limit", limit)
        self._slots = None if slots == math.inf else Slots(slots)
        self._scope = CancelScope(timeout=timeout, name=name)
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        # Equals `_loop` while the body runs and nothing has failed: children are then welcome
        # without further questions.
        self._open_loop: asyncio.AbstractEventLoop | None = None
        self._host: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[Any]] = set()
        # Children of `start` that are not ready; their failure belongs to the caller of `start`.
        # None until there is one.
        self._unready: dict[asyncio.Task[Any], asyncio.Future[Any]] | None = None
        # How many calls that create a child are on the stack. An eager child runs its first step
        # inside such a call, not yet known to `_tasks`.
        self._creating = 0
        # Exists once there is an error.
        self._ending: Ending | None = None
        self._aborting = False
        self._joining = False
        self._stopping_background = False
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        # Set while cancelled children are waited for: when that began, and what will report them.
        self._cancelled_at = 0.0
        self._overdue: asyncio.TimerHandle | None = None
        # A Supervisor has its own rules for children that do not end, and switches this off.
        self._reports_overdue = True

    # ------------------------------------------------------------------ starting children

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> "asyncio.Task[T]":
        """Start a child from a coroutine, as `asyncio.TaskGroup.create_task` does.

        Args:
            coro: the coroutine; closed if the group refuses it.
            name: name of the task.
            context: context to run in; default: a copy of the current one.
            options: passed to `loop.create_task`, for newer Pythons.

        Returns:
            The `asyncio.Task`.

        Raises:
            RuntimeError: the group is not open, is shutting down, is full (this call cannot wait:
                use `start_soon` or `spawn`), or belongs to another loop.
        """
        if self._slots is None:
            return self._create(coro, name, context, options)
        if self._open_loop is None or _get_running_loop() is not self._open_loop:
            self._check_open(coro)  # first: a reserved slot makes the group look unfinished
        if not self._slots.free():
            coro.close()
            raise RuntimeError(
                f"{self!r} is full, and create_task never waits; "
                f"use start_soon(fn, *args) to queue, or await spawn(fn, *args)"
            )
        return self._create_in_slot(self._slots, coro, name, context, options)

    def start_soon(
        self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, name: str | None = None
    ) -> TaskHandle[T]:
        """Start `fn(*args)` as a child now, or as soon as the group's limit allows.

        Args:
            fn: async function.
            args: its positional arguments.
            name: name of the child; default: that of `fn`.

        Returns:
            A `TaskHandle`, to await or cancel.

        Raises:
            TypeError: `fn` is a coroutine or not callable.
            RuntimeError: the group is not open, is shutting down, or belongs to another loop.
        """
        check_fn("start_soon", fn)
        if _get_running_loop() is not self._open_loop or self._open_loop is None:
            self._check_open(None)
        handle: TaskHandle[T] = TaskHandle(name or name_of(fn))
        if self._slots is None or self._slots.free():
            self._begin(handle, fn, args)
        else:
            self._slots.stand_in_line(Queued(handle, fn, args, copy_context()))
        return handle

    async def spawn(
        self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, name: str | None = None
    ) -> TaskHandle[T]:
        """Wait until the group has a free slot, then start `fn(*args)` as a child.

        So a producer goes no faster than its children. Equals `start_soon` in a group without
        limit. First come, first served, together with `start_soon`.

        A child that holds the only slot and awaits `spawn` of its own group waits for ever; give
        such a child a group of its own, or use `start_soon`.

        Raises:
            TypeError: `fn` is a coroutine or not callable.
            RuntimeError: the group is not open, or shuts down during the wait.

        Cancellation:
            While it waits: `fn` has not started, and the place in the queue is given up.
        """
        check_fn("spawn", fn)
        raise_if_cancelled()
        self._check_open(None)
        handle: TaskHandle[T] = TaskHandle(name or name_of(fn))
        slots = self._slots
        if slots is not None and not slots.free():
            assert self._loop is not None
            turn: asyncio.Future[None] = self._loop.create_future()
            slots.stand_in_line(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.cancelled():
                    slots.leave_line(turn)
                elif turn.exception() is None:  # cancelled in the tick of our turn: pass it on
                    slots.reserved -= 1
                    slots.advance(self._begin_queued)
                    self._wake_if_idle()
                raise
            # The child takes the slot itself, before anybody else can run.
            slots.reserved -= 1
        try:
            self._begin(handle, fn, args)
        finally:
            self._wake_if_idle()  # refused: the join has waited for us
        return handle

    async def start(
        self, fn: Callable[..., Awaitable[Any]], /, *args: Any, name: str | None = None
    ) -> Any:
        """Start a child and wait until it says that it is ready.

        Args:
            fn: async function; called with `task_status=`, a `TaskStatus` whose
                `started(value)` it must call.
            args: its positional arguments.
            name: name of the child.

        Returns:
            What the child gave to `started`.

        Raises:
            RuntimeError: the child ended without calling `started`.
            Exception: whatever the child raised before it was ready; the group is not disturbed.

        Cancellation:
            Before the child is ready: the child is cancelled and has ended when this raises.
            In the tick in which it is ready: the child runs on in the group.
        """
        check_fn("start", fn)
        raise_if_cancelled()
        self._check_open(None)
        if self._unready is None:
            self._unready = {}
        assert self._loop is not None
        ready: asyncio.Future[Any] = self._loop.create_future()
        status: TaskStatus[Any] = TaskStatus(ready)

        task = self._create(called(fn, args, task_status=status), name or name_of(fn))
        unready = self._unready
        if not ready.done():
            unready[task] = ready
            ready.add_done_callback(lambda _: unready.pop(task, None))
        # Runs after the group's own callback, which asks `_unready`.
        task.add_done_callback(self._on_start_done)
        try:
            await wait_done(ready)
        except asyncio.CancelledError as cancelled:
            # Nobody takes the child's failure from `start` any more, so it goes to the group.
            if not ready.done():
                del unready[task]
                timer = watch_overdue("group", self, lambda: [task])
                newer = await cancel_and_join([task])
                timer.cancel()
                ready.cancel()
                if newer is not None:
                    chain(newer, cancelled)
                    raise newer from None
            elif ready.exception() is not None:
                self._on_done(task)
            raise
        try:
            return ready.result()
        finally:
            del ready, status

    def start_background(
        self, fn: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, name: str | None = None
    ) -> TaskHandle[T]:
        """Start a service child: cancelled when the body and all other children have ended.

        Made for heartbeats, monitors and consumers that have no end of their own. Its failure
        cancels the group like any child's. Does not count towards the limit.

        Raises:
            TypeError: `fn` is a coroutine or not callable.
            RuntimeError: the group is not open, is shutting down, or belongs to another loop.
        """
        check_fn("start_background", fn)
        handle: TaskHandle[T] = TaskHandle(name or name_of(fn))
        task = self._create(coroutine_of(fn, args), handle.name)
        self._tasks.discard(task)
        self._background.add(task)
        task.add_done_callback(self._on_background_done)
        handle._run_as(task)
        return handle

    def cancel(self, reason: object = None) -> None:
        """End the group early and quietly: cancels the body and all children.

        The block then ends without an error, unless a child or the body fails while it is being
        cancelled. Children that wait for a slot never start.

        Args:
            reason: readable afterwards as `group.scope.reason`.

        Raises:
            RuntimeError: called from outside the group's event loop.
        """
        if self._closed:
            return
        self._scope.cancel(reason)

    @property
    def scope(self) -> CancelScope:
        """The scope around body and children: deadline, `cancel_called`, `cancelled_caught`."""
        return self._scope

    def statistics(self) -> GroupStatistics:
        """A snapshot of the children's numbers."""
        return GroupStatistics(
            running=len(self._tasks),
            queued=0 if self._slots is None else len(self._slots),
            background=len(self._background),
            errors=0 if self._ending is None else len(self._ending.errors),
        )

    # ------------------------------------------------------------------ children's lives

    def _create(
        self,
        coro: Coroutine[Any, Any, T],
        name: str | None,
        context: Context | None = None,
        options: dict[str, Any] | None = None,
    ) -> "asyncio.Task[T]":
        loop = self._open_loop
        if loop is None or _get_running_loop() is not loop:
            loop = self._check_open(coro)
        self._creating += 1
        try:
            if context is None and not options:
                task = loop.create_task(coro, name=name)
            else:
                task = loop.create_task(coro, name=name, context=context, **(options or {}))
        finally:
            self._creating -= 1
        # An eager child has run up to its first suspension by now, and may have ended. Its
        # callback still comes through the loop: a failure must not cancel the body inside this
        # very call.
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        if self._aborting:  # by an eager child, before it was in `_tasks`
            task.cancel()
        try:
            return task
        finally:
            del task  # the error of an eager child leads to this frame (gh-128552)

    def _begin(
        self,
        handle: TaskHandle[T],
        fn: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        context: Context | None = None,
    ) -> None:
        coro = coroutine_of(fn, args)
        if self._slots is None:
            task = self._create(coro, handle._name, context)
        else:
            task = self._create_in_slot(self._slots, coro, handle._name, context)
        handle._run_as(task)
        del task, handle

    def _begin_queued(self, child: Queued) -> None:
        self._begin(child.handle, child.fn, child.args, child.context)

    def _create_in_slot(
        self,
        slots: Slots,
        coro: Coroutine[Any, Any, T],
        name: str | None,
        context: Context | None = None,
        options: dict[str, Any] | None = None,
    ) -> "asyncio.Task[T]":
        """Create a child that counts towards the limit; the caller has seen a free slot."""
        slots.reserved += 1
        try:
            task = self._create(coro, name, context, options)
            slots.taken.add(task)
            task.add_done_callback(self._on_slot_done)
        finally:
            slots.reserved -= 1
        try:
            return task
        finally:
            del task  # as in `_create`

    def _on_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if self._idle is not None and not self._tasks:
            self._wake_if_idle()
        if not task.cancelled() and (error := task.exception()) is not None:
            if not self._unready or task not in self._unready:
                self._on_error(task, error)

    def _on_start_done(self, task: "asyncio.Task[Any]") -> None:
        assert self._unready is not None
        ready = self._unready.pop(task, None)
        if ready is not None and not ready.done():
            error = None if task.cancelled() else task.exception()
            why = f"{task.get_name()} ended without calling task_status.started()"
            ready.set_exception(error or RuntimeError(why))

    def _on_background_done(self, task: "asyncio.Task[Any]") -> None:
        self._background.discard(task)
        self._wake_if_idle()

    def _on_slot_done(self, task: "asyncio.Task[Any]") -> None:
        assert self._slots is not None
        self._slots.taken.discard(task)
        if self._slots and not self._aborting:
            self._slots.advance(self._begin_queued)
            self._wake_if_idle()

    def _on_error(self, task: "asyncio.Task[Any]", error: BaseException) -> None:
        assert self._loop is not None
        assert self._host is not None
        if self._closed or self._host.done():
            # The failure of a `start` whose caller is gone, or somebody killed the host without
            # running its clean-up: nobody is left to raise it.
            self._loop.call_exception_handler(
                {
                    "message": f"child {task.get_name()!r} failed after the end of {self!r}",
                    "exception": error,
                    "task": task,
                }
            )
            return
        self._get_ending().add(error)
        if _hooks.listeners:
            _hooks.emit("group.child_failed", group=self, task=task, error=error)
        if not self._aborting:
            self._abort()
            # Not the error itself: its text is somebody else's code, which may raise.
            why = f"{task.get_name()} failed with {type(error).__name__}"
            if self._joining:
                self._scope._mark_cancelled(why)
            else:
                self._scope.cancel(why)

    def _abort(self) -> None:
        if self._aborting:
            return
        self._aborting = True
        self._open_loop = None
        if self._slots is not None:
            self._slots.send_away(f"{self!r} is shutting down")
        for task in (*self._tasks, *(() if self._stopping_background else self._background)):
            if not task.done():
                task.cancel()
        self._expect_ends()
        self._wake_if_idle()

    def _expect_ends(self) -> None:
        """Report what has not ended some time after it was cancelled, which it was just now."""
        if self._overdue is None and self._reports_overdue and self._loop is not None:
            self._cancelled_at = self._loop.time()
            self._overdue = watch_overdue("group", self, self._unfinished)

    def _unfinished(self) -> Iterator["asyncio.Task[Any]"]:
        if not self._joining and self._host is not None:
            yield self._host  # the body was cancelled too
        for task in (*self._tasks, *self._background):
            if not task.done():
                yield task

    def _wake_if_idle(self) -> None:
        idle = self._idle
        if idle is None or idle.done() or self._waits():
            return
        if not self._stopping_background or not self._background:
            idle.set_result(None)

    def _waits(self) -> bool:
        """Whether there is a child, or one to come, that the block ends only after."""
        return bool(self._tasks) or (self._slots is not None and self._slots.promised())

    # ------------------------------------------------------------------ the block

    async def __aenter__(self) -> Self:
        if self._host is not None:
            raise RuntimeError(f"{self!r} has already been entered; make another one")
        parent = raise_if_cancelled()
        host = asyncio.current_task()
        if host is None:
            raise RuntimeError(f"{self!r} cannot determine the parent task; use it inside a task")
        self._host = host
        self._loop = self._open_loop = host.get_loop()
        scope = self._scope
        scope._is_member = self._is_member
        scope._on_cancel = self._abort
        scope._open(host, self._loop, parent)
        if scope._cancel_called:
            self._abort()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._host is None or self._joining:
            raise RuntimeError(f"{self!r} is not open")
        self._joining = True
        self._open_loop = None
        cancelled = None
        try:
            if asyncio.current_task() is not self._host:
                await self._finish_elsewhere()
            if exc is not None:
                if isinstance(exc, asyncio.CancelledError):
                    cancelled = exc
                else:
                    self._get_ending().note_base(exc)
                self._abort()
            if self._background or self._waits():
                cancelled = await self._join_children(cancelled)
            outside = self._close()
            if exc is None and cancelled is None and self._ending is None:
                return False
            return self._get_ending().conclude(
                self, self._host, self._scope, exc, cancelled, outside
            )
        finally:
            # Exceptions hold frames, and this frame holds exceptions: break the circles.
            self._ending = None
            del exc, traceback
            cancelled = None

    async def _finish_elsewhere(self) -> NoReturn:
        """End the children although the wrong task asks for it, and refuse the rest."""
        assert self._loop is not None
        wrong = RuntimeError(f"{self!r} must be left in the task that entered it")
        if _get_running_loop() is not self._loop:
            self._joining = False
            self._open_loop = None if self._aborting else self._loop
            raise wrong
        self._abort()
        cancelled = await self._join_children(None)
        self._close()
        for error in self._get_ending().errors:
            wrong.add_note(f"a child failed: {error!r}")
        raise wrong from cancelled

    async def _join_children(
        self, cancelled: asyncio.CancelledError | None
    ) -> asyncio.CancelledError | None:
        """Wait for all children; return the cancellation to raise, if there is one.

        Of several, the newest from outside counts: its sender still waits for it.
        """
        assert self._loop is not None

        def interrupted(error: asyncio.CancelledError) -> None:
            nonlocal cancelled
            if cancelled is None or not self._scope._is_mine(error):
                chain(error, cancelled)
                cancelled = error
            if not self._aborting:
                self._abort()

        try:
            while self._waits() or self._background:
                if not self._waits() and not self._stopping_background:
                    self._stopping_background = True
                    if not self._aborting:  # which has cancelled them
                        for task in self._background:
                            task.cancel()
                        self._expect_ends()
                self._idle = self._loop.create_future()
                if cancelled is None and not self._aborting:
                    # The way without incident; `join` would cost another pass of the loop.
                    try:
                        await self._idle
                    except asyncio.CancelledError as error:
                        interrupted(error)
                else:
                    await join(self._idle, on_cancel=interrupted)
                self._idle = None
            return cancelled
        finally:
            cancelled = None

    def _close(self) -> bool:
        """End the group, now that nothing of it runs; whether it is being cancelled from outside."""
        self._closed = True
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        self._scope._close()
        return self._scope._settle()

    def _get_ending(self) -> Ending:
        if self._ending is None:
            self._ending = Ending()
        return self._ending

    def _is_member(self, task: "asyncio.Task[Any]") -> bool:
        return task in self._tasks or task in self._background or self._creating > 0

    def _check_open(self, coro: Coroutine[Any, Any, Any] | None) -> asyncio.AbstractEventLoop:
        """The group's loop, or RuntimeError (and `coro` closed) if it takes no children now."""
        loop = self._loop
        finished = self._closed or (self._joining and not self._waits())
        if loop is None:
            problem = "has not been entered; use `async with`"
        elif finished:
            problem = "is finished"
        elif self._aborting:
            problem = "is shutting down"
        elif _get_running_loop() is not loop:
            problem = (
                "belongs to another event loop; from a thread use "
                "loop.call_soon_threadsafe(group.start_soon, fn)"
            )
        else:
            return loop
        if coro is not None:
            coro.close()
        raise RuntimeError(f"{self!r} {problem}")

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        return f"<TaskGroup{name} {self._state()}>"

    def _state(self) -> str:
        if self._loop is None:
            return "new"
        if self._closed:
            return "closed"
        state = f"{len(self._tasks)} running"
        if self._slots:
            state += f", {len(self._slots)} queued"
        if self._background:
            state += f", {len(self._background)} in background"
        if self._aborting or self._stopping_background:
            state += ", cancelling"
            seconds = 0 if self._overdue is None else self._loop.time() - self._cancelled_at
            if seconds >= 1:
                state += f" for {seconds:.0f} s"
        return state
