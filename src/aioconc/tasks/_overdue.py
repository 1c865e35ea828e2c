"""Saying so when cancelled work does not end.

A block waits for its children however long they take, since nothing may outlive it. A child that
swallows its cancellation, or hangs in its clean-up, would then hold its block in silence; a
warning names it and the place where it is.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from aioconc._internal import _hooks
from aioconc._internal._where import stack_of

# Seconds. As long as `run` leaves a program to end after the first signal: an orderly clean-up is
# over by then, and somebody who watches a program hang still waits for a reason.
PATIENCE = 10.0

_log = logging.getLogger("aioconc")


def watch_overdue(
    topic: str, owner: object, unfinished: Callable[[], Iterable["asyncio.Task[Any]"]]
) -> asyncio.TimerHandle:
    """Report, `PATIENCE` seconds from now, the cancelled tasks that have not ended by then.

    Each is one warning of the logger and one event `TOPIC.overdue`. Called in the running loop.

    Args:
        topic: what the owner is, in a word; the event carries the owner under it.
        owner: what waits for the tasks; its `repr` begins the warning.
        unfinished: gives the tasks, when the time has come.

    Returns:
        The timer, to cancel when all have ended.
    """
    loop = asyncio.get_running_loop()
    return loop.call_later(PATIENCE, _report, topic, owner, unfinished)


def _report(
    topic: str, owner: object, unfinished: Callable[[], Iterable["asyncio.Task[Any]"]]
) -> None:
    for task in unfinished():
        _log.warning(
            "%r: %r has not ended %g s after it was cancelled; it is at\n%s",
            owner,
            task.get_name(),
            PATIENCE,
            stack_of(task.get_coro()),
        )
        if _hooks.listeners:
            _hooks.emit(f"{topic}.overdue", task=task, seconds=PATIENCE, **{topic: owner})
