"""The simulation loop: asyncio's own loop on a clock that jumps, in an order that can be chosen.

Sockets, threads and subprocesses work as ever, since the loop is asyncio's: only its selector, its
`time()` and, where a schedule is given, its queue of ready callbacks are replaced. Time is kept in
integer nanoseconds and passes only while nothing can run and nothing real is under way.
"""

import asyncio
import contextlib
import contextvars
import functools
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar, TypeVarTuple

from aioconc._internal._check import check_choice, check_count, check_seconds
from aioconc.testing._idle import Idle
from aioconc.testing._outside import Outside
from aioconc.testing._owners import record_owners
from aioconc.testing._policies import Policy, Reorder, is_step, policy_of
from aioconc.testing._ready import ReadyQueue
from aioconc.testing._schedule import Schedule, check_schedule
from aioconc.testing._selector import Events, LazySelector
from aioconc.testing._stock import StockLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NANO: Final = 1_000_000_000


class SimulationLoop(StockLoop):
    """An asyncio loop in virtual time; made by `loop_factory`.

    Args:
        policy: chooses what runs next; None: asyncio's own order.
        reorder: what a policy may reorder.
        max_steps: callbacks without progress of time after which it is a livelock; None: never.
        start: the first value of `time()`, in seconds.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        reorder: Reorder = "tasks",
        max_steps: int | None = None,
        start: float = 0.0,
    ) -> None:
        self._now_ns = round(start * _NANO)
        self._now = start
        self._settlers: list[asyncio.Future[None]] = []
        # asyncio's self-pipe: made when it is needed.
        self._ssock: Any = None
        self._csock: Any = None
        self._lazy: Final = LazySelector(self._select, self._make_pipe)
        super().__init__(self._lazy)
        self._outside: Final = Outside(self)
        self._idle: Final = Idle(self, self._outside, self._lazy, max_steps)
        self.choices: ReadyQueue | None = None
        self._from_threads: weakref.WeakKeyDictionary[asyncio.Handle, int]
        self._from_threads = weakref.WeakKeyDictionary()
        if policy is not None:
            self.choices = self._ready = ReadyQueue(policy, reorder, self._from_threads)

    # -- time -----------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass during a step, as a step that computes would."""
        self._now_ns += round(seconds * _NANO)
        self._now = self._now_ns / _NANO

    def _jump(self) -> None:
        """Go to the next timer."""
        when: float = self._scheduled[0]._when
        self._now_ns = max(self._now_ns, math.ceil(when * _NANO))
        self._now = self._now_ns / _NANO
        self._reach_timer()

    def _reach_timer(self) -> None:
        """Where a float is coarser than a nanosecond, a timer that is reached may not be due."""
        if self._scheduled and self._scheduled[0]._when <= self._now and not self._is_due():
            self._now = math.nextafter(self._now, math.inf)
            self._now_ns = math.ceil(self._now * _NANO)

    def _is_due(self) -> bool:
        return bool(self._scheduled) and bool(
            self._scheduled[0]._when < self._now + self._clock_resolution
        )

    def _last_timer(self) -> float:
        return max((each._when for each in self._scheduled), default=self._now)

    # -- what the idle rules ask for ---------------------------------------------------------------

    def _select(self, timeout: float | None) -> Events:
        return self._idle.select(timeout)

    def _wake_settlers(self) -> bool:
        settlers, self._settlers = self._settlers, []
        for each in settlers:
            if not each.done():
                each.set_result(None)
        return bool(self._ready)

    def _names_of_ready(self) -> Iterator[str]:
        for handle in list(self._ready):
            callback = handle._callback
            owner = callback.__self__ if callback is not None and is_step(handle) else None
            name = getattr(callback, "__qualname__", repr(callback))
            yield owner.get_name() if owner is not None else name

    def settled(self) -> "asyncio.Future[None]":
        """Done when everything that can run has run, before time goes on."""
        future = self.create_future()
        self._settlers.append(future)
        return future

    @contextlib.contextmanager
    def external(self, label: str) -> Iterator[None]:
        """Time stands still meanwhile: something real is under way that the loop cannot see."""
        self._outside.began(label)
        try:
            yield
        finally:
            self._outside.ended(label)
            self._lazy.ring()

    def usual_order_from_here(self) -> None:
        """Tidying up after a run: no choices, no limit on steps."""
        if self.choices is not None:
            self.choices.usual_order_from_here()
        self._idle.progressed()

    # -- waking -----------------------------------------------------------------------------------

    def _make_self_pipe(self) -> None:
        pass

    def _make_pipe(self) -> None:
        super()._make_self_pipe()

    def _close_self_pipe(self) -> None:
        if self._csock is not None:
            super()._close_self_pipe()

    def _write_to_self(self) -> None:
        self._lazy.ring()
        if self._csock is not None:
            super()._write_to_self()

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """As asyncio's; signals arrive through the self-pipe."""
        if self._lazy.real is None:
            self._lazy.prepare()
        super().add_signal_handler(sig, callback, *args)

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As asyncio's."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        if self.choices is not None:
            self._from_threads[handle] = threading.get_ident()
        return handle

    # -- real work, on the books --------------------------------------------------------------------

    def run_in_executor(
        self, executor: Any, func: Callable[[*Ts], T], *args: *Ts
    ) -> "asyncio.Future[T]":
        """As asyncio's; time stands still until the call has ended."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        label = f"{getattr(func, '__qualname__', func)} in an executor"
        self._outside.began(label)
        future.add_done_callback(lambda _: self._outside.ended(label))
        return future

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """As asyncio's; time stands still until the process and its pipes have ended."""
        return await self._process(super().subprocess_exec(*args, **kwargs))

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """As asyncio's; time stands still until the process and its pipes have ended."""
        return await self._process(super().subprocess_shell(*args, **kwargs))

    async def _process(self, start: Any) -> Any:
        with self.external("start of a subprocess"):
            transport, protocol = await start
        self._outside.add_process(transport)
        return transport, protocol


