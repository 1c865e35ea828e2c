"""Reading a source lazily: one way in for sync and async iterables.

`SyncFeed` calls `next` when an item is wanted. `AsyncFeed` owns the one task that ever touches an
async source, since scopes and context variables inside it bind to the task that runs it. Each
closes a generator exactly once, in the task that ran it.
"""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
)
from functools import partial
from itertools import chain
from typing import Any, Final, Protocol


Job = tuple[int, Any]  # index in the source, item

# Iterators of these end for good when they end and cannot fail.
PLAIN: Final = (list, tuple, range, dict, set, frozenset)


class Feed(Protocol):
    """What the window reads from. `pull` gives the next job, or None; it never waits."""

    exhausted: bool
    pull: Callable[[], Job | None]

    def start(self) -> None:
        """Begin, if there is something to begin. Called once, in the owner's task."""

    def stop(self) -> None:
        """Read no further."""

    def tasks(self) -> Collection["asyncio.Task[Any]"]:
        """Tasks to wait for before the map ends."""

    def close(self) -> None:
        """Close a sync source. Called once, after `tasks` have ended."""

    def rest(self) -> Iterable[Any]:
        """Items that exist and were never pulled; asked after `stop`."""


class SyncFeed:
    """Items of an iterable, pulled by whoever needs one.

    Args:
        source: any iterable. A generator is closed at the end; any other iterator is left alone.
    """

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source
        self._iterator = iter(source)
        self.exhausted = False
        # An iterator may go on after it raised, a generator may not: one error ends the source.
        final = isinstance(source, PLAIN) or isinstance(self._iterator, Generator)
        items = self._iterator if final else (item for item in self._iterator)
        # Pulling stays in C until the source ends, which runs `_end`.
        self.pull: Callable[[], Job | None] = partial(
            next, chain(enumerate(items), self._end()), None
        )

    def _end(self) -> Iterator[Job]:
        self.exhausted = True
        yield from ()

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.exhausted = True

    def tasks(self) -> Collection["asyncio.Task[Any]"]:
        return ()

    def close(self) -> None:
        if isinstance(self._iterator, Generator):
            self._iterator.close()

    def rest(self) -> Iterable[Any]:
        """Items that exist although nobody pulled them: those of a list."""
        return self._iterator if isinstance(self._source, PLAIN) else ()


class AsyncFeed:
    """Items of an async iterable, pulled ahead of need by one task: at most one at a time.

    Args:
        source: any async iterable. An async generator is closed at the end, by the same task.
        wanted: whether the window can use one more item now.
        on_item: called after each new item, and at the end of the source.
        on_error: called with an exception that the source raises.
    """

    def __init__(
        self,
        source: AsyncIterable[Any],
        *,
        wanted: Callable[[], bool],
        on_item: Callable[[], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._iterator = aiter(source)
        self._wanted = wanted
        self._on_item = on_item
        self._on_error = on_error
        self._ready: deque[Job] = deque()
        self._read_items = 0
        self._hungry: asyncio.Future[None] | None = None
        self._reading = True
        # Whether the puller is suspended in the source or waits to be asked: cancelling it
        # anywhere else would strike its `aclose`.
        self._interruptible = False
        self._puller: asyncio.Task[None] | None = None
        self.exhausted = False

    def start(self) -> None:
        self._puller = asyncio.get_running_loop().create_task(
            self._pull_all(), name=f"aioconc reader of {self._iterator!r:.60}"
        )

    def pull(self) -> Job | None:
        if self._ready:
            job = self._ready.popleft()
            self.exhausted = not self._reading and not self._ready
            return job
        if self._hungry is not None and not self._hungry.done():
            self._hungry.set_result(None)
        return None

    def stop(self) -> None:
        self._reading = False
        self.exhausted = True
        if self._puller is not None and self._interruptible:
            self._puller.cancel()

    def tasks(self) -> Collection["asyncio.Task[Any]"]:
        return () if self._puller is None else (self._puller,)

    def close(self) -> None:
        pass  # the puller has done it

    def rest(self) -> Iterable[Any]:
        """Items that were read and not pulled."""
        return [item for _, item in self._ready]

    async def _pull_all(self) -> None:
        try:
            await self._read(self._iterator)
        except asyncio.CancelledError as error:
            if self._reading:  # not from `stop`: the source was cancelled by somebody else
                self._on_error(error)
        except BaseException as error:
            self._on_error(error)
        finally:
            try:
                if isinstance(self._iterator, AsyncGenerator):
                    await self._iterator.aclose()
            except BaseException as error:
                self._on_error(error)
            finally:
                self._reading = False
                self.exhausted = not self._ready
                self._on_item()

    async def _read(self, iterator: AsyncIterator[Any]) -> None:
        loop = asyncio.get_running_loop()
        while self._reading:
            self._interruptible = True
            try:
                while self._ready or not self._wanted():
                    self._hungry = loop.create_future()
                    try:
                        await self._hungry
                    finally:
                        self._hungry = None
                item = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                self._interruptible = False
            self._ready.append((self._read_items, item))
            self._read_items += 1
            if self._reading:
                self._on_item()
