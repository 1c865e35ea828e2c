"""A task that goes on in the very callback which has read what it waits for.

An ordinary future has its task go on in the loop's next turn, which for a short answer from another
process is a large part of its way. It guarantees what a future does in all other cases: who is
cancelled, or woken by others, goes on in a later turn.
"""

# Rule: only a callback of the loop lets a task go on at once, as the last thing that it does. No
#       other task runs then; and what the task raises through the loop (KeyboardInterrupt) finds
#       everything done.

import asyncio
from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from aioconc.sync._wait_queue import Owner, TaskWaiter, Waiter, WaitQueue

_add = asyncio.Future.add_done_callback
_remove = asyncio.Future.remove_done_callback


class _Step(asyncio.Future[None]):
    """Awaited by one task; it knows how that one goes on."""

    __slots__ = ("_context", "_go_on")

    def add_done_callback(
        self, fn: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        _add(self, fn, context=context)
        self._go_on = fn
        self._context = context

    def finish(self) -> None:
        """Have the task go on now."""
        go_on, context = self._go_on, self._context
        assert context is not None
        _remove(self, go_on)
        self.set_result(None)
        # Nothing is kept that the task's frame is kept by.
        self._go_on = self._context = None  # type: ignore[assignment]
        context.run(go_on, self)


class PromptWaiter(TaskWaiter):
    """A task of the running loop that goes on without a turn of it, where it can."""

    __slots__ = ()

    future: _Step

    def __init__(self, queue: WaitQueue, owner: Owner = None) -> None:
        self.queue = queue  # type: ignore[misc]  # as in `TaskWaiter`
        self.owner = owner
        self.value = None
        self.granted = False
        self.loop = loop = get_running_loop()
        self.future = _Step(loop=loop)


def goes_on(woken: Sequence[Waiter], loop: asyncio.AbstractEventLoop) -> PromptWaiter | None:
    """The one of these, if it is the only one, which can go on at once in this loop."""
    if len(woken) == 1:
        (waiter,) = woken
        if type(waiter) is PromptWaiter and waiter.loop is loop and not waiter.future.done():
            return waiter
    return None
