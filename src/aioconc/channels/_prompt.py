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

    _go_on: Callable[[Any], object]
    _context: Context | None

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
        try:
            _remove(self, go_on)
            self.set_result(None)
            del self._go_on, self._context  # they hold the task, whose frame holds this
            context.run(go_on, self)
        except BaseException:
            # Ctrl+C may come at any line. Nobody else would have the task go on, or cancel it.
            task: Any = getattr(go_on, "__self__", None)
            if getattr(task, "_fut_waiter", None) is self:
                if not self.done():
                    self.set_result(None)
                self.get_loop().call_soon(go_on, self, context=context)
            raise


class PromptWaiter(TaskWaiter):
    """A task of the running loop that goes on without a turn of it, where it can."""

    __slots__ = ()

    def __init__(self, queue: WaitQueue, owner: Owner = None) -> None:
        self.queue = queue  # type: ignore[misc]  # as in `TaskWaiter`
        self.owner = owner
        self.value = None
        self.granted = False
        self.loop = loop = get_running_loop()
        self.future = _Step(loop=loop)

    def go_on(self) -> bool:
        """Have the task go on now, in a callback of its loop; False: it was cancelled before."""
        step = self.future
        assert type(step) is _Step
        if step.done():
            return False
        step.finish()
        return True


def goes_on(woken: Sequence[Waiter], loop: asyncio.AbstractEventLoop) -> bool:
    """Have the one of these go on at once, if it is the only one, and can do so in this loop."""
    if len(woken) == 1:
        (waiter,) = woken
        return type(waiter) is PromptWaiter and waiter.loop is loop and waiter.go_on()
    return False
