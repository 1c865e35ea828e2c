"""Letting one piece of work finish although its caller is cancelled.

The work runs in a task of its own; the caller waits for it whatever happens and is cancelled
afterwards. A grace limit keeps a clean-up that hangs from holding the caller for ever.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aioconc._internal._check import check_timeout
from aioconc.errors import TaskCancelled
from aioconc.tasks._join import join

T = TypeVar("T")


async def shielded(aw: Awaitable[T], *, grace: float | None = None) -> T:
    """Await `aw` to its end, even when the caller is cancelled meanwhile.

    Equals `await asyncio.shield(aw)`, but still waits for `aw` after a cancellation, so nothing
    outlives the call. Made for clean-up: it also works inside a scope that is already cancelled.

    Args:
        aw: the work; a coroutine runs in a task of its own.
        grace: seconds >= 0 that `aw` may still take after the caller was cancelled, before it is
            cancelled too; None to wait for as long as it takes.

    Returns:
        What `aw` returns.

    Raises:
        TaskCancelled: `aw` was cancelled by somebody else.
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
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(aw)
    timer: asyncio.TimerHandle | None = None

    def hurry(_: asyncio.CancelledError) -> None:
        nonlocal timer
        if grace is not None and timer is None:
            timer = loop.call_later(grace, task.cancel)

    try:
        cancelled = await join(task, on_cancel=hurry)
        if cancelled is not None:
            if not task.cancelled() and (error := task.exception()) is not None:
                cancelled.__context__ = error
            raise cancelled
        try:
            return task.result()
        except asyncio.CancelledError as error:
            raise TaskCancelled("the shielded work was cancelled by somebody else") from error
    finally:
        if timer is not None:
            timer.cancel()
        del task, hurry
        cancelled = None
