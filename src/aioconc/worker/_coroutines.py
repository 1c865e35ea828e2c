"""Coroutine functions and async generators in a worker: they run in a loop of the worker's own.

The loop also watches the worker's socket, so that a call which is no longer wanted is cancelled at
its next await. It stands still between calls, and what they keep open in it stays usable.
"""

import asyncio
import atexit
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from aioconc.worker._served import Served

T = TypeVar("T")

# One loop for all calls of the process.
_runner: asyncio.Runner | None = None


def await_in_loop(served: "Served", aw: Awaitable[T]) -> T:
    """What `aw` gives, awaited in the worker's loop.

    Raises:
        Cancelled: the call was no longer wanted, and `aw` was cancelled for it.
        BaseException: whatever `aw` raised.
    """

    async def main() -> T:
        served.on_news = _cancel_this_task(served)
        return await aw

    return _run(served, main())


def send_items_in_loop(served: "Served", items: AsyncIterable[Any]) -> None:
    """Send the items as they are wanted, until there are no more or nobody wants them.

    Raises:
        Cancelled: nobody wants them, and the generator was cancelled where it was.
        BaseException: whatever the generator raised.
    """

    async def main() -> None:
        news = asyncio.Event()
        cancel = _cancel_this_task(served)

        def hear() -> None:
            news.set()
            cancel()

        served.on_news = hear
        iterator = aiter(items)
        try:
            while True:
                while not served.may_send:
                    news.clear()
                    await news.wait()
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    return
                served.send_item(item)
                # Else a generator that never waits would not let the loop see what the parent says.
                await asyncio.sleep(0)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    _run(served, main())


def _cancel_this_task(served: "Served") -> Callable[[], object]:
    """Cancels the running task, once, when the call is no longer wanted."""
    task = asyncio.current_task()
    assert task is not None
    told = False

    def cancel() -> None:
        nonlocal told
        if served.cancelled and not told:
            told = True
            task.cancel()

    if served.cancelled:
        cancel()
    return cancel


def _run(served: "Served", coro: Coroutine[Any, Any, T]) -> T:
    global _runner
    if _runner is None:
        _runner = asyncio.Runner()
        atexit.register(_runner.close)
    loop = _runner.get_loop()
    cord = served.cord

    def read() -> None:
        try:
            served.take_in(cord.poll())
        except (EOFError, ConnectionError):  # the parent has let go of this worker
            loop.remove_reader(cord.fileno())
            served.cancelled = True
            if served.on_news is not None:
                served.on_news()

    loop.add_reader(cord.fileno(), read)
    read()  # what came together with the call, of which the loop would not be told
    try:
        return _runner.run(coro, context=copy_context())
    except asyncio.CancelledError:
        if served.cancelled:
            raise served.unwanted() from None
        raise
    finally:
        served.on_news = None
        loop.remove_reader(cord.fileno())
