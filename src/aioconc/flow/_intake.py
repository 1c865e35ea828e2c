"""Which job comes next: the source, what may start of it now, and how far it may run ahead.

Stands between the window and its source. A job is taken only by a caller who starts it at once, so
nothing is read further than calls start; with a reader who reads along, no further than there is
room for results. Keys, rates and retries are left to the admission, if there is one.
"""

import asyncio
import math
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextvars import Context
from typing import Any

from aioconc.flow._admission import Admission
from aioconc.flow._outcomes import Sink
from aioconc.flow._progress import Reporter
from aioconc.flow._source import AsyncFeed, Job, SyncFeed


class Intake:
    """The jobs of one map, each handed out once, in the order in which they may start.

    Args:
        source: items, sync or async.
        sink: numbers them, and knows which one the reader waits for.
        limit: most calls in flight.
        buffer: results that may wait for the reader beside them; inf where nobody reads along.
        admission: decides which item may start now, when keys, rates or retries are in play.
        reporter: progress reporter.
        on_started: called once for each item that starts.
        free_slots: how many more calls may be in flight.
        on_ready: called when there is a job that could not be had before, or will be none.
        on_refused: called with a job that cannot be started, and why.
        on_error: called with an exception of an async source. One of a sync source leaves `take`.
    """

    __slots__ = (
        "_admission",
        "_buffer",
        "_feed",
        "_free_slots",
        "_on_ready",
        "_on_refused",
        "_on_started",
        "_reporter",
        "_sink",
        "jobs",
        "room",
        "take",
    )

    def __init__(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        sink: Sink,
        *,
        limit: float,
        buffer: float,
        admission: Admission | None,
        reporter: Reporter | None,
        on_started: Callable[[], None] | None,
        free_slots: Callable[[], float],
        on_ready: Callable[[], None],
        on_refused: Callable[[Job, BaseException], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._sink = sink
        self._buffer = buffer
        self._admission = admission
        self._reporter = reporter
        self._on_started = on_started
        self._free_slots = free_slots
        self._on_ready = on_ready
        self._on_refused = on_refused
        self._feed: SyncFeed | AsyncFeed
        if isinstance(source, AsyncIterable):
            self._feed = AsyncFeed(
                source,
                sink.indexes(),
                wanted=self._wants_item,
                on_item=on_ready,
                on_error=on_error,
            )
        else:
            self._feed = SyncFeed(source, sink.indexes())
        # Items that may still start before one is delivered. Negative when the limit was lowered.
        self.room = _capacity(limit, buffer)
        # The next job that may start now, or None. The caller has a slot for it.
        self.take: Callable[[], Job | None] = self._take
        # The same as an iterator in C, where nothing but a sync source decides.
        self.jobs: Iterator[Job] | None = None
        if admission is None and reporter is None and on_started is None:
            self.take = self._take_if_room
            if buffer == math.inf:
                self.take = self._feed.pull
                self.jobs = self._feed.jobs

    def start(self, context: Context) -> None:
        """Begin to read, in a copy of `context`."""
        if self._admission is not None:
            self._admission.bind(
                pull=self._feed.pull,
                pump=self._on_ready,
                free_slots=self._free_slots,
                room=lambda: self.room,
                head=self._sink.head,
                item_failed=self._refused,
                context=context,
            )
        self._feed.start(context.copy())

    def resize(self, before: float, after: float) -> None:
        """The limit has changed from `before` to `after`."""
        if self._buffer != math.inf:
            self.room += _capacity(after, self._buffer) - _capacity(before, self._buffer)

    @property
    def ended(self) -> bool:
        """Whether no job will come any more."""
        waits = self._admission is not None and self._admission.pending > 0
        return self._feed.exhausted and not waits

    def end(self) -> None:
        """Read no further; what was read may still be taken."""
        self._feed.exhausted = True

    def stop(self) -> None:
        """Let no job be taken any more."""
        self._feed.stop()
        if self._admission is not None:
            self._admission.stop()

    def tasks(self) -> list["asyncio.Task[Any]"]:
        """Tasks to wait for before the source is closed; ask again when they have ended."""
        waiters = () if self._admission is None else self._admission.tasks()
        return [*self._feed.tasks(), *waiters]

    def reads_in(self, task: "asyncio.Task[Any]") -> bool:
        """Whether the source runs in this task."""
        return task in self._feed.tasks()

    def left(self) -> Iterator[Any]:
        """Items that exist and will never be called; asked after `stop`."""
        if self._admission is not None:
            for _, item in self._admission.waiting():
                yield item
        yield from self._feed.rest()

    def close(self) -> None:
        """Close a sync source. Called once, after `tasks` have ended."""
        self._feed.close()

    # ------------------------------------------------------------------ one job

    def _wants_item(self) -> bool:
        return self._free_slots() > 0 and self.room > 0

    def _take_if_room(self) -> Job | None:
        if self.room <= 0:
            return None
        job = self._feed.pull()
        if job is not None:
            self.room -= 1
        return job

    def _take(self) -> Job | None:
        if self._admission is None:
            job = self._take_if_room()
        else:
            job = self._admission.take()
            if job is None or self._admission.is_retry(job[0]):
                return job  # a retry has its place, and was counted
            self.room -= 1
        if job is not None:
            if self._reporter is not None:
                self._reporter.started()
            if self._on_started is not None:
                self._on_started()
        return job

    def _refused(self, job: Job, error: BaseException) -> None:
        """The admission cannot have the key or the rate of an item: it fails without starting."""
        if self._admission is not None and not self._admission.is_retry(job[0]):
            self.room -= 1
            if self._reporter is not None:
                self._reporter.started()
        self._on_refused(job, error)


def _capacity(limit: float, buffer: float) -> float:
    """Items that may have started and not been delivered."""
    # With no limit, the buffer alone bounds what runs ahead of the reader.
    return max(1, buffer if limit == math.inf else limit + buffer)
