"""Ending the tasks that a run has left, also those that nothing can end.

Tasks that await each other in a circle cannot be cancelled: `Task.cancel` goes from a task to the
one that it awaits, and so round for ever. They are taken out of asyncio's books, so that whoever
closes the loop does not stumble over them, and are left to the garbage collector.
"""

import asyncio
from typing import Any


def cancel(task: "asyncio.Task[Any]") -> bool:
    """Cancel a task; False if that is impossible, and it is given up for good."""
    try:
        task.cancel()
    except RecursionError:
        # asyncio's hook for task classes of one's own; there is no other way out of its books.
        asyncio._unregister_task(task)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # nobody's mistake twice
        return False
    return True


def end_tasks(loop: asyncio.AbstractEventLoop) -> "set[asyncio.Task[Any]]":
    """Cancel every task of a loop that stands, and run it until they have ended; those tasks."""
    tasks = {task for task in asyncio.all_tasks(loop) if cancel(task)}
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    return tasks
