"""`GeventExecutor`: calls run in greenlets of a gevent hub that has a thread of its own.

Queue, books and fates are those of every pool; a worker is a greenlet, made for one call. Since
the greenlets share a thread, everything that waits for the loop waits the way gevent does, and the
functions of `aioconc.worker` find their call by the greenlet that runs.
"""

import asyncio
import concurrent.futures
import functools
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

from aioconc._bridge._service import service
from aioconc._internal._check import check_count
from aioconc.errors import ExecutorClosed
from aioconc.executors._base import Capabilities, Fate, Kind
from aioconc.executors._call import _REPORTS_UNREAD, Call, Job, join_call, tell_cancelled
from aioconc.executors._futures_face import FuturesFace
from aioconc.executors._options import CallOptions
from aioconc.executors._pool import Pool
from aioconc.executors._stream import Stream, StreamingExecutor, ThreadStream
from aioconc.executors.greenlets._gevent import Hub, HubCredits, HubLoopCalls, load_gevent
from aioconc.worker._link import Cancelled, Link
from aioconc.worker._place import set_link

T = TypeVar("T")

_names = itertools.count(1)

# Seconds that a generator may take to end after its reader left early, unless `grace` says
# otherwise; as for worker processes.
_GRACE = 5.0

GREENLETS = Capabilities(
    kill=True,
    soft=True,
    wait=True,
    abandon=True,
    stream=True,
    by_reference=True,
    context=True,
    report=True,
    check_cancelled=True,
    call_in_loop=True,
    cooperative=True,
)


