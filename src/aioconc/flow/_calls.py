"""Other ways to call an item's function than to await it in the worker: late ones are cancelled,
or each has a task of its own.

Each is an async function of the item, made from the one before; the window's worker awaits it and
knows no difference. A cancellation reaches the user's function through them, and is waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aioconc.flow._failures import UNCALLED, Misuse, call_text

Call = Callable[[Any], Awaitable[Any]]


class TimeLimit:
    """Calls with at most so much time for each. One loop timer serves them all.

    Args:
        call: async function of the item.
        timeout: seconds >= 0.
        label: the user's function, as errors name it.
        misuse: explains what cannot be awaited.
    """

    __slots__ = ("_call", "_deadlines", "_label", "_late", "_loop", "_misuse", "_timeout", "_timer")

    def __init__(self, call: Call, timeout: float, label: str, misuse: Misuse) -> None:
        self._call = call
        self._timeout = timeout
        self._label = label
        self._misuse = misuse
        self._loop = asyncio.get_running_loop()
        # Task of a call in flight -> when its time is over; in order of starting, hence of expiry.
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        # Tasks cancelled for being late, whose call has not ended yet.
        self._late: set[asyncio.Task[Any]] = set()
        # Set iff `_deadlines` is not empty, or was not when it was set.
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, item: Any) -> Any:
        """Await the call.

        Raises:
            TimeoutError: it was late; also if it returned a result all the same. What else it
                raises while it is being cancelled is the better report.
        """
        task: Any = asyncio.current_task()
        self._start_clock(task)
        aw = UNCALLED
        try:
            aw = self._call(item)
            value = await aw
        except asyncio.CancelledError as error:
            if task not in self._late:
                raise
            raise self._too_late(item) from error
        except TypeError as error:
            self._misuse.check(error, aw)
            raise
        else:
            if task in self._late:
                raise self._too_late(item)
            return value
        finally:
            self._deadlines.pop(task, None)
            self._late.discard(task)

    def stop(self) -> None:
        """Let no further call be late: all of them are being cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_clock(self, task: "asyncio.Task[Any]") -> None:
        deadline = self._loop.time() + self._timeout
        self._deadlines[task] = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        # Half a millisecond of tolerance: timers may fire early by the clock's resolution.
        now = self._loop.time() + 0.0005
        while self._deadlines:
            task, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                self._timer = self._loop.call_at(deadline, self._expire)
                return
            del self._deadlines[task]
            self._late.add(task)
            task.cancel()

    def _too_late(self, item: Any) -> TimeoutError:
        what = call_text(self._label, item)
        return TimeoutError(f"{what} not done within {self._timeout:g} s")


class OwnTasks:
    """Calls in a task of its own each. Awaiting it forwards a cancellation and waits for its end.

    Args:
        call: async function of the item.
        make_task: makes a task of a coroutine.
        misuse: explains what cannot be awaited.
    """

    __slots__ = ("_call", "_make_task", "_misuse", "tasks")

    def __init__(
        self,
        call: Call,
        make_task: Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"],
        misuse: Misuse,
    ) -> None:
        self._call = call
        self._make_task = make_task
        self._misuse = misuse
        self.tasks: set[asyncio.Task[Any]] = set()

    async def call(self, item: Any) -> Any:
        """Await the call in a new task."""
        task = self._make_task(self._awaited(item))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        try:
            return await task
        finally:
            del task  # it holds the exception, whose traceback holds this frame

    async def _awaited(self, item: Any) -> Any:
        aw = UNCALLED
        try:
            aw = self._call(item)
            return await aw
        except TypeError as error:
            self._misuse.check(error, aw)
            raise
