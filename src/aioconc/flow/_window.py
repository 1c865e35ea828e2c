"""The one bounded in-flight engine, under every map and gather of aioconc.

A few worker tasks pull items and await the call for each, so an item costs no task, no queue and
no semaphore, and no more than `limit` calls are ever in flight. The window guarantees that every
started call has ended before it closes, that the source is closed once, and that each item yields
exactly one outcome. Which job comes next is left to the intake, what the end of a call means to the
outcomes, and order, delivery and results to the sink.
"""

import asyncio
import gc
import math
import sys
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextvars import Context, copy_context
from operator import is_
from time import monotonic
from typing import Any, Final

from aioconc.flow._admission import Admission
from aioconc.flow._calls import OwnTasks, TimeLimit
from aioconc.flow._failures import UNCALLED, as_failure, is_exit
from aioconc.flow._intake import Intake
from aioconc.flow._outcomes import Outcomes, Policy, Sink
from aioconc.flow._progress import Reporter
from aioconc.flow._source import Job, is_destroyed
from aioconc.tasks._join import chain, join, wait_done
from aioconc.tasks._scope import adopt, raise_if_cancelled

# How long calls that never suspend may hold the loop before a worker yields, in seconds: short
# beside the 5-10 ms at which people notice, long beside the 2 us that a yield costs.
SLICE: Final = 0.001

# Before 3.13 `uncancel` did not take back a cancel that was not delivered yet: an item that cancels
# and uncancels its own task without suspending leaves one that would strike the next item.
CANCELS_MAY_LINGER: Final = sys.version_info < (3, 13)