class GreenletCall(Call):
    """A call that a greenlet runs and a task awaits."""

    __slots__ = ("pool",)

    def __init__(
        self, pool: "GeventPool", fn: Callable[..., Any], args: Any, kwargs: Any, options: Any
    ) -> None:
        super().__init__(fn, args, kwargs, options)
        self.pool = pool
        self.pool_name = pool.kind

    def execute(self) -> bool | None:
        if not self.start():
            return None
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
            del self.fn, self.args, self.kwargs

    def arrive(self) -> None:
        """The outcome is here; what the call started in the loop ends first."""
        if self.loop_calls is None:
            super().arrive()
        else:
            self.loop_calls.close(super().arrive)

    def report(self, value: object) -> None:
        if self.reports is None:
            self.reports = HubCredits(self.pool.open_hub(), self.loop, _REPORTS_UNREAD)
        super().report(value)

    def call_in_loop(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.loop_calls is None:
            calls = HubLoopCalls(self.loop, self.mailbox, self.label, self._unwanted)
            calls._hub = self.pool.open_hub()
            self.loop_calls = calls
        return super().call_in_loop(fn, args, kwargs)


class _HubLink(Link):
    """The link of the hub's thread: leads to the call of the greenlet that asks."""

    __slots__ = ("_pool",)

    def __init__(self, pool: "GeventPool") -> None:
        self._pool = pool

    def _call(self, what: str) -> Call:
        job = self._pool.job_here()
        if isinstance(job, Call):
            return job
        return self._refuse_outside(what)

    def _refuse_outside(self, what: str) -> NoReturn:
        raise RuntimeError(
            f"aioconc.worker.{what}() was called outside a call of an executor, in a greenlet of "
            f"thread {threading.current_thread().name!r}; call it from the function given to "
            "GeventExecutor.run, in the greenlet that runs it"
        )

    def describe(self) -> tuple[str, str, int]:
        return self._call("info").describe()

    def report(self, value: object) -> None:
        self._call("report").report(value)

    def check_cancelled(self) -> None:
        self._call("check_cancelled").check_cancelled()

    def call_in_loop(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return self._call("call_in_loop").call_in_loop(fn, args, kwargs)


class GeventPool(Pool):
    """Greenlets of one hub, which starts with the first call."""

    # Rule 4: `greenlets`, `jobs` and `struck` belong to the hub's thread. A job is in `greenlets`
    #         from its greenlet's first step to the end of its function, and `jobs` is the same the
    #         other way round. A greenlet serves one job, so that what strikes late strikes no other.
    # Rule 5: the hub ends when the pool is closing and no job is queued, running or abandoned;
    #         `over` is set then, or at once where an abandoned job may take its time.

    def __init__(self, kind: str, name: str | None, max_workers: int) -> None:
        super().__init__(kind, name or f"aioconc-gevent-{next(_names)}", max_workers)
        self.gevent = load_gevent()
        self.hub: Hub | None = None
        self._hub_guard = threading.Lock()
        self.greenlets: dict[Job, Any] = {}
        self.jobs: dict[Any, Job] = {}
        # Jobs whose greenlet was told to end.
        self.struck: set[Job] = set()

    def open_hub(self) -> Hub:
        """The hub, started if need be."""
        with self._hub_guard:
            if self.hub is None:

                def prepare() -> None:
                    set_link(_HubLink(self))

                self.hub = Hub(self.gevent, self.name, prepare, self.set_over)
            return self.hub

    def count_workers(self) -> int:
        return len(self.greenlets)

    # -- the life of a job --------------------------------------------------------------------

    def launch(self, job: Job) -> None:
        hub = self.open_hub()
        hub.post(functools.partial(hub.spawn, self._work, job))

    def _work(self, job: Job) -> None:
        """The life of one greenlet. But for the job's function, nothing in here waits."""
        assert self.hub is not None
        greenlet = self.hub.current()
        self.greenlets[job] = greenlet
        self.jobs[greenlet] = job
        good = job.execute()
        del self.greenlets[job], self.jobs[greenlet]
        self._judge(job)
        follower = self.finish(job, good)
        if follower is not None:
            self.launch(follower)
        if good is not None:
            job.post()
        if self.closing:
            self.check_over()
            self._end_if_idle()

    def _judge(self, job: Job) -> None:
        """What gevent's own exceptions mean to who awaits."""
        assert self.hub is not None
        struck = job in self.struck
        self.struck.discard(job)
        if not isinstance(job, GreenletCall):
            return
        if struck and self.hub.is_exit(job.error):
            job.killed = True
            job.error = Cancelled(f"{job.label} was ended by GreenletExit")
        elif self.hub.is_timeout(job.error):
            made = TimeoutError(f"{job.label} raised gevent.Timeout: {job.error}")
            made.__cause__ = job.error
            job.error = made

    def job_here(self) -> Job | None:
        """In the hub's thread: the job of the greenlet that runs."""
        assert self.hub is not None
        return self.jobs.get(self.hub.current())

    # -- ending it ----------------------------------------------------------------------------

    def stop(self, call: Call, options: CallOptions) -> asyncio.TimerHandle | None:
        if options.on_cancel == "kill":
            self.kill(call)
        elif options.on_cancel == "soft":
            return call.loop.call_later(options.grace or 0.0, self.kill, call)
        return None

    def kill(self, job: Job) -> None:
        """Any thread: have GreenletExit raised in its greenlet, once."""
        if self.hub is not None:
            self.hub.post(functools.partial(self._strike, job))

    def _strike(self, job: Job, *, again: bool = False) -> None:
        """In the hub."""
        assert self.hub is not None
        greenlet = self.greenlets.get(job)
        if greenlet is not None and (again or job not in self.struck):
            self.struck.add(job)
            self.hub.kill(greenlet)

    def close(self, *, cancel: bool) -> None:
        if cancel:
            with self.lock:
                running = [job for job in self.running if isinstance(job, GreenletCall)]
            for job in running:  # whatever its function makes of the GreenletExit
                job.refusal = ExecutorClosed(
                    f"{self.kind} {self.name!r} was closed with cancel=True while {job.label} ran"
                )
        super().close(cancel=cancel)
        if cancel and self.hub is not None:
            self.hub.post(self._strike_all)

    def _strike_all(self, *, again: bool = False) -> None:
        """In the hub: end every call; those of the futures face cannot be cancelled."""
        with self.lock:
            running = [*self.running, *self.abandoned]
        for job in running:
            if not isinstance(job, GreenletCall):
                continue
            if job in self.greenlets:
                self._strike(job, again=again)
            elif job.claim():  # its greenlet has not begun, and will find it claimed
                job.refuse(
                    ExecutorClosed(
                        f"{self.kind} {self.name!r} was closed with cancel=True before "
                        f"{job.label} started"
                    )
                )

    def force(self) -> None:
        if self.hub is not None:
            self.hub.post(functools.partial(self._strike_all, again=True))

    # -- closing ------------------------------------------------------------------------------

    def wind_up(self) -> None:
        hub = self.hub
        with self.lock:
            left = bool(self.abandoned)
        if hub is None or left:
            self.set_over()
        if hub is not None:
            hub.post(self._end_if_idle)

    def _end_if_idle(self) -> None:
        """In the hub."""
        assert self.hub is not None
        with self.lock:
            busy = self.running or self.abandoned or self.queue
        if not (busy or self.greenlets or self.hub.ending):
            self.hub.end()

    def join_threads(self) -> None:
        hub = self.hub
        if hub is not None and hub.ending and hub.thread is not threading.current_thread():
            hub.thread.join()


def _close_unowned(pool: GeventPool) -> None:
    """Nobody has the executor any more. Called by the garbage collector, in any thread."""
    if not pool.closing:
        service().call(functools.partial(pool.close, cancel=False))


class GeventExecutor(StreamingExecutor):
    """Runs calls in up to `max_workers` greenlets of a gevent hub, which has a thread of its own.

    For code that was written for gevent: what waits with gevent's own functions (`gevent.sleep`,
    `gevent.socket`, `gevent.subprocess`, ...) lets the other greenlets run, while the event loop
    runs in its own thread. The hub starts with the first call. Results are handed over by reference
    and context variables are carried; `gevent.Timeout` arrives as `TimeoutError`.

    Cancelling raises `gevent.GreenletExit` in the function, where it waits, and the call returns
    when its greenlet has ended, clean-up included. That is what "kill" can do here: a function that
    never waits cannot be ended, and holds up the other greenlets as well.

    Nothing is patched. It is not made for processes in which `gevent.monkey.patch_all()` ran: they
    have no threads, and the constructor refuses. What blocks without gevent (`requests`,
    `time.sleep`) blocks all greenlets of the hub: run it in a `ThreadExecutor`. A greenlet that a
    function spawns and does not join ends with the hub at the latest, without clean-up.

    Needs `aioconc[gevent]`.

    Args:
        max_workers: most greenlets at a time, int >= 1.
        name: of the thread.

    Raises:
        MissingExtra: gevent is not installed.
        RuntimeError: `gevent.monkey` has patched `threading`.
        ValueError: `max_workers` is below 1.

    Cancellation:
        With `on_cancel="kill"` (the default) a cancelled call returns when its greenlet, in which
        GreenletExit was raised, has ended. "soft" asks first, and raises it after `grace`; "wait"
        waits for the function; "abandon" returns at once and lets it run.

    Example:
        >>> import asyncio, gevent
        >>> def wait(seconds):
        ...     gevent.sleep(seconds)
        ...     return seconds
        >>> async def main():
        ...     async with GeventExecutor() as pool:
        ...         return await pool.map(wait, [0.02, 0.01], ordered=False)
        >>> asyncio.run(main())
        [0.01, 0.02]
    """

    capabilities = GREENLETS
    kinds: tuple[Kind, ...] = ("io",)
    _refusals: ClassVar[dict[str, str]] = {}

    def __init__(self, max_workers: int = 100, *, name: str | None = None) -> None:
        check_count("max_workers", max_workers)
        self._options = CallOptions(on_cancel="kill")
        self._greenlets = GeventPool(type(self).__name__, name, max_workers)
        self._futures = FuturesFace(self._greenlets)
        # All views share this face, and nothing below holds it.
        weakref.finalize(self._futures, _close_unowned, self._greenlets).atexit = False

    @property
    def _pool(self) -> Pool:
        return self._greenlets

    def _call(self, fn: Callable[..., Any], args: Any, kwargs: Any, options: CallOptions) -> Call:
        return GreenletCall(self._greenlets, fn, args, kwargs, options)

    def _open_stream(
        self, gen_fn: Callable[..., Any], args: Any, kwargs: Any, buffer: int
    ) -> Stream[Any]:
        return _GreenletStream(self, gen_fn, args, kwargs, buffer)

    @property
    def futures(self) -> concurrent.futures.Executor:
        """The same greenlets as a `concurrent.futures.Executor`."""
        return self._futures


class _GreenletStream(ThreadStream[T]):
    """A stream from a greenlet."""

    _executor: GeventExecutor

    def _make_call(self) -> Call:
        call = super()._make_call()
        pool = self._executor._greenlets
        pool.check_usable()
        self._credits = HubCredits(pool.open_hub(), call.loop, self._buffer)
        return call

    async def _end(
        self, call: Call, reason: type[BaseException] | None
    ) -> asyncio.CancelledError | None:
        pool, options = self._executor._greenlets, self._executor._options
        was_cancelled = reason is not None and issubclass(reason, asyncio.CancelledError)
        killer = None
        if options.on_cancel in ("kill", "soft"):
            grace = _GRACE if options.grace is None else options.grace
            if was_cancelled:
                grace = 0.0 if options.on_cancel == "kill" else options.grace or 0.0
            killer = call.loop.call_later(grace, pool.kill, call)

        def hurry(_: asyncio.CancelledError) -> None:
            if options.on_cancel == "kill":
                pool.kill(call)

        cancelled = await join_call(call, on_cancel=hurry)
        if killer is not None:
            killer.cancel()
        if call.killed or was_cancelled:
            with pool.lock:
                pool.cancelled += 1
            error, call.error = call.error, None
            fate = Fate.KILLED if call.killed else Fate.STOPPED
            tell_cancelled(call, pool.name, fate, "cancelled" if was_cancelled else "left")
            call.error = error
        return cancelled
