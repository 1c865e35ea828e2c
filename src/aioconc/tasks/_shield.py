"""Letting one piece of work finish although its caller is cancelled.

The work runs in a task of its own; the caller waits for it whatever happens and is cancelled
afterwards. A grace limit keeps a clean-up that hangs from holding the caller for ever.
"""

import asyncio
import math
from collections.abc import Awaitable
from typing import Any, TypeVar

from aioconc._internal._check import check_timeout
from aioconc.errors import TaskCancelled
from aioconc.tasks._join import chain, in_cancelled_anyio_scope, join
from aioconc.tasks._scope import effective_deadline

T = TypeVar("T")


async def shielded(aw: Awaitable[T], *, grace: float | None = None) -> T:
    """Await `aw` to its end, even when the caller is cancelled meanwhile.

    Equals `await asyncio.shield(aw)`, but still waits for `aw` after a cancellation, so nothing
    outlives the call. Made for clean-up: it also works inside a scope that is already cancelled.

    Args:
        aw: the work; a coroutine runs in a task of its own.
        grace: seconds >= 0 that `aw` may still take after the caller was cancelled, before it is
            cancelled too; None to wait for as long as it takes. Counts from the start where the
            caller is being cancelled already, as in its clean-up.

    Returns:
        What `aw` returns.

    Raises:
        TaskCancelled: `aw` was cancelled by somebody else.
        TimeoutError: called while the caller was being cancelled, and `grace` was not enough.
        Exception: whatever `aw` raises.

    Cancellation:
        Is raised once `aw` has ended. The result of `aw` is then lost to the caller; an error of
        `aw` becomes the `__context__` of the `CancelledError`.

    Example:
        >>> async def main():
        ...     return await shielded(asyncio.sleep(0, "saved"))
        >>> asyncio.run(main())
        'saved'
    """
    grace = check_timeout("grace", grace)
    task = asyncio.ensure_future(aw)
    patience = _Patience(task, grace)
    try:
        if _being_cancelled():
            patience.begin()
        cancelled = await join(task, on_cancel=patience.begin)
        if cancelled is not None:
            failure = None if task.cancelled() else task.exception()
            if failure is not None:
                chain(failure, cancelled.__context__)
                cancelled.__context__ = failure
            raise cancelled
        try:
            return task.result()
        except asyncio.CancelledError as error:
            if patience.over:
                raise TimeoutError(f"not done within {grace:g} s of grace") from error
            raise TaskCancelled("the shielded work was cancelled by somebody else") from error
    finally:
        patience.end()
        del task, patience
        cancelled = failure = None


class _Patience:
    """Cancels the work when the grace that began with the caller's cancellation is over."""

    __slots__ = ("_grace", "_task", "_timer", "over")

    def __init__(self, task: "asyncio.Future[Any]", grace: float | None) -> None:
        self._task = task
        self._grace = grace
        self._timer: asyncio.TimerHandle | None = None
        self.over = False

    def begin(self, _: object = None) -> None:
        if self._grace is not None and self._timer is None:
            self._timer = self._task.get_loop().call_later(self._grace, self._give_up)

    def _give_up(self) -> None:
        self.over = self._task.cancel()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return (
        (task is not None and task.cancelling() > 0)
        or effective_deadline() == -math.inf
        or in_cancelled_anyio_scope()
    )