def loop_factory(
    schedule: Schedule | None = None,
    *,
    reorder: Reorder = "tasks",
    max_steps: int | None = 1_000_000,
    start: float = 0.0,
) -> Callable[[], SimulationLoop]:
    """A factory of loops on which sleeping takes no time, for `asyncio.Runner` and its like.

    Equals `asyncio.SelectorEventLoop` on a virtual clock: `asyncio.Runner(loop_factory=...)`,
    anyio's `backend_options`, pytest-asyncio's loop factories.

    Args:
        schedule: the order of task steps; None: asyncio's own.
        reorder: what a schedule may reorder: "tasks" or "external".
        max_steps: callbacks, int >= 1, that may run without any progress of time before
            `LivelockError` is raised; None: any number.
        start: first value of the loop's `time()`, seconds >= 0.

    Returns:
        A function that makes such a loop. While it is open, asyncio's locks and semaphores record
        who holds them, for reports.

    Raises:
        TypeError, ValueError: an argument is out of range.

    Example:
        >>> with asyncio.Runner(loop_factory=loop_factory()) as runner:
        ...     runner.run(asyncio.sleep(3600, "an hour later"))
        'an hour later'
    """
    check_choice("reorder", reorder, ("tasks", "external"))
    if max_steps is not None:
        check_count("max_steps", max_steps, remedy="pass None for no limit")
    check_schedule(schedule)
    start = check_seconds("start", start)
    if schedule is not None:
        check_schedules_work()

    def new_loop() -> SimulationLoop:
        return RecordingLoop(
            None if schedule is None else policy_of(schedule, reorder),
            reorder=reorder,
            max_steps=max_steps,
            start=start,
        )

    return new_loop


class RecordingLoop(SimulationLoop):
    """A simulation loop during whose life asyncio's locks record their owners."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._recording = contextlib.ExitStack()
        super().__init__(*args, **kwargs)
        self._recording.enter_context(record_owners())

    def close(self) -> None:
        """As asyncio's."""
        super().close()
        self._recording.close()


class ScheduledLoop(StockLoop):
    """An asyncio loop in real time, in an order that is chosen."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._ready = ReadyQueue(policy)


@functools.cache
def check_schedules_work() -> None:
    """Try on this interpreter that the order of tasks can be chosen.

    Raises:
        RuntimeError: it cannot; virtual time works all the same.
    """
    order: list[str] = []

    async def step(name: str) -> None:
        order.append(name)

    async def both() -> None:
        await asyncio.gather(step("a"), step("b"))

    loop = SimulationLoop(policy_of(Schedule(picks=((0, 1),))))
    try:
        loop.run_until_complete(both())
    finally:
        loop.close()
    if order == ["b", "a"]:
        return
    raise RuntimeError(
        f"schedules cannot be chosen on {sys.implementation.name} "
        f"{sys.version.split()[0]}: its event loop keeps its ready callbacks in another way; "
        "virtual time works (leave `schedule` out)"
    )
