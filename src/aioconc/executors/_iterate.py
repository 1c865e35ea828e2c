"""`iterate_in_thread`: a loop iterates what blocks, with an ordinary `async for`.

A name for `Executor.stream` on the threads of `offload_io`, which takes what is an iterable already
too. All that is promised is promised there.
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar

from aioconc._internal._check import check_choice
from aioconc.executors._callables import check_function
from aioconc.executors._offload import offload_io

T = TypeVar("T")


def iterate_in_thread(
    source: Iterable[T] | Callable[[], Iterable[T]],
    /,
    *,
    buffer: int = 8,
    on_cancel: Literal["wait", "abandon"] = "wait",
) -> AbstractAsyncContextManager[AsyncIterator[T]]:
    """The items of a blocking iterable, each awaited; a thread reads ahead.

    Equals `for item in source`, where each step is `await asyncio.to_thread(next, iterator)`, but in
    one thread from begin to end, which reads on while you work. It is a thread of `offload_io`'s,
    for as long as the block lasts; `ThreadExecutor.stream` uses threads of your own.

    Args:
        source: an iterable, or a function without arguments that makes one, in the thread. What the
            function made is closed in the thread, at the end, if it has a `close`; of what you pass
            yourself, a generator is closed, and anything else, such as a file, is left open.
        buffer: items that may be read and not yet taken, int >= 1.
        on_cancel: what leaving the block does while the thread is inside the iterable: "wait" until
            it comes back, or "abandon" it, so that it comes back when it does, and then closes.

    Returns:
        An async context manager that gives an async iterator. Leaving the block ends the reading;
        what was read and not taken is lost.

    Raises:
        TypeError: `source` is neither, or it is async.
        ValueError: `buffer` is below 1, or no such `on_cancel`.
        Exception: what the iterable raised, after the items before it.

    Cancellation:
        While you wait for an item: none is lost, and the next `anext` gives it. At the end of the
        block, which waits for the thread: it goes on waiting, and then raises. Inside the iterable
        `aioconc.worker.check_cancelled()` raises once the block is left.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with iterate_in_thread(range(3)) as numbers:
        ...         return [number async for number in numbers]
        >>> asyncio.run(main())
        [0, 1, 2]
    """
    check_choice("on_cancel", on_cancel, ("wait", "abandon"))
    given: Any = source
    name = None
    if isinstance(given, Iterable):
        gen_fn: Callable[[], Any] = partial(_as_is, given)
        name = getattr(given, "__qualname__", type(given).__qualname__)
    elif callable(given):
        check_function(given, "iterate_in_thread")
        gen_fn = given
    elif hasattr(given, "__aiter__"):
        raise TypeError(
            f"iterate_in_thread expected what blocks, got {given!r}, which is async; write "
            "`async for item in source`"
        )
    else:
        raise TypeError(
            f"iterate_in_thread expected an iterable, or a function that makes one, got {given!r}"
        )
    options = offload_io.options(on_cancel=on_cancel)
    if name is not None:
        options = options.options(name=name)
    return options.executor.stream(gen_fn, buffer=buffer)


def _as_is(items: Iterable[T]) -> Iterator[T]:
    """Its iterator, which the stream closes if it is a generator, and only then."""
    iterator = iter(items)
    return iterator if isinstance(iterator, Generator) else islice(iterator, None)
