"""`gather_limited`: await many awaitables, a bounded number at once.

A thin face of the window: the items are the awaitables themselves. It closes what it was given and
never started, so a failure leaves no "never awaited" behind.
"""

import asyncio
import inspect
from collections.abc import AsyncIterable, Awaitable, Coroutine, Generator, Iterable
from typing import Any, Literal, TypeVar, overload

from aioconc._internal._check import check_limit
from aioconc.flow._map import MapRun
from aioconc.flow._outcomes import Policy
from aioconc.flow._progress import Progress

T = TypeVar("T")


@overload
def gather_limited(
    *aws: Awaitable[T],
    limit: float,
    return_exceptions: Literal[False] = False,
    progress: Progress = None,
) -> Coroutine[Any, Any, list[T]]: ...
@overload
def gather_limited(
    aws: Iterable[Awaitable[T]] | AsyncIterable[Awaitable[T]],
    /,
    *,
    limit: float,
    return_exceptions: Literal[False] = False,
    progress: Progress = None,
) -> Coroutine[Any, Any, list[T]]: ...
@overload
def gather_limited(
    *aws: Awaitable[T], limit: float, return_exceptions: bool, progress: Progress = None
) -> Coroutine[Any, Any, list[T | BaseException]]: ...
@overload
def gather_limited(
    aws: Iterable[Awaitable[T]] | AsyncIterable[Awaitable[T]],
    /,
    *,
    limit: float,
    return_exceptions: bool,
    progress: Progress = None,
) -> Coroutine[Any, Any, list[T | BaseException]]: ...
def gather_limited(
    *aws: Any, limit: float, return_exceptions: bool = False, progress: Progress = None
) -> Coroutine[Any, Any, list[Any]]:
    """Await all of `aws`, at most `limit` at once; return their results in order.

    Equals `asyncio.gather(*aws)` with a limit. Unlike it, a failure cancels the others and waits
    for them, and the awaitables may come from one iterable, read only as fast as they start.

    Args:
        aws: awaitables; or one sync or async iterable of them, best a generator, so that a million
            coroutines need not exist at once. Coroutines that are never started are closed.
        limit: most awaitables in flight, int >= 1; `math.inf` for no limit. (A task that is
            passed runs already; it is only waited for.)
        return_exceptions: give exceptions in place of results instead of raising the first.
        progress: as for `map_limited`.

    Returns:
        The results, in the order of `aws`.

    Raises:
        Exception: the first failure, bare; those that follow it are added as notes.
        TaskCancelled: one of `aws` was cancelled by somebody else.
        TypeError: something cannot be awaited.

    Cancellation:
        Cancels what is in flight, waits until it has ended, and is raised. The results are lost.

    Example:
        >>> async def main():
        ...     return await gather_limited((asyncio.sleep(0, n) for n in range(5)), limit=2)
        >>> asyncio.run(main())
        [0, 1, 2, 3, 4]
    """
    lot = _Lot(aws)
    if len(aws) == 1 and not inspect.isawaitable(aws[0]):
        lot.source = aws[0]
        if not isinstance(aws[0], (Iterable, AsyncIterable)) or isinstance(aws[0], (str, bytes)):
            raise _not_awaitable(aws[0])
    policy = Policy(
        limit=check_limit("limit", limit),
        on_error="return" if return_exceptions else "raise",
    )
    return _gather(lot, policy, progress)


async def _gather(lot: "_Lot", policy: Policy, progress: Progress) -> list[Any]:
    run: MapRun[Any] = MapRun(
        None,
        lot.source,
        policy,
        progress=progress,
        explain=_not_awaitable,
        discard=_discard,
        name="gather_limited",
    )
    try:
        return await run
    finally:
        if run.started:
            lot.source = ()  # the window has seen to it


# Shown by "was never awaited", by task names and by tracebacks.
_gather.__name__ = _gather.__qualname__ = "gather_limited"


class _Lot:
    """What `gather_limited` was given. Closes what is left of it, also if it is never run.

    The coroutine of a task that is cancelled before its first step is thrown away without running
    a line of it, as is one that nobody awaits. Its arguments go with it, and this among them.
    """

    __slots__ = ("source",)

    def __init__(self, source: Any) -> None:
        self.source = source

    def __del__(self) -> None:
        if isinstance(self.source, (tuple, list)):
            for aw in self.source:
                if _is_unstarted(aw):
                    aw.close()


def _is_unstarted(aw: Any) -> bool:
    # One that is given twice may be running when its second copy is thrown away.
    return inspect.iscoroutine(aw) and inspect.getcoroutinestate(aw) == inspect.CORO_CREATED


def _discard(aw: Any) -> "asyncio.Future[Any] | None":
    """Dispose of an awaitable that will not be awaited; give what must be waited for."""
    if _is_unstarted(aw):
        aw.close()
    elif isinstance(aw, asyncio.Future):
        aw.cancel()
        return aw
    return None


def _not_awaitable(value: Any) -> TypeError:
    if inspect.iscoroutinefunction(value):
        name = value.__qualname__
        return TypeError(
            f"gather_limited expected awaitables, got the async function {name}; "
            f"did you mean {name}(), or map_limited({name}, items, limit=...)?"
        )
    hint = ""
    if isinstance(value, (list, tuple, Generator)):
        hint = "; did you mean gather_limited(*jobs, limit=...), or one iterable alone?"
    return TypeError(
        f"gather_limited expected awaitables or one iterable of them, got {value!r:.80}{hint}"
    )
