"""The one bounded in-flight engine, under every map and gather of aioconc.

A few worker tasks pull items and await the call for each, so an item costs no task, no queue and
no semaphore, and no more than `limit` calls are ever in flight. The window guarantees that every
started call has ended before it closes, that the source is closed once, and that each item yields
exactly one outcome. Order, delivery and results are left to the sink it is given.
"""

import asyncio
import gc
import inspect
import math
import sys
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass
from operator import is_
from time import monotonic
from typing import Any, Final, Literal, Protocol

from aioconc._internal import _hooks
from aioconc.errors import TaskCancelled
from aioconc.flow._admission import Admission
from aioconc.flow._progress import Reporter
from aioconc.flow._source import AsyncFeed, Job, SyncFeed, is_destroyed
from aioconc.tasks._join import chain, join, wait_done
from aioconc.tasks._scope import adopt, raise_if_cancelled

OnError = Literal["raise", "return", "skip"]
RetryHook = Callable[[int, Exception], float | None]

# How long calls that never suspend may hold the loop before a worker yields, in seconds: short
# beside the 5-10 ms at which people notice, long beside the 2 us that a yield costs.
SLICE: Final = 0.001

# At most so many further failures are added to the first one as notes; all are emitted as events.
MOST_NOTES: Final = 20

# Before 3.13 `uncancel` did not take back a cancel that was not delivered yet: an item that cancels
# and uncancels its own task without suspending leaves one that would strike the next item.
CANCELS_MAY_LINGER: Final = sys.version_info < (3, 13)


class Skipped:
    """Stands in for the result of an item that `on_error="skip"` drops."""


SKIPPED: Final = Skipped()


