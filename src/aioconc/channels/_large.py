"""Large items on their way between a loop and the threads that copy and unpickle them.

It guarantees that a task which is cancelled meanwhile leaves nothing behind, and that nothing of it
reaches a loop that is closed by then.
"""

import asyncio
from concurrent.futures import Future
from typing import Any

from aioconc._bridge._errand import run_errand
from aioconc._wire._arenas import Arenas, Lease
from aioconc._wire._body import Parts, fill_arena
from aioconc.channels._packing import is_large


async def done(future: "Future[Any]") -> None:
    """Wait until a thread has set the outcome, whatever it is."""
    here = asyncio.wrap_future(future)
    try:
        await asyncio.wait([here])
    finally:
        # Nothing of it is to reach a loop that is closed by then; and it was looked at.
        if not here.cancel():
            here.exception()


async def filled(arenas: Arenas, parts: Parts) -> Lease | None:
    """Copy the buffers into an arena, in a thread if that takes long; None: there is none.

    Cancellation:
        The arena is free again once the thread has noticed.
    """
    if not is_large(parts):
        return fill_arena(parts, arenas)
    outcome: Future[Lease | None] = Future()
    outcome.set_running_or_notify_cancel()
    wanted = True

    def copy() -> None:
        try:
            outcome.set_result(arenas.fill(parts.for_arena, lambda: wanted))
        except BaseException as error:
            outcome.set_exception(error)

    def give_back(future: "Future[Lease | None]") -> None:
        if future.exception() is None and (lease := future.result()) is not None:
            arenas.give_back([lease.number])

    run_errand(copy)
    try:
        await done(outcome)
    except BaseException:
        wanted = False
        outcome.add_done_callback(give_back)
        raise
    return outcome.result()
