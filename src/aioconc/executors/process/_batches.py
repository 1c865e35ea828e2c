"""Items of a map that are gathered into chunks after each has been started by itself.

The window starts every item as it sees fit; those in flight and not sent yet travel together, as
soon as a worker is free. So keys, rates, retries and progress see single items, and the workers see
chunks. A batch ends before the last of its items does.
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aioconc.executors.process._chunk_sizes import ChunkSizes
from aioconc.executors.process._chunks import ChunkRunner
from aioconc.tasks._join import join

if TYPE_CHECKING:
    from aioconc.executors.process._executor import ProcessExecutor


class Entry:
    """An item that waits for its outcome, and who waits for it."""

    __slots__ = ("batch", "item", "outcome", "unwanted")

    def __init__(self, item: Any, outcome: "asyncio.Future[Any]") -> None:
        self.item = item
        self.outcome = outcome
        # The one it travels with; None: it has not been sent.
        self.batch: Batch | None = None
        self.unwanted = False


class Batch:
    """Items that travel together; see `_chunks.Items`."""

    failure: Exception | None = None

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries
        self._done = 0
        self.task: asyncio.Task[None] | None = None
        for entry in entries:
            entry.batch = self

    def left(self) -> list[Any]:
        """Items that have no outcome."""
        return [entry.item for entry in self._entries[self._done :]]

    def is_unwanted(self) -> bool:
        """Whether nobody waits for what is left."""
        return all(entry.unwanted for entry in self._entries[self._done :])

    def add(self, values: list[Any], failed: list[int]) -> None:
        """The next items have these outcomes."""
        errors = frozenset(failed)
        start, self._done = self._done, self._done + len(values)
        for place, value in enumerate(values):
            outcome = self._entries[start + place].outcome
            if outcome.done():
                continue  # nobody waits
            if place in errors:
                outcome.set_exception(value)
            else:
                outcome.set_result(value)

    def fail(self, error: Exception) -> None:
        """The next item ends with this error."""
        self.add([error], [0])

    def fail_all(self, error: Exception) -> None:
        """No item that is left can be run."""
        count = len(self._entries) - self._done
        self.add([error] * count, [*range(count)])

    def give_up(self) -> None:
        """No further outcome will come; if any is missing, the batch's task was cancelled."""
        for entry in self._entries[self._done :]:
            entry.outcome.cancel()


# Rule 1: an item is in `_waiting`, or in a batch whose task is in `_tasks`, or has its outcome.
# Rule 2: `run` returns after its item can run no more: it has its outcome, never began, or the
#         task of its batch has ended.
class Batches:
    """Gathers the items of one map.

    Args:
        executor: whose workers.
        fn: function of one item.
        sizes: how many items a batch should have.
        most: most batches in flight.
    """

    def __init__(
        self,
        executor: "ProcessExecutor",
        fn: Callable[..., Any],
        sizes: ChunkSizes,
        most: int,
    ) -> None:
        self._work = ChunkRunner(executor, fn, sizes)
        self._sizes = sizes
        self._most = most
        self._waiting: OrderedDict[Entry, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        # A pass of the loop later, those that start at the same time are here.
        self._forming: asyncio.Handle | None = None

    async def run(self, item: Any) -> Any:
        """What came of the item.

        Cancellation:
            An item that was not sent never runs. One that was ends with its batch: now, if nobody
            waits for the others of it; else when it has ended by itself.
        """
        loop = asyncio.get_running_loop()
        entry = Entry(item, loop.create_future())
        self._waiting[entry] = None
        self._form_soon(loop)
        try:
            return await entry.outcome
        except asyncio.CancelledError:
            if not entry.outcome.cancelled():
                entry.outcome.exception()  # it came in this very tick, and nobody will look at it
            entry.unwanted = True
            await self._take_back(loop, entry)
            raise

    async def _take_back(self, loop: asyncio.AbstractEventLoop, entry: Entry) -> None:
        if entry.batch is None:
            del self._waiting[entry]
            return
        # A pass of the loop later, if the whole map is being cancelled, all of them are unwanted.
        batch = entry.batch
        loop.call_soon(self._end_if_unwanted, batch)
        assert batch.task is not None
        await join(batch.task)

    def _end_if_unwanted(self, batch: Batch) -> None:
        if batch.is_unwanted() and batch.task is not None:
            batch.task.cancel()

    # -- batches ------------------------------------------------------------------------------

    def _form_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._forming is None and len(self._tasks) < self._most:
            self._forming = loop.call_soon(self._form, loop)

    def _form(self, loop: asyncio.AbstractEventLoop) -> None:
        self._forming = None
        while self._waiting and (places := self._most - len(self._tasks)) > 0:
            # Shared out among the workers, however large a batch might be.
            share = -(-len(self._waiting) // places)
            count = min(self._sizes(), share)
            entries = [self._waiting.popitem(last=False)[0] for _ in range(count)]
            batch = Batch(entries)
            batch.task = task = loop.create_task(self._run(batch), name="aioconc chunk of a map")
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._ended, batch))

    async def _run(self, batch: Batch) -> None:
        await self._work(batch)

    def _ended(self, batch: Batch, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        batch.give_up()
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": "a chunk of a map failed", "exception": error, "task": task}
            )
        if self._waiting:
            self._form_soon(task.get_loop())
