"""One call on its way through a pool: to a worker, through it, and back to the loop.

Exactly one side gets a call: the worker that starts it or the caller that withdraws it. The
outcome crosses back through the loop's mailbox, so a call belongs to the loop that made it while
the pool belongs to none. Queueing and the number of workers are left to the pool.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Self

from aioconc._bridge._credits import Credits
from aioconc._bridge._loop_calls import LoopCalls
from aioconc._bridge._mailbox import mailbox_of
from aioconc._internal import _hooks
from aioconc.errors import ExecutorClosed, TaskCancelled, WorkerExit, WorkerTimeout
from aioconc.executors._callables import name_of
from aioconc.executors._options import CallOptions
from aioconc.tasks._join import join
from aioconc.worker._link import Cancelled, Link
from aioconc.worker._place import set_link

_log = logging.getLogger("aioconc.executors")

# How many reports may be on their way to the loop before the worker waits: enough that a worker
# that reports in bursts does not wait for each turn of the loop.
_REPORTS_UNREAD = 256


class Job:
    """What the pool keeps of a call: who has it, and whether anybody still wants it."""

    # Job life:  queued -> running -> finished
    #                \-> withdrawn        \-> (while running) abandoned -> finished
    # Rule 1: `_ticket` is taken once, by the worker that starts the job or by the one who
    #         withdraws it. list.pop is atomic, so neither needs a lock.
    # Rule 2: `finished` and `abandoned` change under the pool's lock only.
    # What most jobs never change is set here, once, and not in each of them.
    finished = False
    abandoned = False
    pool_name = ""
    priority = 0
    timeout: float | None = None
    value: Any = None
    error: BaseException | None = None
    # The pool gave it up; whatever its worker says afterwards is too late.
    refusal: Exception | None = None
    # Function and arguments in pickled form, where the worker shares no memory with us.
    data: bytes | None = None
    # Large buffers and descriptors that are sent with it; let go as soon as it is not sent any
    # more, since the traceback of an error may keep the job.
    cargo: Any = None
    # What the pool underneath made of the job, where there is such a pool.
    future: Future[Any] | None = None
    # What is run in this process, until it has begun.
    fn: Callable[..., Any]
    args: Any
    kwargs: Mapping[str, Any]

    def __init__(self, fn: Callable[..., Any], name: str | None) -> None:
        self._ticket = [None]
        self.label = name or getattr(fn, "__qualname__", None) or name_of(fn)

    def hold(self, fn: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Self:
        """Keep what is to be run here."""
        self.fn, self.args, self.kwargs = fn, args, kwargs
        return self

    def claim(self) -> bool:
        """True for the one who gets the job."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def unclaim(self) -> None:
        """Its worker died before it began: another may claim it."""
        self._ticket.append(None)

    def start(self) -> bool:
        """Claim it for a worker, which must then run it."""
        return self.claim()

    def describe(self) -> tuple[str, str, int]:
        return self.pool_name, self.label, 1

    def execute(self) -> bool | None:
        """Run it in this thread: did it end with a value? None: it was withdrawn before."""
        raise NotImplementedError

    def post(self) -> None:
        """Hand the outcome to whoever waits. Called after the pool has counted the job as over."""
        raise NotImplementedError

    def refuse(self, error: Exception) -> None:
        """The pool will not run it; called by the one who claimed it."""
        raise NotImplementedError

    def ask(self) -> None:
        """Ask running work to stop."""

    def begin_clock(self) -> None:
        """A worker has it: a time limit counts from now."""


