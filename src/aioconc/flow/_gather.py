"""`gather_limited`: await many awaitables, a bounded number at once.

A thin face of the window: the items are the awaitables themselves. It closes what it was given and
never started, so a failure leaves no "never awaited" behind.
"""

import asyncio
import inspect
from collections.abc import AsyncIterable, Awaitable, Iterable
from typing import Any, Literal, TypeVar, overload

from aioconc._internal._check import check_limit
from aioconc.flow._map import MapRun
from aioconc.flow._progress import Progress
from aioconc.flow._window import Policy

T = TypeVar("T")


@overload
async def gather_limited(
    *aws: Awaitable[T], limit: float, return_exceptions: Literal[False] = False, progress: Progress = None
) -> list[T]: ...
@overload
async def gather_limited(
    aws: Iterable[Awaitable[T]] | AsyncIterable[Awaitable[T]],
    /,
    *,
    limit: float,
    return_exceptions: Literal[False] = False,
    progress: Progress = None,
) -> list[T]: ...
@overload
async def gather_limited(
    *aws: Awaitable[T], limit: float, return_exceptions: bool, progress: Progress = None
) -> list[T | BaseException]: ...
@overload
async def gather_limited(
    aws: Iterable[Awaitable[T]] | AsyncIterable[Awaitable[T]],
    /,
    *,
    limit: float,
    return_exceptions: bool,
    progress: Progress = None,
) -> list[T | BaseException]: ...
async def gather_limited(
    *aws: Any, limit: float, return_exceptions: bool = False, progress: Progress = None
) -> list[Any]:
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
    source: Any = aws
    if len(aws) == 1 and not inspect.isawaitable(aws[0]):
        source = aws[0]
        if not isinstance(source, (Iterable, AsyncIterable)) or isinstance(source, (str, bytes)):
            raise TypeError(_not_awaitable(source))
    try:
        policy = Policy(
            limit=check_limit("limit", limit),
            on_error="return" if return_exceptions else "raise",
        )
    except BaseException:
        if isinstance(source, (tuple, list)):
            for aw in source:
                discard(aw)
        raise
    return await MapRun(
        _itself, source, policy, progress=progress, discard=discard, name="gather_limited"
    )


def _itself(aw: Any) -> Awaitable[Any]:
    if type(aw) is _Coroutine or inspect.isawaitable(aw):
        return aw  # type: ignore[no-any-return]  # isawaitable does not narrow
    raise TypeError(_not_awaitable(aw))


def discard(aw: Any) -> None:
    """Dispose of an awaitable that will not be awaited."""
    if inspect.iscoroutine(aw):
        aw.close()
    elif isinstance(aw, asyncio.Future):
        aw.cancel()


def _not_awaitable(value: Any) -> str:
    if inspect.iscoroutinefunction(value):
        name = value.__qualname__
        return (
            f"gather_limited expected awaitables, got the async function {name}; "
            f"did you mean {name}(), or map_limited({name}, items, limit=...)?"
        )
    return f"gather_limited expected awaitables or one iterable of them, got {value!r:.80}"


async def _nothing() -> None: ...


_coroutine = _nothing()
_Coroutine = type(_coroutine)
_coroutine.close()
