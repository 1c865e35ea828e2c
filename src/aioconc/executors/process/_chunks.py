"""Chunks of a map as calls of the pool: sent, read as they are worked on, and taken up again.

A worker that dies costs the item that it worked on: what it had done is in its journal, and what
it had not begun is sent to another. So each item ends once. What becomes of a failure, and in
which order results are read, is left to the map.
"""

import io
import marshal
import struct
from _pickle import loads
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from aioconc._bridge._errand import run_errand
from aioconc._wire import _call as layout, _frames as wire
from aioconc._wire._body import dump, loan_of
from aioconc.errors import SerializationError, WorkerCrashed, WorkerTimeout
from aioconc.executors._call import contained
from aioconc.executors._options import CallOptions
from aioconc.executors._remote import take_error, take_value
from aioconc.executors.process._chunk_sizes import ChunkSizes
from aioconc.executors.process._jobs import ProcessCall, takes_long

if TYPE_CHECKING:
    import mmap

    from aioconc.executors.process._executor import ProcessExecutor
    from aioconc.executors.process._worker import WorkerProcess

# Outcomes of this many bytes and more are unpickled in a thread of their own: see `_jobs`.
_LARGE: Final = 1_000_000

# How often the items of a chunk are sent again because their worker died before it began with any.
# Then the first of them is taken for the reason: unpickling it may be what kills.
_MOST_UNBEGUN: Final = 3

_WORD = struct.Struct("=I")


class Items(Protocol):
    """What a chunk is worked on for: items in order, each waiting for its outcome."""

    # Set once no further outcome is wanted.
    failure: Exception | None

    def left(self) -> list[Any]:
        """Items that have no outcome."""
        ...

    def add(self, values: list[Any], failed: list[int]) -> None:
        """The next items have these outcomes; at the places `failed` stand exceptions."""

    def fail(self, error: Exception) -> None:
        """The next item ends with this error."""

    def fail_all(self, error: Exception) -> None:
        """No item that is left can be run."""


