"""Coroutine functions and async generators in a worker: they run in a loop of the worker's own."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

# One loop for all calls of the process, so that what they keep open in it stays usable.
_runner: asyncio.Runner | None = None


def run_in_loop(aw: Awaitable[T]) -> T:
    """Await `aw` in the worker's loop."""
    global _runner
    if _runner is None:
        _runner = asyncio.Runner()

    async def main() -> T:
        return await aw

    return _runner.run(main())


def iterate_in_loop(items: AsyncIterable[T]) -> Iterator[T]:
    """The items of an async iterable, one by one; closes an async generator at the end."""
    iterator = aiter(items)
    end: Any = object()

    async def step() -> Any:
        return await anext(iterator, end)

    try:
        while (item := run_in_loop(step())) is not end:
            yield item
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            run_in_loop(close())
