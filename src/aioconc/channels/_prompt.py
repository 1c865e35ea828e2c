"""A task that goes on in the very callback which has read what it waits for.

An ordinary future has its task go on in the loop's next turn, which for a short answer from another
process is a large part of its way. It guarantees what a future does in all other cases: who is
cancelled, or woken by others, goes on in a later turn.
"""

# Rule: only a callback of the loop lets a task go on at once, as the last thing that it does. No
#       other task runs then; and what the task raises through the loop (KeyboardInterrupt) finds
#       everything done.

import asyncio
from collections.abc import Sequence
from typing import Any

from aioconc.sync._wait_queue import TaskWaiter, Waiter


class PromptWaiter(TaskWaiter):
    """A task of the running loop that goes on without a turn of it, where it can."""

    __slots__ = ()

    def go_on(self) -> bool:
        """Have the task go on now, in a callback of its loop; False: it is to be woken as usual."""
        # How the task goes on is what the future would do in the next turn. That is asked for here
        # and not noted when the task begins to wait: it would hold the task, whose frame holds this.
        future: Any = self.future
        callbacks = future._callbacks
        # None: it was cancelled before, or awaited by what is no task and looks at it now and then.
        # Several: somebody watches it.
        if not callbacks or len(callbacks) > 1:
            return False
        ((go_on, context),) = callbacks
        try:
            future.remove_done_callback(go_on)
            future.set_result(None)
            context.run(go_on, future)
        except BaseException:
            # Ctrl+C may come at any line. Nobody else would have the task go on, or cancel it.
            waited_for: Any = getattr(getattr(go_on, "__self__", None), "_fut_waiter", None)
            if waited_for is future:
                if not future.done():
                    future.set_result(None)
                self.loop.call_soon(go_on, future, context=context)
            raise
        finally:
            # They hold the task, and the traceback of what it raises holds this frame.
            del callbacks, go_on
        return True


def goes_on(woken: Sequence[Waiter], loop: asyncio.AbstractEventLoop) -> bool:
    """Have the one of these go on at once, if it is the only one, and can do so in this loop."""
    if len(woken) == 1:
        (waiter,) = woken
        return type(waiter) is PromptWaiter and waiter.loop is loop and waiter.go_on()
    return False