class ChunkCall(ProcessCall):
    """Some items of a map, as one call.

    Args:
        fn: function of one item.
        items: those that get the outcomes.
        count: how many of them are sent, from the first that has none.
        options: of the map; `timeout` is that of an item.
    """

    # Outcomes that are still pickled, and how many came before them. The first are being unpickled
    # elsewhere.
    _unread: "deque[tuple[bytes | memoryview, int]] | None" = None
    # The outcome of the call waits for that.
    _is_over = False

    def __init__(
        self, fn: Callable[..., Any], items: Items, count: int, options: CallOptions
    ) -> None:
        super().__init__(fn, options)
        self._items = items
        self.count = count
        # Items whose outcome has arrived, be it unpickled or not.
        self._received = 0
        # Items whose outcome is known.
        self.done = 0
        # Seconds that the worker took for them.
        self.seconds = 0.0
        # Its worker died; and had it begun with the first item without an outcome?
        self.lost = False
        self.had_begun = False
        # Number of the item whose time was over.
        self._late: int | None = None
        self._reply: bytes | memoryview | None = None

    # -- what goes out ----------------------------------------------------------------------------

    def pieces(self, worker: "WorkerProcess") -> "list[bytes | memoryview]":
        if worker.journal is not None:
            head = (layout.JOURNAL_START, 0, 0, 0, 0, self.timeout is not None, 0.0)
            layout.JOURNAL_HEAD.pack_into(worker.journal, 0, *head)
        return super().pieces(worker)

    def ask(self) -> None:
        # First of all: no item begins any more that would be killed with one that is.
        self._stop_worker()
        super().ask()

    def _stop_worker(self) -> None:
        journal = self._journal()
        if journal is not None:
            _WORD.pack_into(journal, 4 * layout.STOP, 1)

    def _journal(self) -> "mmap.mmap | None":
        return None if self.worker is None else self.worker.journal

    # -- the time of an item ------------------------------------------------------------------

    def begin_clock(self) -> None:
        if self.timeout is not None and self._journal() is not None:
            self._sent_at = monotonic()
            self.timer = self.loop.call_later(self.timeout, self._look_at_clock)
        else:
            super().begin_clock()

    def expire(self) -> None:
        if self._late is None and self.reason == "timeout":
            self._late = self.done  # nothing is known of the items: it has only this one
        super().expire()

    def _look_at_clock(self) -> None:
        """Is the item that is worked on late? The worker says since when, on the same clock."""
        self.timer = None
        journal = self._journal()
        if journal is None or self.waiter.done():
            return
        assert self.timeout is not None
        # Half a millisecond of tolerance: timers may fire early by the clock's resolution.
        now = monotonic() + 0.0005
        if self._running_since(journal) + self.timeout <= now:
            self._stop_worker()
            # It may have ended in the meantime. If it has not, no other one will begin.
            if self._running_since(journal) + self.timeout <= now:
                begun = layout.JOURNAL_HEAD.unpack_from(journal)[layout.BEGUN]
                self._late = max(0, begun - 1)
                self.expire()
                return
            _WORD.pack_into(journal, 4 * layout.STOP, 0)
        more = self._running_since(journal) + self.timeout - now
        self.timer = self.loop.call_later(min(more, self.timeout), self._look_at_clock)

    def _running_since(self, journal: "mmap.mmap") -> float:
        """When the item that is worked on began; infinite if there is none."""
        head = layout.JOURNAL_HEAD.unpack_from(journal)
        began: float = head[-1]
        return began if head[layout.BEGUN] else self._sent_at  # else it is being unpickled

    # -- what comes back ------------------------------------------------------------------------

    def take_frame(self, kind: int, payload: "memoryview | bytes") -> None:
        if kind == wire.ITEM:
            self._take_outcomes(payload)
        else:
            super().take_frame(kind, payload)

    def take_reply(self, good: bool, payload: "memoryview | bytes") -> None:
        if not good:
            super().take_reply(good, payload)
            return
        self.good = True
        # Read in `deliver`: the worker is given its next call first.
        self._reply = payload
        assert self.worker is not None
        self.worker.calls += self.count - 1

    def deliver(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            (self.seconds,) = layout.SPENT.unpack_from(reply)
            self._take_outcomes(memoryview(reply)[layout.SPENT.size :])
        if self._unread:
            self._is_over = True
        else:
            super().deliver()

    def take_journal(self, journal: "mmap.mmap | None") -> None:
        """Its worker has died; what it had done counts."""
        self.lost = self.had_begun = True
        if journal is not None:
            head = layout.JOURNAL_HEAD.unpack_from(journal)
            data = journal[layout.JOURNAL_START : head[layout.END]]
            if not head[layout.MIXED]:
                data = _row(head[layout.FIRST], data)
            self._take_outcomes(data)
            self.has_progressed = self._received > 0
            self.had_begun = head[layout.BEGUN] > self._received

    def _take_outcomes(self, payload: "memoryview | bytes") -> None:
        if self.loop.is_closed():
            return  # nobody waits, and this may be another thread
        if self._unread is None and not _takes_long(payload):
            values, failed = self._read(payload, self._received)
            self._received += len(values)
            self._add(values, failed)
            return
        if self._unread is None:
            self._unread = deque()
        self._unread.append((payload, self._received))
        self._received = _last(payload, self._received)
        if len(self._unread) == 1:
            run_errand(self._read_elsewhere)

    def _read_elsewhere(self) -> None:
        """In a thread of its own."""
        assert self._unread is not None
        outcomes = self._read(*self._unread[0])
        self.mailbox.post(self.loop, lambda: self._was_read(*outcomes))

    def _was_read(self, values: list[Any], failed: list[int]) -> None:
        assert self._unread is not None
        self._unread.popleft()
        self._add(values, failed)
        if self._unread:
            run_errand(self._read_elsewhere)
        else:
            self._unread = None
            if self._is_over:
                super().deliver()

    def _read(self, payload: "memoryview | bytes", received: int) -> tuple[list[Any], list[int]]:
        """The outcomes in `payload` that follow the first `received`, and which are failures."""
        view = memoryview(payload)
        values: list[Any] = []
        failed: list[int] = []
        at, size = 0, len(view)
        unpack, head = layout.ITEM_HEAD.unpack_from, layout.ITEM_HEAD.size
        while at < size:
            index, kind, length = unpack(view, at)
            at += head
            data = view[at : at + length]
            at += length
            if kind == layout.ROW:
                # What was sent may be in the journal as well.
                values += marshal.loads(data)[max(0, received + len(values) - index) :]
            elif index >= received + len(values):
                value, good = self._read_one(kind, data)
                if not good:
                    failed.append(len(values))
                values.append(value)
        if self._late is not None and 0 <= (place := self._late - received) < len(values):
            values[place] = self.too_late()
            failed.append(place)
        return values, failed

    def _read_one(self, kind: int, data: memoryview) -> tuple[Any, bool]:
        outcome: Any = _Outcome(self.label)
        if kind == layout.FAILED:
            take_error(outcome, *loads(data))
        else:
            take_value(outcome, self.read if kind == layout.BODY else marshal.loads, data)
        error: BaseException | None = outcome.error
        if error is None:
            return outcome.value, True
        try:
            return contained(error, self.label), False
        finally:
            del error, outcome

    def _add(self, values: list[Any], failed: list[int]) -> None:
        if not values:
            return
        self.done += len(values)
        self._items.add(values, failed)
        if self._items.failure is not None and not self.good:
            # It ends the map: the rest of the chunk is not wanted.
            self.reason = "failed"
            self.expire()

    @property
    def late_has_ended(self) -> bool:
        """Whether the item whose time was over has its outcome."""
        return self._late is None or self.done > self._late


class _Outcome:
    """What one item gave, while it is unpickled."""

    value: Any = None
    error: BaseException | None = None

    def __init__(self, label: str) -> None:
        self.label = label


def _row(first: int, values: bytes) -> bytes:
    """Marshalled values, one after the other, as they are sent."""
    file = io.BytesIO(values)
    row = []
    while file.tell() < len(values):
        row.append(marshal.load(file))
    data = marshal.dumps(row)
    return layout.ITEM_HEAD.pack(first, layout.ROW, len(data)) + data


def _takes_long(payload: "memoryview | bytes") -> bool:
    if loan_of(payload) is None:
        return len(payload) >= _LARGE
    # Such an outcome has a frame of its own.
    return takes_long(memoryview(payload)[layout.ITEM_HEAD.size :])


def _last(payload: "memoryview | bytes", received: int) -> int:
    """How many items have an outcome after these."""
    at = 0
    while at < len(payload):
        index, kind, length = layout.ITEM_HEAD.unpack_from(payload, at)
        at += layout.ITEM_HEAD.size
        count = (
            len(marshal.loads(memoryview(payload)[at : at + length])) if kind == layout.ROW else 1
        )
        received = max(received, index + count)
        at += length
    return received


class ChunkRunner:
    """Works on chunks of one map until each of their items has its outcome.

    Args:
        executor: whose workers.
        fn: function of one item.
        sizes: learns what items take.
    """

    def __init__(
        self, executor: "ProcessExecutor", fn: Callable[..., Any], sizes: ChunkSizes
    ) -> None:
        self._executor = executor
        self._fn = fn
        self._sizes = sizes
        self._options = executor._options

    async def __call__(self, items: Items) -> None:
        """Work on a chunk."""
        progress = _Progress()
        while left := items.left():
            part = left if progress.most is None else left[: progress.most]
            call = ChunkCall(self._fn, items, len(part), self._options)
            call.attempt = progress.attempt
            try:
                self._executor._prepare(call, self._fn, part, {}, layout.MANY)
            except SerializationError as error:
                self._not_sendable(items, part, error, progress)
                continue
            try:
                await self._executor._finish(call, self._options)
            except Exception as error:
                if items.failure is None:
                    self._failed(items, call, error, progress)
            else:
                progress.moved()
                self._sizes.measured(call.done, call.seconds)

    def _not_sendable(
        self, items: Items, part: list[Any], error: SerializationError, progress: "_Progress"
    ) -> None:
        """Something among `part` cannot be pickled: what comes before it goes alone."""
        good = 0
        for item in part:
            try:
                dump(item)
            except Exception:
                break
            good += 1
        if good == len(part):
            items.fail_all(error)  # then it is the function
        elif good:
            progress.most = good
        else:
            items.fail(error)

    def _failed(
        self, items: Items, call: ChunkCall, error: Exception, progress: "_Progress"
    ) -> None:
        """The call of a chunk has failed: who pays for it, and how it goes on."""
        if call.done:
            progress.moved()
        if isinstance(error, WorkerCrashed) and call.lost:
            if not call.had_begun and progress.unbegun < _MOST_UNBEGUN:
                progress.unbegun += 1
                # If one of them cannot be unpickled without dying, it should take no others along.
                progress.most = 1 if progress.unbegun > 1 else progress.most
            elif progress.attempt <= self._options.retries:
                progress.attempt += 1
            else:
                error.attempt = progress.attempt
                progress.moved()
                items.fail(error)
        elif isinstance(error, WorkerTimeout) and error.phase == "run":
            if not call.late_has_ended:
                items.fail(error)
        elif isinstance(error, SerializationError) and not call.done and call.count > 1:
            progress.most = 1  # one of the items cannot be unpickled: which one?
            progress.stays_single = True
        elif isinstance(error, SerializationError) and not call.done:
            items.fail(error)
        else:
            items.fail_all(error)


class _Progress:
    """How far a chunk has come, beside its outcomes."""

    # Most items of the next call.
    most: int | None = None
    stays_single = False
    # Attempt at the first item that is left.
    attempt = 1
    # Workers that died before they had begun with it.
    unbegun = 0

    def moved(self) -> None:
        """An item has ended."""
        self.attempt, self.unbegun = 1, 0
        if not self.stays_single:
            self.most = None
