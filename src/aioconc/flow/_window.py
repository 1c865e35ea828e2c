"""The one bounded in-flight engine, under every map and gather of aioconc.

A few worker tasks pull items and await the call for each, so an item costs no task, no queue and
no semaphore, and no more than `limit` calls are ever in flight. The window guarantees that every
started call has ended before it closes, that the source is closed once, and that each item yields
exactly one outcome. Order, delivery and results are left to the sink it is given.
"""

import asyncio
import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass
from operator import is_
from time import monotonic
from typing import Any, Final, Literal, Protocol

from aioconc._internal import _hooks
from aioconc.errors import TaskCancelled
from aioconc.flow._admission import Admission
from aioconc.flow._progress import Reporter
from aioconc.flow._source import AsyncFeed, Job, SyncFeed
from aioconc.tasks._join import join, wait_done
from aioconc.tasks._scope import adopt, raise_if_cancelled

OnError = Literal["raise", "return", "skip"]
RetryHook = Callable[[int, Exception], float | None]

# How long calls that never suspend may hold the loop before a worker yields, in seconds: short
# beside the 5-10 ms at which people notice, long beside the 2 us that a yield costs.
SLICE: Final = 0.001

# At most so many further failures are added to the first one as notes; all are emitted as events.
MOST_NOTES: Final = 20


class Skipped:
    """Stands in for the result of an item that `on_error="skip"` drops."""


SKIPPED: Final = Skipped()


class Sink(Protocol):
    """Where outcomes go. Called synchronously by the window, once for each item pulled."""

    def put(self, index: int, value: Any) -> None: ...

    def ended(self) -> None:
        """No further `put` will come."""


@dataclass(slots=True)
class Policy:
    """What a map was asked for, checked."""

    limit: float
    on_error: OnError = "raise"
    timeout: float | None = None
    retry: RetryHook | None = None
    isolate: Literal["context", "task"] = "context"