class Call(Job, Link):
    """A call that a task awaits."""

    # Why it is ended before its time, when it has expired.
    reason = "timeout"

    # Whether the function runs in the context of its caller.
    carries_context = True

    # As in `Job`: what most calls never change.
    # Both made when the function first uses them.
    reports: Credits | None = None
    loop_calls: LoopCalls | None = None
    attempt = 1
    # The outcome is here; set in the loop.
    ended = False
    # The time-out came first; set in the loop.
    expired = False
    # Its worker is being ended by force; set in the loop.
    killed = False
    # It had no worker in time and left the queue; set in the loop.
    given_up = False
    timer: asyncio.TimerHandle | None = None
    # Nobody wants the outcome any more; set in the loop, read by the worker.
    asked = False
    context: contextvars.Context | None = None

    def __init__(self, fn: Callable[..., Any], options: CallOptions) -> None:
        Job.__init__(self, fn, options.name)
        self.loop = loop = asyncio.get_running_loop()
        self.mailbox = mailbox_of(loop)
        self.waiter: asyncio.Future[None] = loop.create_future()
        if self.carries_context:
            self.context = contextvars.copy_context()
        self.on_report = options.on_report
        self.priority = options.priority
        self.timeout = options.timeout

    # -- in the worker's thread ---------------------------------------------------------------

    def start(self) -> bool:
        if not self.claim():
            return False
        if self.timeout is not None:
            self.mailbox.post(self.loop, self.begin_clock)
        return True

    def execute(self) -> bool | None:
        if not self.start():
            return None
        before = set_link(self)
        context, self.context = self.context, None
        assert context is not None
        try:
            self.value = context.run(self.fn, *self.args, **self.kwargs)
        except BaseException as error:  # contained here, judged by `take`
            self.error = error
            return False
        else:
            return True
        finally:
            set_link(before)
            del self.fn, self.args, self.kwargs

    def post(self) -> None:
        if not self.mailbox.post(self.loop, self.arrive) and not self.abandoned:
            _log.debug("the loop that awaited %s is closed; its outcome is dropped", self.label)

    def refuse(self, error: Exception) -> None:
        self.refusal = error
        self.post()

    # -- in the loop --------------------------------------------------------------------------

    def arrive(self) -> None:
        """The outcome is here."""
        self.ended = True
        if not self.waiter.done():
            self.waiter.set_result(None)

    def too_late(self) -> Exception:
        """What a call whose time was over raises."""
        assert self.timeout is not None
        return WorkerTimeout(
            f"{self.label} had not ended {self.timeout} s after it began",
            phase="run",
            seconds=self.timeout,
        )

    def begin_clock(self) -> None:
        """The time-out counts from now."""
        if self.timeout is not None and self.timer is None and not self.waiter.done():
            self.timer = self.loop.call_later(self.timeout, self.expire)

    def stop_clock(self) -> None:
        """The call is over, or being ended."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def expire(self) -> None:
        """The time-out has passed; whichever of the two resolved the waiter first, counts."""
        if not self.waiter.done():
            self.expired = True
            self.waiter.set_result(None)

    def ask(self) -> None:
        self.asked = True  # before the two are told, who look at it then
        if self.reports is not None:
            self.reports.give_back()
        if self.loop_calls is not None:
            self.loop_calls.cancel()

    def take(self) -> Any:
        """The value, or raise the error."""
        error = self.refusal or self.error
        if error is None:
            return self.value
        self.refusal = self.error = None
        try:
            if self.asked and isinstance(error, Cancelled):
                raise ExecutorClosed(
                    f"{self.pool_name} was closed with cancel=True while {self.label} ran"
                ) from error
            raise contained(error, self.label)
        finally:
            del error  # its traceback holds this frame

    # -- what the function may ask for through aioconc.worker ---------------------------------

    def describe(self) -> tuple[str, str, int]:
        return self.pool_name, self.label, self.attempt

    def check_cancelled(self) -> None:
        if self.asked:
            raise Cancelled(f"{self.label} is no longer wanted")

    def report(self, value: object) -> None:
        if self.on_report is None or self.asked:
            return
        unread = self.reports
        if unread is None:
            unread = self.reports = Credits(self.loop, _REPORTS_UNREAD)
        if not unread.take(lambda: self.asked):
            return

        def hand_over() -> None:
            unread.give_back()
            self.hear(value)

        self.mailbox.post(self.loop, hand_over)

    def hear(self, value: object) -> None:
        """In the loop: give a report to the one who listens."""
        assert self.on_report is not None
        try:
            self.on_report(value)
        except Exception as error:
            self.loop.call_exception_handler(
                {"message": f"on_report of {self.label} failed on {value!r}", "exception": error}
            )

    def call_in_loop(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        calls = self.loop_calls
        if calls is None:
            calls = self.loop_calls = LoopCalls(self.loop, self.mailbox, self.label, self._unwanted)
        return calls.call(fn, name_of(fn), args, kwargs)

    def _unwanted(self) -> Cancelled | None:
        return Cancelled(f"{self.label} is no longer wanted") if self.asked else None


async def join_call(
    call: Call, *, on_cancel: Callable[[asyncio.CancelledError], object] | None = None
) -> asyncio.CancelledError | None:
    """Wait until the call has ended, whatever happens; a cancellation that arrived meanwhile."""
    call.mailbox.awaited += 1
    try:
        return await join(call.waiter, on_cancel=on_cancel)
    finally:
        call.mailbox.awaited -= 1


def contained(error: BaseException, label: str) -> Exception:
    """The `Exception` that stands for an error which must not be raised in a task as it is."""
    made: Exception
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        # Raised in a coroutine or an iterator they would mean something else.
        made = RuntimeError(f"{label} raised {type(error).__name__}")
    elif isinstance(error, (asyncio.CancelledError, Cancelled)):
        made = TaskCancelled(f"{label} raised {type(error).__name__} though nobody cancelled it")
    elif isinstance(error, Exception):
        return error
    else:
        import traceback

        code = error.code if isinstance(error, SystemExit) else None
        shown = f"{type(error).__name__}({code if code is not None else error})"
        made = WorkerExit(
            f"{label} raised {shown} in a worker; it ended the call, not the program",
            type_name=type(error).__qualname__,
            traceback_text="".join(traceback.format_exception(error)),
            code=code,
        )
    made.__cause__ = error
    return made


def tell_cancelled(job: Call, executor: str, fate: str, reason: str) -> None:
    """Say what became of a cancelled call, and of an error that nobody will see."""
    error = job.error
    if _hooks.listeners:
        _hooks.emit(
            "call.cancelled",
            executor=executor,
            name=job.label,
            fate=fate,
            reason=reason,
            error=error,
        )
    if isinstance(error, Exception):
        _log.warning("%s (%s) failed after it was given up", job.label, executor, exc_info=error)
    job.error = job.value = None