# A worker's life:   (born with a job) -> calling -> [parked -> calling]* -> gone
# Rule 1: `_busy` is the number of jobs in the hands of workers, or on the way there; only `_give`
#         raises it, and only the one that had the job lowers it.
# Rule 2: a parked worker has its future in `_idle`; a future set with a job is no longer there.
# Rule 3: a worker that an item has left marks on (a context variable, a cancel request) hands its
#         next job to a new worker and is gone: marks never reach another item.
# Rule 4: once `_stopping`, no job is started, and every outcome that still arrives is dropped.
#         `_limit` is then 0, so that the workers need not ask twice.
# Rule 5: `_turn` is set only while a worker may take its next job at once: not `_stopping`, and
#         `_busy <= _limit`. One look at it is all that an item costs for both, and for the slice.
# Rule 6: no code of the user (source, key, retry, progress) runs inside another call of it: what
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
        "_busy",
        "_call",
        "_closed",
        "_context",
        "_discard_item",
        "_discarded",
        "_finished",
        "_handed_on",
        "_idle",
        "_intake",
        "_label",
        "_limit",
        "_loop",
        "_making",
        "_outcomes",
        "_own_tasks",
        "_policy",
        "_reporter",
        "_sink",
        "_slice_end",
        "_stopping",
        "_time_limit",
        "_turn",
        "_values",
        "_workers",
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
        self._loop = asyncio.get_running_loop()
        self._policy = policy
        self._limit = policy.limit
        self._label = label
        self._sink = sink
        self._reporter = reporter
        self._discard_item = discard
        self._outcomes = Outcomes(
            sink,
            policy,
            admission=admission,
            reporter=reporter,
            label=label,
            explain=explain,
            stop=self._stop,
        )
        self._intake = Intake(
            source,
            sink,
            limit=policy.limit,
            buffer=buffer,
            admission=admission,
            reporter=reporter,
            on_started=on_started,
            free_slots=lambda: self._limit - self._busy,
            on_ready=self.pump,
            on_refused=self._outcomes.failed,
            on_error=self._source_failed,
        )
        self._own_tasks: OwnTasks | None = None
        self._time_limit: TimeLimit | None = None
        if call is not None and policy.isolate == "task":
            self._own_tasks = OwnTasks(call, self._make_task, self._outcomes.misuse)
            call = self._own_tasks.call
        if call is not None and policy.timeout is not None:
            self._time_limit = TimeLimit(call, policy.timeout, label, self._outcomes.misuse)
            call = self._time_limit.call
        self._call = call
        self._busy = 0
        self._idle: list[asyncio.Future[Job | None]] = []
        # Worker -> its first job, until it has begun with it: a task that is cancelled before its
        # first step never runs, so such a worker is not cancelled but finds out by itself.
        self._workers: dict[asyncio.Task[None], list[Job]] = {}
        # True while a task is being made: an eager one runs already, and is in no set yet.
        self._making = False
        # Jobs for which no worker can be made yet, since one is being made.
        self._handed_on: deque[Job] = deque()
        # Stands for this pass of the loop, once a worker has looked at the slice in it.
        self._turn: object | None = None
        self._slice_end = 0.0
        self._stopping = False
        self._closed = False
        self._discarded: list[asyncio.Future[Any]] = []

    # ------------------------------------------------------------------ the owner's side

    def start(self) -> None:
        """Begin. From here on `finish` or `aclose` must be awaited, by the same task."""
        self._finished: asyncio.Future[None] = self._loop.create_future()
        # What each item sees: the owner's context, and its scopes for `effective_deadline`.
        self._context = copy_context()
        self._context.run(adopt, self._is_mine)
        self._values = list(self._context.values())
        try:
            raise_if_cancelled()
        except asyncio.CancelledError as error:
            self._stop(error)
        self._making = True
        try:
            self._intake.start(self._context)
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
            leaving = None
            self.forget()

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
            if failure is not None and is_exit(failure):
                raise failure  # KeyboardInterrupt and its kin go before anything else
            if cancelled is not None:
                if failure is not None and failure is not cancelled:
                    cancelled.add_note(f"also failed: {failure!r}")
                    chain(cancelled, failure)
                raise cancelled
        finally:
            cancelled = failure = leaving = None

    @property
    def failure(self) -> BaseException | None:
        """What ended the map, or None; raised by `finish`."""
        return self._outcomes.failures.first

    def forget(self) -> None:
        """Let go of what was raised. Breaks the circle: exception, frame, exception."""
        self._outcomes.failures.first = self._outcomes.misuse.error = None

    @property
    def limit(self) -> float:
        """Most calls in flight."""
        return self._policy.limit

    @limit.setter
    def limit(self, value: float) -> None:
        before, self._policy.limit = self._policy.limit, value
        if not self._stopping:
            self._limit = value
            if value < self._busy:
                self._turn = None
            self._intake.resize(before, value)
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
        self._intake.room += places
        # One worker first: if its calls return at once it uses all the room alone, and waking the
        # others would have cost more than the calls.
        self._hand_out(1)

    # ------------------------------------------------------------------ starting work

    def pump(self) -> None:
        """Hand out jobs while there are jobs and slots."""
        self._hand_out(math.inf)

    def _hand_out(self, most: float) -> None:
        """Hand out at most so many jobs now, then twice as many in the next pass of the loop."""
        given = 0
        slice_end = monotonic() + SLICE
        while self._busy < self._limit:
            if given and (given >= most or monotonic() > slice_end):
                self._loop.call_soon(self._hand_out, 2 * most)
                return
            try:
                job = self._intake.take()
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
        context = self._context.copy()
        first = [job]
        worker = self._make_task(self._work(first, context), context)
        self._workers[worker] = first
        worker.add_done_callback(self._gone)

    def _make_task(
        self, coro: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> "asyncio.Task[Any]":
        making, self._making = self._making, True
        try:
            return self._loop.create_task(coro, name=self._label, context=context)
        finally:
            self._making = making

    def _give_handed_on(self) -> None:
        if self._handed_on:
            job = self._handed_on.popleft()
            self._busy -= 1
            if self._stopping:
                self._discard(job[1])
            else:
                self._give(job)

    def _gone(self, worker: "asyncio.Task[None]") -> None:
        first = self._workers.pop(worker)
        if first:  # cancelled by somebody else before its first step
            self._busy -= 1
            self._discard(first[0][1])
            self._outcomes.failed(first[0], asyncio.CancelledError())
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self._stop(error)
        if not self._stopping:
            self.pump()

    def _check_finished(self) -> None:
        if not self._busy and not self._stopping and self._intake.ended:
            self._stop(None)

    def _is_mine(self, task: "asyncio.Task[Any]") -> bool:
        return (
            self._making
            or task in self._workers
            or (self._own_tasks is not None and task in self._own_tasks.tasks)
            or self._intake.reads_in(task)
        )

    # ------------------------------------------------------------------ a worker

    async def _work(self, first: list[Job], context: Context) -> None:
        too_late = self._stopping  # a name, or checkers would take it for settled below
        if too_late:
            self._busy -= 1
            self._discard(first.pop()[1])
            return
        # First the one job that it was handed, then what it can take itself.
        jobs: Iterator[Job] = iter((first.pop(),))
        handed = True
        call = self._call
        put, store, misuse = self._outcomes.put, self._outcomes.store, self._outcomes.misuse
        task: Any = asyncio.current_task()
        variables = len(self._values)
        untouched = _variables_of(context)
        referents = gc.get_referents
        # The turn in which this worker last looked at the slice: having looked in this one already
        # means that its call did not suspend.
        seen = self._turn
        aw = UNCALLED
        while True:
            used = tired = False
            try:
                for index, item in jobs:
                    try:
                        aw = item if call is None else call(item)
                        value = await aw
                    except BaseException as error:
                        if is_destroyed(error, task):
                            raise  # the loop is gone and this coroutine is being destroyed
                        self._outcomes.failed((index, item), misuse.explained(error, aw))
                    else:
                        if store is not None:
                            store[index] = value  # if it is too late, so is the list
                        elif not self._stopping:
                            put(index, value)
                    item = value = None  # or they would live until the next ones
                    aw = UNCALLED

                    # Rule 3, and what an item may leave behind.
                    if (
                        task.cancelling()
                        or (CANCELS_MAY_LINGER and task._must_cancel)
                        or (
                            referents(context).pop() is not untouched and self._changed(context)
                            if variables
                            else len(context)
                        )
                    ):
                        used = True
                        break

                    # Rule 5. Calls that never suspend must not starve the loop.
                    turn = self._turn
                    if turn is None:
                        if not self._begin_turn():
                            break
                        turn = self._turn
                    elif turn is seen and monotonic() > self._slice_end:
                        tired = True
                        break
                    seen = turn
                else:
                    if handed:
                        handed = False
                        jobs = self._intake.jobs or iter(self._intake.take, None)
                        continue
            except BaseException as error:  # of the source: an item's own is caught above
                if is_destroyed(error, task):
                    raise
                self._source_failed(error)

            if tired:
                await self._breathe()
                seen = self._turn
                if self._busy <= self._limit:
                    continue
            self._busy -= 1
            if used:
                self._hand_out(1)
                return
            if not self._busy:
                self._check_finished()
            if self._stopping or self._intake.ended:
                return
            job = await self._park()
            if job is None:
                return
            jobs, job, handed = iter((job,)), None, True

    def _begin_turn(self) -> bool:
        """Whether a worker may take its next job; marks this pass of the loop if so.

        The mark lies until the next pass. If a worker that has seen it sees it again, it has not
        suspended; if it still lies there after SLICE, the loop has not moved.
        """
        if self._busy > self._limit:
            return False
        self._turn = object()
        self._slice_end = monotonic() + SLICE
        self._loop.call_soon(self._end_turn)
        return True

    def _end_turn(self) -> None:
        self._turn = None

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
                    self._discard(job[1])
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

    def _source_failed(self, error: BaseException) -> None:
        """The source raised: nothing more will come from it, and the map ends with its error.

        With on_error="raise" the calls in flight are cancelled; otherwise they run to their end,
        since their items did not fail.
        """
        if self._stopping:
            if not isinstance(error, asyncio.CancelledError):
                self._outcomes.failures.add(error)
            return
        error = as_failure(error, f"the source of {self._label}")
        try:
            if self._policy.on_error == "raise" or not isinstance(error, Exception):
                self._stop(error)
            elif self.failure is None:
                self._outcomes.failures.first = error
                self._intake.end()
            else:
                self._outcomes.failures.add(error)
        finally:
            del error

    # ------------------------------------------------------------------ the end

    def _stop(self, error: BaseException | None) -> None:
        """Let nothing start any more and cancel what runs. The first call counts."""
        if self._stopping:
            if error is not None and is_exit(error) and not isinstance(error, GeneratorExit):
                if self.failure is not None:
                    self._outcomes.failures.add(error)
            return
        self._stopping = self._outcomes.late = True
        self._limit = 0
        self._turn = None
        if self.failure is None:
            self._outcomes.failures.first = error
        if self._time_limit is not None:
            self._time_limit.stop()
        self._intake.stop()
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
                self._outcomes.failures.add(broken)

    def _running(self) -> list["asyncio.Task[Any]"]:
        return [task for task in (*self._workers, *self._intake.tasks()) if not task.done()]

    def _close_source(self) -> None:
        if self._discard_item is not None:
            for item in (*(item for _, item in self._handed_on), *self._intake.left()):
                self._discard(item)
        self._handed_on.clear()
        try:
            self._intake.close()
        except BaseException as error:
            self._outcomes.failures.add(error)

    def _discard(self, item: Any) -> None:
        """The item was read and will never be called."""
        if self._discard_item is not None and (future := self._discard_item(item)) is not None:
            self._discarded.append(future)

    def _look_at_discarded(self) -> None:
        for future in self._discarded:
            if not future.cancelled() and (error := future.exception()) is not None:
                self._outcomes.failures.add(error)
        self._discarded.clear()


def _newest(
    newer: asyncio.CancelledError | None, older: asyncio.CancelledError | None
) -> asyncio.CancelledError | None:
    if newer is None:
        return older
    chain(newer, older)
    return newer


def _variables_of(context: Context) -> object | None:
    """The map that holds the variables of a context, or None if this Python does not show it.

    Setting a variable gives a context another map: the same map means that nothing was set. One
    look at it costs a third of comparing the values.
    """
    last = (gc.get_referents(context) or [None])[-1]
    return last if type(last).__name__ == "hamt" else None