class Sink(Protocol):
    """Where outcomes go. Called synchronously by the window, once for each item pulled."""

    @property
    def put(self) -> Callable[[int, Any], object]:
        """Takes the index of an item and its result."""
        ...

    def indexes(self) -> Iterator[int]:
        """0, 1, 2, ...: numbers for the items. Each is taken before its item is pulled."""
        ...

    def head(self) -> int:
        """The item whose result the reader takes next; -1: it takes any."""
        ...

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
# Rule 1: `_busy` is the number of jobs in the hands of workers, or on the way there; only `_give`
#         raises it, and only the one that had the job lowers it.
# Rule 2: a parked worker has its future in `_idle`; a future set with a job is no longer there.
# Rule 3: a worker that an item has left marks on (a context variable, a cancel request) hands its
#         next job to a new worker and is gone: marks never reach another item.
# Rule 4: once `_stopping`, no job is started, and every outcome that still arrives is dropped.
#         `_limit` is then 0, so that the workers need not ask twice.
# Rule 5: no code of the user (source, key, retry, progress) runs inside another call of it: what
#         it changes, such as the limit, takes effect in a later callback.
class Window:
    """Runs `call(item)` for the items of `source`, at most `policy.limit` at once.

    Args:
        call: async function of one item; None where the items are the awaitables.
        source: items, sync or async; read only as fast as calls start.
        sink: gets the outcomes.
        policy: limits and what to do with failures.
        buffer: results that may wait for the reader beside `policy.limit` calls in flight; inf
            where nobody reads along.
        admission: decides which item may start now, when keys, rates or retries are in play.
        reporter: progress reporter.
        on_started: called once for each item that starts.
        label: the user's function, as it is named in errors and task names.
        explain: makes the error for what `call` returned and cannot be awaited.
        discard: called with each item that exists and will never be called; gives a future that
            must be waited for, or None.
    """

    __slots__ = (
        "__weakref__",
        "_admission",
        "_attempts",
        "_buffer",
        "_busy",
        "_call",
        "_children",
        "_closed",
        "_context",
        "_deadlines",
        "_discard_item",
        "_discarded",
        "_explain",
        "_feed",
        "_finished",
        "_fn",
        "_handed_on",
        "_idle",
        "_label",
        "_later_failures",
        "_limit",
        "_loop",
        "_making",
        "_marked",
        "_misuse",
        "_next_job",
        "_passes",
        "_policy",
        "_pull",
        "_put",
        "_reporter",
        "_room",
        "_sink",
        "_slice_end",
        "_stopping",
        "_store",
        "_timed_out",
        "_timer",
        "_values",
        "_workers",
        "failure",
    )

    def __init__(
        self,
        call: Callable[[Any], Awaitable[Any]] | None,
        source: Iterable[Any] | AsyncIterable[Any],
        sink: Sink,
        policy: Policy,
        *,
        buffer: float,
        admission: Admission | None,
        reporter: Reporter | None,
        on_started: Callable[[], None] | None,
        label: str,
        explain: Callable[[Any], TypeError],
        discard: Callable[[Any], "asyncio.Future[Any] | None"] | None = None,
    ) -> None:
        self._call = self._in_own_task if policy.isolate == "task" else call
        self._fn = call
        self._put = sink.put
        # A list that a result can go into by index, where the sink has one: no call for an item.
        self._store: list[Any] | None = getattr(sink, "store", None)
        self._sink = sink
        self._policy = policy
        self._limit = policy.limit
        self._buffer = buffer
        self._reporter = reporter
        self._label = label
        self._explain = explain
        self._discard_item = discard
        self._discarded: list[asyncio.Future[Any]] = []
        if isinstance(source, AsyncIterable):
            self._feed: SyncFeed | AsyncFeed = AsyncFeed(
                source,
                sink.indexes(),
                wanted=self._wants_item,
                on_item=self.pump,
                on_error=self._source_failed,
            )
        else:
            self._feed = SyncFeed(source, sink.indexes())
        self._pull = self._feed.pull
        # Items that may still start before one is delivered. Negative when the limit was lowered.
        self._room = _capacity(policy.limit, buffer)
        self._admission = admission
        self._next_job: Callable[[], Job | None]
        if admission is not None:
            self._next_job = self._take_admitted
        elif buffer != math.inf:
            self._next_job = self._take
        else:
            self._next_job = self._pull
        starts: list[Callable[[], None]] = [] if reporter is None else [reporter.started]
        starts += [] if on_started is None else [on_started]
        if starts:
            self._next_job = self._counting(self._next_job, starts)
        self._busy = 0
        self._idle: list[asyncio.Future[Job | None]] = []
        # Worker -> its first job, until it has begun with it: a task that is cancelled before its
        # first step never runs, so such a worker is not cancelled but finds out by itself.
        self._workers: dict[asyncio.Task[None], list[Job]] = {}
        # Tasks of calls, with isolate="task".
        self._children: set[asyncio.Task[Any]] = set()
        # True while a task is being made: an eager one runs already, and is in no set yet.
        self._making = False
        # Jobs for which no worker can be made yet, since one is being made.
        self._handed_on: deque[Job] = deque()
        # Task of a call in flight -> when it times out; in order of starting, hence of expiry,
        # so that one timer serves all.
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._timed_out: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._marked = False
        self._passes = 0
        self._slice_end = 0.0
        self._stopping = False
        self._closed = False
        # The exception to raise at the end, and how many came after it.
        self.failure: BaseException | None = None
        self._later_failures = 0
        # An error of the program, not of an item: no policy covers it.
        self._misuse: TypeError | None = None
        # Item that failed and is to be tried again -> attempts so far.
        self._attempts: dict[int, int] = {}

    # ------------------------------------------------------------------ the owner's side

    def start(self) -> None:
        """Begin. From here on `finish` or `aclose` must be awaited, by the same task."""
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        # What each item sees: the owner's context, and its scopes for `effective_deadline`.
        self._context = copy_context()
        self._context.run(adopt, self._is_mine)
        self._values = list(self._context.values())
        if self._admission is not None:
            self._admission.bind(
                pull=self._pull,
                pump=self.pump,
                free_slots=lambda: self._limit - self._busy,
                room=lambda: self._room,
                may_overdraw=lambda index: index in self._attempts or index == self._sink.head(),
                item_failed=self._item_refused,
                context=self._context,
            )
        try:
            raise_if_cancelled()
        except asyncio.CancelledError as error:
            self._stop(error)
        self._making = True
        try:
            self._feed.start(self._context.copy())
        finally:
            self._making = False
        self.pump()

    async def finish(self) -> None:
        """Wait until every item has its outcome, or one failed for all; then close.

        Cancellation:
            Cancels all calls, waits for them, and is raised.
        """
        leaving = self.failure
        try:
            try:
                await wait_done(self._finished)
            except asyncio.CancelledError as error:
                leaving = error
            await self.aclose(leaving)
            if self.failure is not None:
                raise self.failure
        finally:
            self.failure = self._misuse = leaving = (
                None  # break the circle: exception, frame, exception
            )

    async def aclose(self, leaving: BaseException | None = None) -> None:
        """Stop what runs, wait for it and close the source. Harmless when repeated.

        Args:
            leaving: the exception that is on its way out; it is raised again if it is a
                `CancelledError`, and errors of the clean-up are noted on it.

        Cancellation:
            Arrives after everything has ended.
        """
        cancelled = leaving if isinstance(leaving, asyncio.CancelledError) else None
        failure: BaseException | None = None
        try:
            self._stop(leaving)
            while running := self._running():
                cancelled = _newest(await join(*running), cancelled)
            if not self._closed:
                self._closed = True
                self._close_source()
                cancelled = _newest(await join(*self._discarded), cancelled)
                self._look_at_discarded()
            failure = self.failure
            if failure is leaving:
                failure = None
            if failure is not None and not isinstance(failure, (Exception, asyncio.CancelledError)):
                raise failure  # KeyboardInterrupt and its kin go before anything else
            if cancelled is not None:
                if failure is not None and failure is not cancelled:
                    cancelled.add_note(f"also failed: {failure!r}")
                    chain(cancelled, failure)
                raise cancelled
        finally:
            cancelled = failure = leaving = None

    @property
    def limit(self) -> float:
        """Most calls in flight."""
        return self._policy.limit

    @limit.setter
    def limit(self, value: float) -> None:
        before, self._policy.limit = self._policy.limit, value
        if not self._stopping:
            self._limit = value
            if self._buffer != math.inf:
                self._room += _capacity(value, self._buffer) - _capacity(before, self._buffer)
            self._loop.call_soon(self.pump)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop it runs on."""
        return self._loop

    @property
    def finished(self) -> bool:
        """Whether nothing more will be started or put."""
        return self._finished.done()

    @property
    def in_flight(self) -> int:
        """Calls in flight."""
        return self._busy

    def delivered(self, places: int) -> None:
        """The reader has taken so many results: make as much room, and start what can start."""
        self._room += places
        # One worker first: if its calls return at once it uses all the room alone, and waking the
        # others would have cost more than the calls.
        self._hand_out(1)

    # ------------------------------------------------------------------ starting work

    def _wants_item(self) -> bool:
        return self._busy < self._limit and self._room > 0

    def _take(self) -> Job | None:
        """The next job from the source, if there is room for it and it can be had now."""
        if self._room <= 0:
            return None
        job = self._pull()
        if job is not None:
            self._room -= 1
        return job

    def _take_admitted(self) -> Job | None:
        assert self._admission is not None
        job = self._admission.take()
        if job is not None and job[0] not in self._attempts:
            self._room -= 1
        return job

    def _counting(
        self, take: Callable[[], Job | None], starts: list[Callable[[], None]]
    ) -> Callable[[], Job | None]:
        def next_job() -> Job | None:
            job = take()
            if job is not None and job[0] not in self._attempts:
                for started in starts:
                    started()
            return job

        return next_job

    def pump(self) -> None:
        """Hand out jobs while there are jobs and slots."""
        self._hand_out(math.inf)

    def _hand_out(self, most: float) -> None:
        """Hand out at most so many jobs now, then twice as many in the next pass of the loop."""
        given = 0
        slice_end = monotonic() + SLICE
        while self._busy < self._limit:
            if given >= most or monotonic() > slice_end:
                self._loop.call_soon(self._hand_out, 2 * most)
                return
            try:
                job = self._next_job()
            except BaseException as error:
                self._source_failed(error)
                break
            if job is None:
                break
            self._give(job)
            given += 1
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
        if self._making:
            # A worker that starts eagerly, and is to be replaced already. Made from here, each
            # would stand on the stack of the one before.
            self._handed_on.append(job)
            self._loop.call_soon(self._give_handed_on)
            return
        # A new context for each worker; one for each item would double the cost of an item.
        first = [job]
        self._making = True
        try:
            worker = self._loop.create_task(
                self._work(first, context := self._context.copy()),
                name=self._label,
                context=context,
            )
        finally:
            self._making = False
        self._workers[worker] = first
        worker.add_done_callback(self._gone)

    def _give_handed_on(self) -> None:
        if self._handed_on:
            job = self._handed_on.popleft()
            self._busy -= 1
            if self._stopping:
                self._discard(job)
            else:
                self._give(job)

    def _gone(self, worker: "asyncio.Task[None]") -> None:
        first = self._workers.pop(worker)
        if first:  # cancelled by somebody else before its first step
            self._busy -= 1
            self._discard(first[0])
            self._item_failed(first[0], asyncio.CancelledError())
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self._stop(error)
        if not self._stopping:
            self.pump()

    def _check_finished(self) -> None:
        if not self._busy and not self._stopping and not self._may_get_more():
            self._stop(None)

    def _may_get_more(self) -> bool:
        return not self._feed.exhausted or (
            self._admission is not None and self._admission.pending > 0
        )

    def _is_mine(self, task: "asyncio.Task[Any]") -> bool:
        return (
            self._making
            or task in self._workers
            or task in self._children
            or task in self._feed.tasks()
        )

    # ------------------------------------------------------------------ a worker

    async def _work(self, first: list[Job], context: Context) -> None:
        too_late = self._stopping  # a name, or checkers would take it for settled below
        if too_late:
            self._busy -= 1
            self._discard(first.pop())
            return
        job: Job | None = first.pop()
        call = self._call
        put = self._put
        store = self._store
        next_job = self._next_job
        variables = len(self._values)
        admission = self._admission
        reporter = self._reporter
        timeout = self._policy.timeout
        plain = timeout is None and admission is None and reporter is None
        task: Any = asyncio.current_task()
        cancelling = task.cancelling
        # Setting a variable gives a context another map: the same map means that nothing was set.
        # One look at it costs a third of comparing the values. On a Python where it is not the
        # last thing a context refers to, the comparison decides every time.
        referents = gc.get_referents
        untouched = (referents(context) or [None])[-1]
        if type(untouched).__name__ != "hamt":
            untouched = None
        # The pass of the loop in which this worker last looked at the slice: having looked in this
        # one already means that its call did not suspend.
        seen = self._passes if self._marked else -1

        while job is not None:
            index, item = job
            if timeout is not None:
                self._start_clock(task, timeout)
            aw: Any = job
            try:
                aw = item if call is None else call(item)
                value = await aw
            except BaseException as error:
                if is_destroyed(error, task):
                    raise  # the loop is gone and this coroutine is being destroyed
                if isinstance(error, TypeError) and aw is not job:
                    error = self._misuse_of(aw, error) or error
                if timeout is not None:
                    error = self._stop_clock(task, item, error) or error
                self._item_failed(job, error)
            else:
                if self._stopping:
                    self._busy -= 1
                    return
                if plain:
                    if store is None:
                        put(index, value)
                    else:
                        store[index] = value
                elif timeout is not None and self._stop_clock(task, item, None):
                    self._item_failed(job, self._too_late(item, None))
                else:
                    put(index, value)
                    self._settled(job, failed=False)
            item = aw = value = job = None

            # Rule 3, and what an item may leave behind.
            used = cancelling() != 0 or (CANCELS_MAY_LINGER and task._must_cancel)
            if not used:
                used = (
                    referents(context)[-1] is not untouched and self._changed(context)
                    if variables
                    else len(context) != 0
                )

            may_go_on = self._busy <= self._limit
            if may_go_on:
                # Calls that never suspend must not starve the loop. The mark is laid once in each
                # pass of the loop; if it still lies there after SLICE, the loop has not moved.
                if seen != self._passes:
                    seen = self._passes
                    if not self._marked:
                        self._marked = True
                        self._slice_end = monotonic() + SLICE
                        self._loop.call_soon(self._unmark)
                elif monotonic() > self._slice_end and not used:
                    await self._breathe()
                    seen = self._passes if self._marked else -1
                    may_go_on = self._busy <= self._limit
            if may_go_on:
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
                if used or self._stopping or not self._may_get_more():
                    return
                job = await self._park()

    def _changed(self, context: Context) -> bool:
        values = self._values
        return len(context) != len(values) or not all(map(is_, context.values(), values))

    async def _park(self) -> Job | None:
        """Wait for a job; None: there will be none."""
        parked: asyncio.Future[Job | None] = self._loop.create_future()
        self._idle.append(parked)
        try:
            return await parked
        except asyncio.CancelledError:
            # Cancelled in the tick in which the job came: pass it on.
            if parked.done() and not parked.cancelled() and (job := parked.result()) is not None:
                self._busy -= 1
                if self._stopping:
                    self._discard(job)
                else:
                    self._give(job)
            raise

    async def _breathe(self) -> None:
        """Let the loop do other work once."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._busy -= 1  # if somebody else did it: `_gone` lets another worker take over
            raise

    def _unmark(self) -> None:
        self._marked = False
        self._passes += 1

    async def _in_own_task(self, item: Any) -> Any:
        """`isolate="task"`: awaiting a task forwards a cancellation to it and waits for its end."""
        making, self._making = self._making, True
        try:
            child = self._loop.create_task(self._awaited(item), name=self._label)
        finally:
            self._making = making
        self._children.add(child)
        child.add_done_callback(self._children.discard)
        return await child

    async def _awaited(self, item: Any) -> Any:
        assert self._fn is not None
        aw = self._fn(item)
        try:
            return await aw
        except TypeError as error:
            raise self._misuse_of(aw, error) or error from None

    def _misuse_of(self, aw: Any, error: TypeError) -> TypeError | None:
        """The explanation, if `error` says no more than that `aw` cannot be awaited."""
        traceback = error.__traceback__
        if traceback is None or traceback.tb_next is not None or inspect.isawaitable(aw):
            return None
        self._misuse = self._explain(aw)
        return self._misuse

    def _settled(self, job: Job, *, failed: bool) -> None:
        """The item has its outcome: tell those who count."""
        self._attempts.pop(job[0], None)
        if self._admission is not None:
            self._admission.finished(job)
        if self._reporter is not None:
            try:
                self._reporter.advanced(failed=int(failed))
            except BaseException as error:
                self._stop(error)

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
        return self._too_late(item, error)

    def _too_late(self, item: Any, cause: BaseException | None) -> TimeoutError:
        late = TimeoutError(f"{self._call_of(item)} not done within {self._policy.timeout:g} s")
        late.__cause__ = cause
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
        cancelled = isinstance(error, asyncio.CancelledError)
        if self._stopping:
            if not cancelled:
                self._note(error, index)
            return
        if cancelled:
            # Nobody cancelled the map, so this is the item's own affair.
            error = _caused(TaskCancelled(f"{self._call_of(item)} was cancelled"), error)
        elif isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit)):
            # Would end the reader's loop, or an iterator on the way, instead of being an error.
            what = f"{self._call_of(item)} raised {type(error).__name__}"
            error = _caused(RuntimeError(what), error)
        try:
            if not isinstance(error, Exception) or error is self._misuse:
                self._stop(error)
                return
            # A cancellation is never retried: whoever asked for it wants the work to end.
            if not cancelled and self._policy.retry is not None and self._retries(job, error):
                return
            if _hooks.listeners:
                _hooks.emit("map.item_failed", label=self._label, index=index, error=error)
            if self._policy.on_error == "raise":
                self._settled(job, failed=True)
                self._stop(error)
                if self.failure is not error:  # the progress function raised, too
                    self._note(error, index)
                return
            self._put(index, error if self._policy.on_error == "return" else SKIPPED)
            self._settled(job, failed=True)
        finally:
            del error

    def _item_refused(self, job: Job, error: BaseException) -> None:
        """An item whose key or rate could not be had: it fails without having started."""
        if job[0] not in self._attempts:
            self._room -= 1
            if self._reporter is not None:
                self._reporter.started()
        self._item_failed(job, error)

    def _retries(self, job: Job, error: Exception) -> bool:
        """Whether the retry hook wants another attempt, or fails; the item is then dealt with."""
        assert self._policy.retry is not None
        assert self._admission is not None
        index = job[0]
        attempt = self._attempts.get(index, 0) + 1
        try:
            delay = _checked_delay(self._policy.retry(attempt, error))
        except BaseException as broken:
            self._stop(broken)
            return True
        if delay is None:
            return False
        self._attempts[index] = attempt
        if _hooks.listeners:
            _hooks.emit(
                "map.item_retried", label=self._label, index=index, error=error, delay=delay
            )
        if self._reporter is not None:
            self._reporter.retried()
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
        elif isinstance(error, (StopIteration, StopAsyncIteration, GeneratorExit)):
            what = f"the source of {self._label} raised {type(error).__name__}"
            error = _caused(RuntimeError(what), error)
        try:
            if self._policy.on_error == "raise" or not isinstance(error, Exception):
                self._stop(error)
            elif self.failure is None:
                self.failure = error
                self._feed.exhausted = True
            else:
                self._note(error, None)
        finally:
            del error

    def _note(self, error: BaseException, index: int | None) -> None:
        """Keep a failure that came while the map was already ending."""
        if _hooks.listeners:
            _hooks.emit("map.late_failure", label=self._label, index=index, error=error)
        is_exit = not isinstance(error, Exception)
        if index is not None and self._policy.on_error != "raise" and not is_exit:
            return  # was to become a result, of which there are no more
        first = self.failure
        if first is error:
            return
        if first is None:
            self.failure = error
            return
        if is_exit and isinstance(first, (Exception, asyncio.CancelledError)):
            # KeyboardInterrupt and its kin are raised, whatever came before them.
            self.failure, first, error, index = error, error, first, None
            where = "before it"
        else:
            where = "in the source" if index is None else f"at item {index}"
        self._later_failures += 1
        if self._later_failures <= MOST_NOTES:
            first.add_note(f"also failed, {where}: {error!r}")
        elif self._later_failures == MOST_NOTES + 1:
            first.add_note("and more; every failure is emitted as an event")

    def _call_of(self, item: Any) -> str:
        try:
            return f"{self._label}({item!r:.80})"
        except Exception:  # a repr that fails must not replace the failure it describes
            return f"{self._label}(...)"

    # ------------------------------------------------------------------ the end

    def _stop(self, error: BaseException | None) -> None:
        """Let nothing start any more and cancel what runs. The first call counts."""
        if self._stopping:
            if error is not None and error is not self.failure and self.failure is not None:
                if not isinstance(error, (Exception, asyncio.CancelledError, GeneratorExit)):
                    self._note(error, None)
            return
        self._stopping = True
        self._limit = 0
        if self.failure is None:
            self.failure = error
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
        for worker, first in [*self._workers.items()]:
            if worker is not current and not first and not worker.done():
                worker.cancel()
        self._sink.ended()
        if not self._finished.done():
            self._finished.set_result(None)
        if self._reporter is not None:
            try:
                self._reporter.close()
            except BaseException as broken:
                self._note(broken, None)

    def _running(self) -> list["asyncio.Task[Any]"]:
        tasks: list[asyncio.Task[Any]] = [*self._workers, *self._feed.tasks()]
        if self._admission is not None:
            tasks += self._admission.tasks()
        return [task for task in tasks if not task.done()]

    def _close_source(self) -> None:
        if self._discard_item is not None:
            left = () if self._admission is None else self._admission.waiting()
            for job in (*self._handed_on, *left):
                self._discard(job)
            for item in self._feed.rest():
                self._discard((-1, item))
        self._handed_on.clear()
        try:
            self._feed.close()
        except BaseException as error:
            self._note(error, None)

    def _discard(self, job: Job) -> None:
        """The item was read and will never be called."""
        if self._discard_item is not None and (future := self._discard_item(job[1])) is not None:
            self._discarded.append(future)

    def _look_at_discarded(self) -> None:
        for future in self._discarded:
            if not future.cancelled() and (error := future.exception()) is not None:
                self._note(error, None)
        self._discarded.clear()


def _capacity(limit: float, buffer: float) -> float:
    """Items that may have started and not been delivered."""
    # With no limit, the buffer alone bounds what runs ahead of the reader.
    return max(1, buffer if limit == math.inf else limit + buffer)


def _newest(
    newer: asyncio.CancelledError | None, older: asyncio.CancelledError | None
) -> asyncio.CancelledError | None:
    if newer is None:
        return older
    chain(newer, older)
    return newer


def _caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def _checked_delay(delay: Any) -> float | None:
    """What a retry hook returned, if it makes sense."""
    if delay is None:
        return None
    rule = "retry must return seconds >= 0 to wait before the next attempt, or None to give up"
    if inspect.iscoroutine(delay):
        delay.close()
        raise TypeError(f"{rule}, got a coroutine; make it a plain function")
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise TypeError(f"{rule}, got {delay!r}")
    if not 0 <= delay < math.inf:
        raise ValueError(f"{rule}, got {delay!r}")
    return float(delay)
