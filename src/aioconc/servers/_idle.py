"""How long a client has kept a task waiting.

Equals `asyncio.timeout` around each receive or send, for a fraction of its cost: a connection has one
timer, which looks now and then, instead of one for each operation.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Any

# Those that a connection remembers.
Failures = deque[BaseException]


# Turns of the loop between the end of the time and the cancellation. What has come while the loop was
# held up is no reason for one: it is seen in the next turn, where a loop looks at timers first
# (uvloop), and wakes the task in the one after that.
_TURNS = 3


# Rule 1: `_task` is set iff an operation is under way; the timer may be set longer than that.
# Rule 2: a task is cancelled only from `_look`, thus while it is suspended inside the operation,
#         and that cancellation is taken back where the operation ends.
class IdleClock:
    """A `with` block around one operation at a time, which ends in TimeoutError after `seconds`.

    Args:
        seconds: > 0.
        what: the client has not done, for the message.
        failures: gets the errors.
    """

    __slots__ = (
        "_baseline",
        "_expired",
        "_failures",
        "_loop",
        "_seconds",
        "_since",
        "_task",
        "_timer",
        "_what",
    )

    def __init__(self, seconds: float, what: str, failures: Failures) -> None:
        self._seconds = seconds
        self._what = what
        self._failures = failures
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._since = 0.0
        self._baseline = 0
        self._expired = False
        self._timer: asyncio.Handle | None = None

    def __enter__(self) -> None:
        if self._task is not None:
            return  # a second one at the same time, which the stream refuses
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._baseline = task.cancelling()
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = self._task
        if task is None or task is not asyncio.current_task():
            return
        self._task = None
        if self._expired:
            self._expired = False
            # A cancellation from elsewhere, in the same tick, goes on.
            if task.uncancel() <= self._baseline and exc_type is asyncio.CancelledError:
                error = TimeoutError(f"the client {self._what} for {self._seconds:g} s")
                self._failures.append(error)
                raise error from exc

    def close(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, turns: int = _TURNS) -> None:
        self._timer = None
        if self._task is None:
            return  # the next operation sets it again
        left = self._since + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif turns:
            self._timer = self._loop.call_soon(self._look, turns - 1)
        else:
            self._expired = True
            self._task.cancel()