# A worker's life:   (born with a job) -> calling -> [parked -> calling]* -> gone
# Rule 1: `_busy` is the number of jobs in the hands of workers; only `_give` raises it and only
#         the worker that had the job lowers it.
# Rule 2: a parked worker has its future in `_idle`; a future set with a job is no longer there.
# Rule 3: a worker that an item has left marks on (a context variable, a cancel request) hands its
#         next job to a new worker and is gone: marks never reach another item.
# Rule 4: once `_stopping`, no job is started, and every outcome that still arrives is dropped.
class Window:
    """Runs `call(item)` for the items of `source`, at most `policy.limit` at once.

    Args:
        call: async function of one item.
        source: items, sync or async; read only as fast as calls start.
        sink: gets the outcomes.
        policy: limits and what to do with failures.
        capacity: items that may be pulled and not yet `delivered`; inf where nobody reads along.
        admission: decides which item may start now, when keys, rates or retries are in play.
        reporter: progress reporter.
        label: the user's function, as it is named in errors and task names.
        discard: called with each item that exists and will never be called.
    """

    def __init__(
        self,
        call: Callable[[Any], Awaitable[Any]],
        source: Iterable[Any] | AsyncIterable[Any],
        sink: Sink,
        policy: Policy,
        *,
        capacity: float,
        admission: Admission | None,
        reporter: Reporter | None,
        label: str,
        discard: Callable[[Any], None] | None = None,
    ) -> None:
        self._call = call
        self._put = sink.put
        self._sink = sink
        self._policy = policy
        self._limit = policy.limit
        self._reporter = reporter
        self._label = label
        self._discard_item = discard
        if isinstance(source, AsyncIterable):
            self._feed: SyncFeed | AsyncFeed = AsyncFeed(
                source, wanted=self._has_room, on_item=self.pump, on_error=self._source_failed
            )
        else:
            self._feed = SyncFeed(source)
        self._pull = self._feed.pull
        self._admission = admission
        self._next_job = self._take
        # Items that may still be pulled before one is delivered.
        self._room = capacity
        if admission is not None:
            admission.bind(self._take, self.pump, self._has_slot, self._item_failed)
            self._next_job = admission.take
        elif capacity == math.inf:
            self._next_job = self._pull
        self._busy = 0
        self._idle: list[asyncio.Future[Job | None]] = []
        # Worker -> its first job, until it has begun with it: a task that is cancelled before its
        # first step never runs, so such a worker is not cancelled but finds out by itself.
        self._workers: dict[asyncio.Task[None], list[Job]] = {}
        # Task of a call in flight -> when it times out; in order of starting, hence of expiry,
        # so that one timer serves all.
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._timed_out: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._marked = False
        self._slice_end = 0.0
        self._stopping = False
        self._closed = False
        # The exception to raise at the end, and how many came after it.
        self.failure: BaseException | None = None
        self._later_failures = 0
        self._attempts: dict[int, int] = {}

    # ------------------------------------------------------------------ the owner's side

    def start(self) -> None:
        """Begin. From here on `aclose` must be awaited, by the same task."""
        raise_if_cancelled()
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        # What each item sees: the owner's context, and its scopes for `effective_deadline`.
        self._context = copy_context()
        self._context.run(adopt, self._workers.__contains__)
        self._values = list(self._context.values())
        self._feed.start()
        self.pump()

    async def finish(self) -> None:
        """Wait until every item has its outcome, or one failed for all; then close.

        Cancellation:
            Cancels all calls, waits for them, and is raised.
        """
        cancelled: asyncio.CancelledError | None = None
        try:
            await wait_done(self._finished)
        except asyncio.CancelledError as error:
            cancelled = error
        try:
            await self.aclose(cancelled)
            if self.failure is not None:
                raise self.failure
        finally:
            self.failure = cancelled = None  # break the circle: exception, frame, exception

    async def aclose(self, leaving: BaseException | None = None) -> None:
        """Stop what runs, wait for it and close the source. Harmless when repeated.

        Args:
            leaving: the exception that is on its way out; it is raised again if it is a
                `CancelledError`, and errors of the clean-up are noted on it.

        Cancellation:
            Arrives after everything has ended.
        """
        cancelled = leaving if isinstance(leaving, asyncio.CancelledError) else None
        try:
            self._stop(leaving)
            while running := self._running():
                cancelled = await join(*running) or cancelled
            if not self._closed:
                self._closed = True
                self._close_source()
            if cancelled is not None:
                if self.failure not in (None, cancelled):
                    cancelled.__context__ = self.failure
                raise cancelled
        finally:
            del leaving
            cancelled = None

    @property
    def limit(self) -> float:
        return self._limit

    @limit.setter
    def limit(self, value: float) -> None:
        self._limit = value
        self.pump()

    @property
    def finished(self) -> bool:
        return self._finished.done()

    @property
    def in_flight(self) -> int:
        return self._busy

    # ------------------------------------------------------------------ starting work

    def _has_slot(self) -> bool:
        return self._busy < self._limit and not self._stopping

    def _has_room(self) -> bool:
        return self._has_slot() and self._room > 0

    def _take(self) -> Job | None:
        """The next job from the source, if there is room for it and it can be had now."""
        if self._room <= 0 or self._stopping:
            return None
        job = self._pull()
        if job is not None:
            self._room -= 1
        return job

    def delivered(self, places: int) -> None:
        """The reader has taken so many results: make as much room, and start what can start."""
        self._room += places
        self.pump()

    def pump(self) -> None:
        """Hand out jobs while there are jobs and slots."""
        slice_end = monotonic() + SLICE
        while self._busy < self._limit and not self._stopping:
            try:
                job = self._next_job()
            except BaseException as error:
                self._source_failed(error)
                break
            if job is None:
                break
            self._give(job)
            if monotonic() > slice_end:
                self._loop.call_soon(self.pump)
                return
        if self._busy == 0:
            self._check_finished()

    def _give(self, job: Job) -> None:
        """Put a job into the hands of a parked worker, or of a new one."""
        self._busy += 1
        while self._idle:
            parked = self._idle.pop()
            if not parked.done():
                parked.set_result(job)
                return
        # A new context for each worker; one for each item would double the cost of an item.
        first = [job]
        worker = self._loop.create_task(
            self._work(first), name=self._label, context=self._context.copy()
        )
        self._workers[worker] = first
        worker.add_done_callback(self._gone)

    def _gone(self, worker: "asyncio.Task[None]") -> None:
        first = self._workers.pop(worker)
        if first:  # cancelled by somebody else before its first step
            self._busy -= 1
            self._discard(first[0][1])
            self._item_failed(first[0], asyncio.CancelledError())
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self._stop(error)
        if not self._stopping:
            self.pump()

    def _check_finished(self) -> None:
        if (
            self._feed.exhausted
            and not self._busy
            and not self._stopping
            and (self._admission is None or not self._admission.pending)
        ):
            self._stop(None)

    # ------------------------------------------------------------------ a worker

    async def _work(self, first: list[Job]) -> None:
        job: Job | None = first.pop()
        if self._stopping:
            self._busy -= 1
            self._discard(job[1])
            return
        call = self._call
        put = self._put
        next_job = self._next_job
        values = self._values
        variables = len(values)
        admission = self._admission
        reporter = self._reporter
        timeout = self._policy.timeout
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling

        while job is not None:
            index, item = job
            if timeout is not None:
                self._start_clock(task, timeout)
            try:
                value = await call(item)
            except BaseException as error:
                if isinstance(error, GeneratorExit) and not _is_running(task):
                    raise  # the loop is gone and this coroutine is being destroyed
                if timeout is not None:
                    error = self._stop_clock(task, item, error) or error
                self._item_failed(job, error)
            else:
                if self._stopping:
                    self._busy -= 1
                    return
                if timeout is not None and (late := self._stop_clock(task, item, None)):
                    self._item_failed(job, late)
                else:
                    put(index, value)
                    if admission is not None:
                        admission.finished(job)
                    if reporter is not None:
                        self._report(reporter, False)
            del item
            value = job = None

            # Rule 3, and what an item may leave behind.
            used = cancelling() != 0
            if not used:
                context = copy_context()
                used = len(context) != variables or (
                    variables > 0 and not all(map(is_, context.values(), values))
                )

            if self._busy <= self._limit and not self._stopping:
                # Calls that never suspend must not starve the loop. The mark is laid once in each
                # pass of the loop; if it still lies there after SLICE, the loop has not moved.
                if not self._marked:
                    self._marked = True
                    self._slice_end = monotonic() + SLICE
                    self._loop.call_soon(self._unmark)
                elif monotonic() > self._slice_end and not used:
                    await self._breathe()
                try:
                    job = next_job()
                except BaseException as error:
                    self._source_failed(error)
            if used or job is None:
                self._busy -= 1
                if job is not None:
                    self._give(job)
                elif not self._busy:
                    self._check_finished()
                if used or self._stopping or not self._feed_may_yield():
                    return
                job = await self._park()

    def _feed_may_yield(self) -> bool:
        return not self._feed.exhausted or (
            self._admission is not None and self._admission.pending > 0
        )

    async def _park(self) -> Job | None:
        """Wait for a job; None: there will be none."""
        parked: asyncio.Future[Job | None] = self._loop.create_future()
        self._idle.append(parked)
        try:
            return await parked
        except asyncio.CancelledError:
            # Cancelled by somebody else in the tick in which the job came: pass it on.
            if parked.done() and not parked.cancelled() and (job := parked.result()) is not None:
                self._busy -= 1
                if self._stopping:
                    self._discard(job[1])
                else:
                    self._give(job)
            raise

    async def _breathe(self) -> None:
        """Let the loop do other work once."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._busy -= 1
            if not self._stopping:  # cancelled by somebody else: another worker takes over
                self._loop.call_soon(self.pump)
            raise

    def _unmark(self) -> None:
        self._marked = False

    # ------------------------------------------------------------------ time-outs

    def _start_clock(self, task: "asyncio.Task[Any]", timeout: float) -> None:
        deadline = self._loop.time() + timeout
        self._deadlines[task] = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._expire)

    def _stop_clock(
        self, task: "asyncio.Task[Any]", item: Any, error: BaseException | None
    ) -> TimeoutError | None:
        """Take the call off the clock; its TimeoutError, if it was cancelled for being late."""
        self._deadlines.pop(task, None)
        if task not in self._timed_out:
            return None
        self._timed_out.discard(task)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            return None  # it failed while it was being cancelled: that is the better report
        late = TimeoutError(f"{self._label}({item!r:.80}) not done within {self._policy.timeout:g} s")
        late.__cause__ = error
        return late

    def _expire(self) -> None:
        self._timer = None
        # Half a millisecond of tolerance: timers may fire early by the clock's resolution.
        now = self._loop.time() + 0.0005
        while self._deadlines:
            task, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                self._timer = self._loop.call_at(deadline, self._expire)
                return
            del self._deadlines[task]
            self._timed_out.add(task)
            task.cancel()

    # ------------------------------------------------------------------ failures

    def _item_failed(self, job: Job, error: BaseException) -> None:
        """Give a failed call its outcome: retry, result, skip, or the end of the map."""
        index, item = job
        if self._stopping:
            if not isinstance(error, asyncio.CancelledError):
                self._note(error, index)
            return
        if isinstance(error, asyncio.CancelledError):
            # Nobody cancelled the map, so this is the item's own affair.
            error = _caused(TaskCancelled(f"{self._label}({item!r:.80}) was cancelled"), error)
        elif isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit)):
            # Would end the reader's loop, or an iterator on the way, instead of being an error.
            name = type(error).__name__
            error = _caused(RuntimeError(f"{self._label}({item!r:.80}) raised {name}"), error)
        try:
            if not isinstance(error, Exception):
                self._stop(error)
                return
            if self._retried(job, error):
                return
            if _hooks.listeners:
                _hooks.emit("map.item_failed", label=self._label, index=index, error=error)
            if self._policy.on_error == "raise":
                self._stop(error)
                return
            self._put(index, error if self._policy.on_error == "return" else SKIPPED)
            if self._admission is not None:
                self._admission.finished(job)
            if self._reporter is not None:
                self._report(self._reporter, True)
        finally:
            del error

    def _retried(self, job: Job, error: Exception) -> bool:
        """Whether the retry hook wants another attempt; it is then under way."""
        if self._policy.retry is None:
            return False
        assert self._admission is not None
        index = job[0]
        attempt = self._attempts.get(index, 0) + 1
        try:
            delay = self._policy.retry(attempt, error)
        except BaseException as broken:
            self._stop(broken)
            return True
        if delay is None:
            self._attempts.pop(index, None)
            return False
        self._attempts[index] = attempt
        if _hooks.listeners:
            _hooks.emit(
                "map.item_retried", label=self._label, index=index, error=error, delay=delay
            )
        self._admission.retry(job, delay)
        return True

    def _source_failed(self, error: BaseException) -> None:
        """The source raised: nothing more will come from it, and the map ends with its error.

        With on_error="raise" the calls in flight are cancelled; otherwise they run to their end,
        since their items did not fail.
        """
        if self._stopping:
            if not isinstance(error, asyncio.CancelledError):
                self._note(error, None)
            return
        if isinstance(error, asyncio.CancelledError):
            error = _caused(TaskCancelled(f"the source of {self._label} was cancelled"), error)
        elif isinstance(error, (StopAsyncIteration, GeneratorExit)):
            name = type(error).__name__
            error = _caused(RuntimeError(f"the source of {self._label} raised {name}"), error)
        if self._policy.on_error == "raise" or not isinstance(error, Exception):
            self._stop(error)
        else:
            self.failure = self.failure or error
            self._feed.exhausted = True

    def _note(self, error: BaseException, index: int | None) -> None:
        """Keep a failure that came while the map was already ending."""
        where = "in the source" if index is None else f"at item {index}"
        if _hooks.listeners:
            _hooks.emit("map.late_failure", label=self._label, index=index, error=error)
        if self.failure is None:
            self.failure = error
        elif error is not self.failure:
            self._later_failures += 1
            if self._later_failures <= MOST_NOTES:
                self.failure.add_note(f"also failed, {where}: {error!r}")
            elif self._later_failures == MOST_NOTES + 1:
                self.failure.add_note("and more; every failure is emitted as an event")

    # ------------------------------------------------------------------ the end

    def _stop(self, error: BaseException | None) -> None:
        """Let nothing start any more and cancel what runs. The first call counts."""
        if self._stopping:
            return
        self._stopping = True
        self.failure = self.failure or error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._feed.stop()
        if self._admission is not None:
            self._admission.stop()
        for parked in self._idle:
            if not parked.done():
                parked.set_result(None)
        self._idle.clear()
        current = asyncio.current_task()
        for worker, first in self._workers.items():
            if worker is not current and not first and not worker.done():
                worker.cancel()
        self._sink.ended()
        if not self._finished.done():
            self._finished.set_result(None)
        if self._reporter is not None:
            self._reporter.close()

    def _running(self) -> list["asyncio.Task[Any]"]:
        tasks: list[asyncio.Task[Any]] = [*self._workers, *self._feed.tasks()]
        if self._admission is not None:
            tasks += self._admission.tasks()
        return [task for task in tasks if not task.done()]

    def _close_source(self) -> None:
        if self._discard_item is not None:
            left = () if self._admission is None else self._admission.waiting()
            for item in (*(job[1] for job in left), *self._feed.rest()):
                self._discard_item(item)
        try:
            self._feed.close()
        except BaseException as error:
            self._note(error, None)

    def _discard(self, item: Any) -> None:
        """An item that was pulled will never be called."""
        if self._discard_item is not None:
            self._discard_item(item)

    def _report(self, reporter: Reporter, failed: bool) -> None:
        try:
            reporter.advanced(failed=failed)
        except BaseException as error:
            self._stop(error)


def _caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def _is_running(task: "asyncio.Task[Any]") -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False
