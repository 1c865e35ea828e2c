"""`GeventExecutor`: calls run in greenlets of a gevent hub that has a thread of its own.

The asyncio face: what it promises, and streams. A worker is a greenlet, made for one call; the pool
of them is in `_gevent_pool`, the hub in `_gevent`.
"""

import asyncio
import concurrent.futures
import functools
import os
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from aioconc._bridge._service import service
from aioconc._internal._check import check_count
from aioconc.executors._base import Capabilities, Fate, Kind
from aioconc.executors._call import Call, join_call, tell_cancelled
from aioconc.executors._futures_face import FuturesFace
from aioconc.executors._options import CallOptions
from aioconc.executors._pool import Pool
from aioconc.executors._stream import Stream, StreamingExecutor, ThreadStream
from aioconc.executors.greenlets._gevent import HubCredits
from aioconc.executors.greenlets._gevent_calls import GreenletCall
from aioconc.executors.greenlets._gevent_pool import GeventPool

T = TypeVar("T")

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


def _close_unowned(pool: GeventPool) -> None:
    """Nobody has the executor any more. Called by the garbage collector, in any thread."""
    if pool.pid == os.getpid() and not pool.closing:
        service().call(functools.partial(pool.close, cancel=False))


class GeventExecutor(StreamingExecutor):
    """Runs calls in up to `max_workers` greenlets of a gevent hub, which has a thread of its own.

    For code that was written for gevent: what waits with gevent's own functions (`gevent.sleep`,
    `gevent.socket`, `gevent.select`, ...) lets the other greenlets run, while the event loop
    runs in its own thread. The hub starts with the first call. Results are handed over by reference
    and context variables are carried; `gevent.Timeout` arrives as `TimeoutError`.

    Cancelling raises `gevent.GreenletExit` in the function, where it waits, and the call returns
    when its greenlet has ended, clean-up included. That is what "kill" can do here: a function that
    never waits cannot be ended, and holds up the other greenlets as well.

    Nothing is patched. It is not made for processes in which `gevent.monkey.patch_all()` ran: they
    have no threads, and the constructor refuses. What blocks without gevent (`requests`,
    `time.sleep`) blocks all greenlets of the hub: run it in a `ThreadExecutor`. A greenlet that a
    function spawns and does not join gets GreenletExit when the executor is closed, and 5 s to end.
    `gevent.subprocess` and `gevent.signal_handler` need the hub of the main thread, which this is not.

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
        return GreenletCall(self._greenlets, fn, options).hold(fn, args, kwargs)

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
