"""Cancel scopes: a block of one task that can be cancelled or given a deadline.

A scope cancels through the public `Task.cancel` once (edge-triggered), takes exactly that one
request back when its block ends, and swallows the `CancelledError` only if nobody outside asked
as well. aioconc's own awaits look at the scopes around them, so inside a cancelled scope they
raise at once even where the block swallowed the first `CancelledError`.
"""

import asyncio
import math
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self

from aioconc._internal._check import check_timeout

_current: ContextVar["CancelScope | None"] = ContextVar("aioconc_scope", default=None)

# None: no scope can be cancelled here, and there is no need to call `raise_if_cancelled`.
is_in_scope = _current.get


# Scope life:   new -> open -> closed.  cancel() may be called at any time; only an open
# scope delivers it.
# Rule 1: `_delivered` is True iff we have called `Task.cancel` and not yet `Task.uncancel`.
# Rule 2: `Task.cancel` is called only from a loop callback, when no task is running. The host is
#         then suspended inside the block, so the CancelledError is always thrown inside it. Had a
#         running host been cancelled, it could leave the block first, and on Python 3.11 and 3.12
#         nothing could take the pending cancel back.
class CancelScope:
    """A block that can be cancelled, from inside or outside, without cancelling its task.

    Equals `asyncio.timeout`, but can also be cancelled by hand, ends quietly instead of raising,
    and tells afterwards what happened. For use in one `with` statement, by one task.

    Args:
        timeout: seconds from entering the block after which it is cancelled; None for no limit.
        deadline: the same as a time of the loop's clock (`loop.time()`); give one of the two.
        name: shown in `repr` and in the message of the `CancelledError`.

    Raises:
        RuntimeError: entered outside a task or a second time, or left in another task.

    Cancellation:
        The scope's own cancellation ends with the block. A cancellation from outside, even one
        that arrives in the same tick, passes through.

    Example:
        >>> async def main():
        ...     with CancelScope(timeout=0.01) as scope:
        ...         await asyncio.sleep(60)
        ...     return scope.cancelled_caught
        >>> asyncio.run(main())
        True
    """

    __slots__ = (
        "__weakref__",
        "_cancel_called",
        "_cancelled_caught",
        "_cancelling_at_entry",
        "_closed",
        "_deadline",
        "_delivered",
        "_expired",
        "_is_member",
        "_loop",
        "_name",
        "_on_cancel",
        "_parent",
        "_raises_timeout",
        "_reason",
        "_task",
        "_timeout",
        "_timer",
        "_token",
    )

    def __init__(
        self,
        *,
        timeout: float | None = None,
        deadline: float = math.inf,
        name: str | None = None,
    ) -> None:
        self._timeout = None if timeout is None else check_timeout("timeout", timeout)
        self._deadline = deadline if deadline is math.inf else _check_deadline(deadline)
        if timeout is not None and deadline != math.inf:
            raise ValueError("give timeout or deadline, not both")
        self._name = name
        self._raises_timeout = False
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._parent: CancelScope | None = None
        # Tells whether a task works on behalf of this scope without being its host: a task
        # group's child does.
        self._is_member: Callable[[asyncio.Task[Any]], object] | None = None
        # Called once, when the scope becomes cancelled: a task group cancels its children.
        self._on_cancel: Callable[[], object] | None = None
        self._token: Token[CancelScope | None] | None = None
        self._timer: asyncio.Handle | None = None
        self._cancelling_at_entry = 0
        self._reason: object = None
        self._cancel_called = False
        self._cancelled_caught = False
        self._expired = False
        self._delivered = False
        self._closed = False

    @property
    def deadline(self) -> float:
        """Loop-clock time at which the block is cancelled; `math.inf` for never. May be set."""
        return self._deadline

    @deadline.setter
    def deadline(self, value: float) -> None:
        self._deadline = _check_deadline(value)
        self._timeout = None
        if self._task is not None and not self._closed:
            self._arm()

    @property
    def cancel_called(self) -> bool:
        """Whether `cancel` was called or the deadline has passed."""
        return self._cancel_called

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block ended early by this scope's cancellation. Known after the block."""
        return self._cancelled_caught

    @property
    def reason(self) -> object:
        """What `cancel` was given; "deadline exceeded" if the deadline passed; else None."""
        return self._reason

    def cancel(self, reason: object = None) -> None:
        """Cancel the block: its task gets `CancelledError` at its next suspension.

        Safe to call more than once (the first reason counts), before the block starts (it is then
        cancelled at its first suspension) and after it has ended (no effect).

        Args:
            reason: anything; readable as `scope.reason`, and part of the error's message.

        Raises:
            RuntimeError: called from outside the scope's event loop.
        """
        if self._closed:
            return
        if self._loop is not None:
            check_loop(self._loop, "a CancelScope", "scope.cancel")
        if self._cancel_called:
            return
        self._mark_cancelled(reason)
        if self._loop is not None:
            if asyncio.current_task(self._loop) is None:
                self._deliver()
            else:
                self._loop.call_soon(self._deliver)  # rule 2

    def _mark_cancelled(self, reason: object) -> None:
        """Be cancelled, once, without telling the host: it is on its way out, or is told next."""
        self._cancel_called = True
        self._reason = reason
        self._disarm()
        if self._on_cancel is not None:
            self._on_cancel()

    def _deliver(self) -> None:
        if self._closed or self._delivered:
            return
        assert self._task is not None
        self._delivered = True
        self._task.cancel(self._message())

    def _message(self) -> str:
        what = f"scope {self._name!r}" if self._name else f"scope {id(self):#x}"
        why = "" if self._reason is None else f": {self._reason}"
        return f"cancelled by aioconc {what}{why}"

    def _is_mine(self, error: asyncio.CancelledError) -> bool:
        return error.args == (self._message(),)

    def _arm(self) -> None:
        self._disarm()
        if self._deadline != math.inf and not self._cancel_called:
            assert self._loop is not None
            if self._deadline <= self._loop.time():
                # A timer that is due already would come after one suspension of the host.
                self._timer = self._loop.call_soon(self._expire)
            else:
                self._timer = self._loop.call_at(self._deadline, self._expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        # No need to look at the clock again: a timer may fire early by less than the clock's
        # resolution, and one tick is no promise broken for a timeout.
        self._timer = None
        self._expired = True
        self._mark_cancelled("deadline exceeded")
        self._deliver()

    def __enter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError(f"{self!r} has already been entered; make another one")
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a CancelScope needs a task: use it inside a coroutine that runs")
        self._open(task, task.get_loop(), current_scope())
        return self

    def _open(
        self,
        task: "asyncio.Task[Any]",
        loop: asyncio.AbstractEventLoop,
        parent: "CancelScope | None",
    ) -> None:
        """Begin the block, inside `task` and the scope `parent`."""
        self._parent = parent
        self._task = task
        self._loop = loop
        self._cancelling_at_entry = task.cancelling()
        self._token = _current.set(self)
        if self._timeout is not None:
            self._deadline = loop.time() + self._timeout
        if self._cancel_called:
            loop.call_soon(self._deliver)
        elif self._deadline != math.inf:
            self._arm()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._task is None or self._closed:
            raise RuntimeError("this CancelScope is not open")
        self._close()
        outside = self._settle()
        if asyncio.current_task() is not self._task:
            raise RuntimeError("a CancelScope must be left in the task that entered it")
        # Outer cancellation wins, also over one of ours in the same tick.
        if self._cancel_called and not outside and isinstance(exc, asyncio.CancelledError):
            self._cancelled_caught = True
            if self._raises_timeout and self._expired:
                raise TimeoutError(self._timeout_message()) from exc
            return True
        return False

    def _close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._disarm()
        # Both lead back to a task group that owns this scope: break the circle.
        self._is_member = None
        self._on_cancel = None
        assert self._token is not None
        try:
            _current.reset(self._token)
        except ValueError:  # closed in another context: an async generator that was finalised
            if _current.get() is self:
                _current.set(self._parent)
        self._token = None

    def _settle(self) -> bool:
        """Take our cancel request back; tell whether one from outside is pending."""
        assert self._task is not None
        if self._delivered:
            self._delivered = False
            pending = self._task.uncancel()
        else:
            pending = self._task.cancelling()
        return pending > self._cancelling_at_entry

    def _timeout_message(self) -> str:
        what = f"{self._name}: " if self._name else ""
        if self._timeout is None:
            return f"{what}deadline exceeded"
        return f"{what}not done within {self._timeout:g} s"

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        state = "new" if self._task is None else "closed" if self._closed else "open"
        cancelled = ", cancelled" if self._cancel_called else ""
        return f"<CancelScope{name} {state}{cancelled}>"


def move_on_after(seconds: float | None) -> CancelScope:
    """A scope that ends its block quietly after `seconds`.

    Equals `contextlib.suppress(TimeoutError)` around `asyncio.timeout(seconds)`, but swallows only
    its own expiry.

    Args:
        seconds: >= 0, counted from entering the block; None for no limit. With 0 the block is
            cancelled at its first suspension; a block that never suspends completes.

    Returns:
        A `CancelScope`; `scope.cancelled_caught` tells afterwards whether it struck.

    Raises:
        ValueError: `seconds` is negative.

    Cancellation:
        As for `CancelScope`.

    Example:
        >>> async def main():
        ...     with move_on_after(0.01) as scope:
        ...         await asyncio.sleep(60)
        ...     return scope.cancelled_caught
        >>> asyncio.run(main())
        True
    """
    return CancelScope(timeout=seconds)


def fail_after(seconds: float | None) -> CancelScope:
    """A scope that raises `TimeoutError` if its block takes longer than `seconds`.

    Equals `asyncio.timeout(seconds)`, used with a plain `with`.

    Args:
        seconds: >= 0, counted from entering the block; None for no limit.

    Returns:
        A `CancelScope`. Cancelling it by hand ends the block quietly.

    Raises:
        TimeoutError: from the block, when the time is up.
        ValueError: `seconds` is negative.

    Cancellation:
        As for `CancelScope`.

    Example:
        >>> async def main():
        ...     with fail_after(0.01):
        ...         await asyncio.sleep(60)
        >>> asyncio.run(main())
        Traceback (most recent call last):
        TimeoutError: not done within 0.01 s
    """
    scope = CancelScope(timeout=seconds)
    scope._raises_timeout = True
    return scope


def effective_deadline() -> float:
    """The earliest deadline of the scopes around the caller, in loop-clock seconds.

    Children of a `TaskGroup` see the deadlines around their group too.

    Returns:
        `math.inf` with no deadline, `-math.inf` inside a scope that is already cancelled.

    Example:
        >>> async def main():
        ...     with move_on_after(5), move_on_after(60):
        ...         return effective_deadline() - asyncio.get_running_loop().time() <= 5
        >>> asyncio.run(main())
        True
    """
    deadline = math.inf
    scope = current_scope()
    while scope is not None:
        if scope._cancel_called:
            return -math.inf
        deadline = min(deadline, scope._deadline)
        scope = scope._parent
    return deadline


def current_scope() -> CancelScope | None:
    """The innermost open scope that the current task works for."""
    scope = _current.get()
    if scope is None:
        return None
    # A context variable is inherited by every task, also by those that the scope does not own:
    # the child of a group was perhaps created inside a further scope of the group's host.
    task = asyncio.current_task()
    while scope is not None and task is not None:
        if scope._task is task or (scope._is_member is not None and scope._is_member(task)):
            return scope
        scope = scope._parent
    return None


def raise_if_cancelled() -> CancelScope | None:
    """Raise `CancelledError` inside a cancelled scope. Every await of aioconc begins with this.

    Returns:
        The scope that the caller is in, as `current_scope` does.
    """
    innermost = scope = current_scope()
    while scope is not None:
        if scope._cancel_called:
            raise asyncio.CancelledError(scope._message())
        scope = scope._parent
    return innermost


def check_loop(loop: asyncio.AbstractEventLoop, what: str, call: str) -> None:
    """Refuse a call from another thread or loop, which would corrupt the state silently."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is not loop and (here is not None or loop.is_running()):
        raise RuntimeError(
            f"{what} belongs to one event loop; from another thread use "
            f"loop.call_soon_threadsafe({call}, ...)"
        )


def _check_deadline(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise TypeError(
            f"deadline must be a loop-clock time in seconds, got {value!r}; "
            f"pass math.inf for no deadline"
        )
    return float(value)


def adopt(is_member: Callable[[asyncio.Task[Any]], object]) -> None:
    """Let the current scope count for the tasks that `is_member` accepts.

    To be called in the context in which those tasks will run.
    """
    outer = current_scope()
    if outer is not None:
        link = CancelScope()
        link._parent = outer
        link._is_member = is_member
        _current.set(link)


def enter_context_of(scope: CancelScope) -> None:
    """Make `scope` the innermost one of the current context, for a member that will run in it."""
    _current.set(scope)
