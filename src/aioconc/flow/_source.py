"""Reading a source lazily: one way in for sync and async iterables.

`SyncFeed` calls `next` when an item is wanted, in one context of the source's own. `AsyncFeed`
owns the one task that ever touches an async source, since scopes and context variables inside it
bind to the task that runs it. Each closes a generator exactly once, where it ran.
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
from contextvars import Context, copy_context
from functools import partial
from itertools import chain, repeat, starmap
from typing import Any, Final, Protocol

Job = tuple[int, Any]  # index in the source, item

# Their iterators run no code of the user, and when they end they end for good.
PLAIN: Final = (list, tuple, range, dict, set, frozenset)


class Feed(Protocol):
    """What the window reads from. `pull` gives the next job, or None; it never waits."""

    exhausted: bool

    @property
    def jobs(self) -> Iterator[Job] | None:
        """All that `pull` would give, where None from it means that the source has ended."""
        ...

    @property
    def pull(self) -> Callable[[], Job | None]: ...

    def start(self, context: Context) -> None:
        """Begin, if there is something to begin. Called once, in the owner's task."""

    def stop(self) -> None:
        """Read no further."""

    def tasks(self) -> Collection["asyncio.Task[Any]"]:
        """Tasks to wait for before the map ends; ask again when they have ended."""
        ...

    def close(self) -> None:
        """Close a sync source. Called once, after `tasks` have ended."""

    def rest(self) -> Iterable[Any]:
        """Items that exist and were never pulled; asked after `stop`."""
        ...


class SyncFeed:
    """Items of an iterable, pulled by whoever needs one.

    Args:
        source: any iterable. A generator is closed at the end; any other iterator is left alone.
        indexes: numbers for the items.
    """

    def __init__(self, source: Iterable[Any], indexes: Iterator[int]) -> None:
        self._source = source
        # Pulled by many tasks, a generator must still find its context variables (and the tokens
        # of those it has set) where it left them, and an item must not see them.
        self._context = copy_context()
        self._iterator = self._context.run(iter, source)
        self.exhausted = False
        # An iterator may go on after it raised, a generator may not: one error ends the source.
        final = isinstance(source, PLAIN) or isinstance(self._iterator, Generator)
        items: Iterator[Any] = self._iterator if final else (item for item in self._iterator)
        # Pulling stays in C until the source ends, which runs `_end`.
        if not isinstance(source, PLAIN):
            items = starmap(self._context.run, repeat((next, items)))
        self.jobs: Iterator[Job] = chain(zip(indexes, items, strict=False), self._end())
        self.pull: Callable[[], Job | None] = partial(next, self.jobs, None)

    def _end(self) -> Iterator[Job]:
        self.exhausted = True
        yield from ()

    def start(self, context: Context) -> None:
        pass

    def stop(self) -> None:
        self.exhausted = True

    def tasks(self) -> Collection["asyncio.Task[Any]"]:
        return ()

    def close(self) -> None:
        if isinstance(self._iterator, Generator):
            self._context.run(self._iterator.close)

    def rest(self) -> Iterable[Any]:
        """Items that exist although nobody pulled them: those of a list."""
        return self._iterator if isinstance(self._source, Collection) else ()


# A reader's life:   new -> reading -> closing the source -> done
#                       \-> (cancelled before its first step) -> new one, which only closes
# Rule: `stop` cancels it only while it reads; anywhere else the cancel would strike the source's
#       own clean-up.
class AsyncFeed:
    """Items of an async iterable, read by one task, and only when the window wants one.

    Args:
        source: any async iterable. An async generator is closed at the end, by the same task.
        indexes: numbers for the items.
        wanted: whether the window can use one more item now.
        on_item: called after each new item, and at the end of the source.
        on_error: called with an exception that the source raises.
    """

    def __init__(
        self,
        source: AsyncIterable[Any],
        indexes: Iterator[int],
        *,
        wanted: Callable[[], bool],
        on_item: Callable[[], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._iterator = aiter(source)
        self._indexes = indexes
        self._wanted = wanted
        self._on_item = on_item
        self._on_error = on_error
        self._ready: deque[Job] = deque()  # one at most
        self._hungry: asyncio.Future[None] | None = None
        self._reading = True
        self._interruptible = False
        self._begun = False
        self._reader: asyncio.Task[None] | None = None
        self.exhausted = False
        self.jobs: Iterator[Job] | None = None

    def start(self, context: Context) -> None:
        self._context = context
        self._launch(None)

    def _launch(self, struck: asyncio.CancelledError | None) -> None:
        self._reader = asyncio.get_running_loop().create_task(
            self._read_and_close(struck),
            name=f"aioconc reader of {self._iterator!r:.60}",
            context=self._context,
        )
        self._reader.add_done_callback(lambda _: self.tasks())

    def pull(self) -> Job | None:
        if self._ready:
            job = self._ready.popleft()
            self.exhausted = not self._reading
            return job
        if self._hungry is not None and not self._hungry.done():
            self._hungry.set_result(None)
        return None

    def stop(self) -> None:
        self._reading = False
        self.exhausted = True
        if self._reader is not None and self._interruptible:
            self._reader.cancel()

    def tasks(self) -> Collection["asyncio.Task[Any]"]:
        if self._reader is not None and self._reader.done() and not self._begun:
            # Somebody else cancelled it before its first step, so its code never ran.
            self._launch(asyncio.CancelledError())
        return () if self._reader is None else (self._reader,)

    def close(self) -> None:
        pass  # the reader has done it

    def rest(self) -> Iterable[Any]:
        """Items that were read and not pulled."""
        return [item for _, item in self._ready]

    async def _read_and_close(self, struck: asyncio.CancelledError | None) -> None:
        self._begun = True
        task = asyncio.current_task()
        try:
            if struck is not None:
                raise struck
            await self._read(self._iterator)
        except asyncio.CancelledError as error:
            if self._reading:  # not from `stop`: the source was cancelled by somebody else
                self._on_error(error)
        except BaseException as error:
            if is_destroyed(error, task):
                raise
            self._on_error(error)
        try:
            if isinstance(self._iterator, AsyncGenerator):
                await self._iterator.aclose()
        except BaseException as error:
            if is_destroyed(error, task):
                raise
            self._on_error(error)
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
            self._ready.append((next(self._indexes), item))
            item = None
            if self._reading:
                self._on_item()


def is_destroyed(error: BaseException, task: "asyncio.Task[Any] | None") -> bool:
    """Whether `error` is the end of a coroutine whose loop is gone, and not somebody's mistake."""
    if not isinstance(error, GeneratorExit):
        return False
    try:
        return asyncio.current_task() is not task
    except RuntimeError:
        return True
