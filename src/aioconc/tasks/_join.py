"""Waiting for work that must end before its owner may go on.

`join` outlasts every cancellation of the waiting task and hands one back, so that the owner
re-raises it once nothing of its own is running any more. It never spins: an anyio scope
re-cancels its host task in every loop cycle, so inside a cancelled one the wait is shielded in
anyio's own way.
"""

import asyncio
import math
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any


async def join(
    *futures: "asyncio.Future[Any]",
    on_cancel: Callable[[asyncio.CancelledError], object] | None = None,
) -> asyncio.CancelledError | None:
    """Wait until every future is done; return the newest cancellation that arrived meanwhile.

    The futures' own results and exceptions are left for the caller to look at. The returned
    `CancelledError` is the original one, with the earlier ones as its context: the caller must
    re-raise that very object, because hosts such as anyio look there for theirs.

    Args:
        futures: tasks or futures of the running loop.
        on_cancel: called with each cancellation as it arrives, to hurry the futures along.

    Cancellation:
        Does not cancel `futures` and does not end early. The caller cancels them first.
    """
    cancelled: asyncio.CancelledError | None = None
    for future in futures:
        while not future.done():
            try:
                with _anyio_shield():
                    await wait_done(future)
            except asyncio.CancelledError as error:
                chain(error, cancelled)
                cancelled = error
                if on_cancel is not None:
                    on_cancel(error)
    try:
        return cancelled
    finally:
        cancelled = None  # its traceback holds this frame: do not let the frame hold it


def chain(newer: BaseException, older: BaseException | None) -> None:
    """Make `older` the context of `newer`, as raising one while handling the other does."""
    if older is not None and newer.__context__ is None and newer is not older:
        newer.__context__ = older


async def cancel_and_join(tasks: Iterable["asyncio.Task[Any]"]) -> asyncio.CancelledError | None:
    """Cancel every task, then `join` them."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    return await join(*pending)


async def wait_done(future: "asyncio.Future[Any]") -> None:
    """Wait until `future` is done, without looking at its outcome.

    Cancellation:
        Ends the wait and leaves `future` alone: awaiting it directly would cancel it.
    """
    if future.done():
        return
    waiter = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        future.remove_done_callback(wake)


def in_cancelled_anyio_scope() -> bool:
    """Whether anyio is in use here, and has cancelled the block that the caller is in."""
    anyio = sys.modules.get("anyio")
    return anyio is not None and anyio.current_effective_deadline() == -math.inf


def _anyio_shield() -> AbstractContextManager[object]:
    """A shielded anyio scope if this task is inside a cancelled one, else nothing."""
    if not in_cancelled_anyio_scope():
        return nullcontext()
    shield: AbstractContextManager[object] = sys.modules["anyio"].CancelScope(shield=True)
    return shield
