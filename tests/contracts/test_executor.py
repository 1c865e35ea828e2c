"""What every executor promises, asked of each of them in every configuration.

A new executor is registered in `CONFIGURATIONS`. Tests read `capabilities`: what is declared must
work, and what is not must be refused when it is asked for.
"""

import asyncio
import concurrent.futures
import contextvars
import functools
import itertools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import aioconc
from aioconc import worker
from aioconc._bridge import _credits
from aioconc._internal import _hooks
from aioconc.errors import (
    ExecutorClosed,
    RemoteError,
    SerializationError,
    TaskCancelled,
    UnsupportedOption,
    WorkerCrashed,
    WorkerExit,
    WorkerTimeout,
)
from aioconc.executors import (
    Executor,
    Fate,
    FuturesExecutor,
    InlineExecutor,
    InterpreterExecutor,
    ProcessExecutor,
    ThreadExecutor,
)
from aioconc.executors.greenlets import GeventExecutor
from tests.contracts import executor_work as work

loky = pytest.importorskip("loky")

try:
    import gevent
except ImportError:  # no wheel for this Python
    gevent = None

WORKERS = 2


def _plain_processes(method: str) -> concurrent.futures.Executor:
    return concurrent.futures.ProcessPoolExecutor(
        WORKERS, mp_context=multiprocessing.get_context(method)
    )


CONFIGURATIONS: dict[str, Callable[[], Executor]] = {
    "inline": InlineExecutor,
    "thread": lambda: ThreadExecutor(WORKERS),
    "futures-threads": lambda: FuturesExecutor(
        functools.partial(concurrent.futures.ThreadPoolExecutor, WORKERS),
        max_workers=WORKERS,
        by_reference=True,
    ),
    "forkserver": lambda: FuturesExecutor.over_processes(WORKERS, start="forkserver"),
    "spawn": lambda: FuturesExecutor.over_processes(WORKERS, start="spawn"),
    "plain-forkserver": lambda: FuturesExecutor(
        functools.partial(_plain_processes, "forkserver"), max_workers=WORKERS
    ),
    "plain-spawn": lambda: FuturesExecutor(
        functools.partial(_plain_processes, "spawn"), max_workers=WORKERS
    ),
    "loky": lambda: FuturesExecutor(
        functools.partial(loky.ProcessPoolExecutor, WORKERS), max_workers=WORKERS
    ),
    "loky-reusable": lambda: FuturesExecutor(
        functools.partial(loky.get_reusable_executor, WORKERS), max_workers=WORKERS
    ),
    "process": lambda: ProcessExecutor(WORKERS, spares=1),
    "process-forked": lambda: ProcessExecutor(WORKERS, spares=1, start="forkserver"),
}
if sys.version_info >= (3, 13):
    CONFIGURATIONS["interpreter"] = lambda: InterpreterExecutor(WORKERS)
if gevent is not None:
    CONFIGURATIONS["gevent"] = lambda: GeventExecutor(WORKERS)
CHEAP = ("inline", "thread", "futures-threads", "gevent")
BY_DEFAULT = (*CHEAP, "process")


def _parameters(*, shared: bool) -> list[Any]:
    found = []
    for name in CONFIGURATIONS:
        marks = [] if name in BY_DEFAULT else [pytest.mark.slow]
        if shared and name.startswith("process"):
            reason = "the shared pool replaces the workers that were killed"
            marks.append(pytest.mark.may_leave("children", "fds", reason=reason))
        found.append(pytest.param(name, marks=marks))
    return found


@pytest.fixture(scope="session")
def shared_pools() -> Iterator[Callable[[str], Executor]]:
    """One pool of processes of each kind for all tests: pools belong to no loop."""
    pools: dict[str, Executor] = {}

    def get(name: str) -> Executor:
        if name not in pools:
            pools[name] = CONFIGURATIONS[name]()
            asyncio.run(_warm_up(pools[name]))
        return pools[name]

    yield get
    for pool in pools.values():
        pool.close()


async def _warm_up(pool: Executor) -> None:
    """Have every worker started, so that no test sees them come."""
    for _ in range(5):
        await asyncio.gather(*(pool.run(time.sleep, 0.05) for _ in range(WORKERS)))


@pytest.fixture(scope="session", params=_parameters(shared=True))
def kept(request: pytest.FixtureRequest, shared_pools: Callable[[str], Executor]) -> Any:
    """The name, and for processes the shared pool, started before the test is watched."""
    name = request.param
    return name, None if name in CHEAP else shared_pools(name)


@pytest.fixture
async def pool(kept: Any) -> AsyncIterator[Executor]:
    """An executor of each kind, ready to be used, idle afterwards."""
    name, shared = kept
    executor: Executor = shared or CONFIGURATIONS[name]()
    yield executor
    if shared is None:
        await executor.aclose()
    else:
        await until(lambda: not executor.statistics().busy)
        now = executor.statistics()
        assert (now.busy, now.queued, now.abandoned) == (0, 0, 0)


@pytest.fixture(params=_parameters(shared=False))
def new(request: pytest.FixtureRequest) -> Callable[[], Executor]:
    """Makes executors that the test closes itself."""
    return CONFIGURATIONS[request.param]


@pytest.fixture
def events() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What the hooks tell during the test."""
    heard: list[tuple[str, dict[str, Any]]] = []
    end = _hooks.subscribe(lambda name, fields: heard.append((name, fields)))
    yield heard
    end()


class Gate:
    """Holds calls of `executor_work.hold` in whatever thread or process they run."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    async def started(self) -> None:
        await until(Path(self.path + ".started").exists)

    def has_started(self) -> bool:
        return Path(self.path + ".started").exists()

    def has_ended(self) -> bool:
        return Path(self.path + ".ended").exists()

    def open(self) -> None:
        Path(self.path + ".go").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Callable[[str], Gate]]:
    """Makes gates, which are opened at the end, so that a test that fails does not hang as well."""
    gates: list[Gate] = []

    def make(name: str) -> Gate:
        gates.append(Gate(tmp_path / name))
        return gates[-1]

    yield make
    for each in gates:
        each.open()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


def skip_inline(pool: Executor) -> None:
    if isinstance(pool, InlineExecutor):
        pytest.skip("its calls stop the loop, so nothing can happen to them meanwhile")


def needs_force(pool: Executor) -> None:
    if not pool.capabilities.kill or pool.capabilities.cooperative:
        pytest.skip("cannot end what never waits")


def fates(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [fields["fate"] for name, fields in events if name == "call.cancelled"]


# -- values and errors ---------------------------------------------------------------------------


async def test_run_returns_the_result(pool: Executor) -> None:
    """Positional and keyword arguments arrive and the result comes back."""
    assert await pool.run(work.add, 1, b=2) == 3


async def test_a_call_inside_a_cancelled_scope_never_starts(pool: Executor) -> None:
    """Like every await of the library, it raises at once; nothing is submitted."""
    before = pool.statistics().completed
    with aioconc.move_on_after(60) as scope:
        scope.cancel()
        await pool.run(work.add, 1, b=2)
    assert scope.cancelled_caught
    assert pool.statistics().completed == before


async def test_closures_and_lambdas_run(pool: Executor) -> None:
    """A function that no import can find runs all the same."""
    assert pool.capabilities.closures
    factor = 7

    def local(x: int) -> int:
        return x * factor

    assert await pool.run(local, 6) == 42
    assert await pool.run(lambda x: [x, factor], 1) == [1, 7]


async def test_an_exception_arrives_with_its_notes_and_traceback(pool: Executor) -> None:
    """Type, attributes, notes and the worker's frames of an exception arrive."""
    with pytest.raises(work.Refused) as caught:
        await pool.run(work.raise_refused)
    error = caught.value
    assert error.code == 7
    assert error.__notes__ == ["a note"]
    frames = "".join(str(each) for each in caught.traceback)
    assert "raise_refused" in frames + str(error.__cause__)
    if not pool.capabilities.by_reference:
        assert "raise_refused" in str(error.__cause__)


async def test_an_exception_group_arrives_whole(pool: Executor) -> None:
    """Structure, leaves and notes of a group are the same here as there."""
    with pytest.raises(ExceptionGroup) as caught:
        await pool.run(work.raise_group)
    group = caught.value
    assert group.message == "several"
    assert group.__notes__ == ["of the group"]
    assert repr(group.exceptions[0]) == "ValueError(1)"
    inner = group.exceptions[1]
    assert isinstance(inner, ExceptionGroup)
    assert isinstance(inner.exceptions[0], work.Refused)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("StopIteration", RuntimeError),
        ("StopAsyncIteration", RuntimeError),
        ("SystemExit", WorkerExit),
        ("KeyboardInterrupt", WorkerExit),
        ("GeneratorExit", WorkerExit),
        ("Odd", WorkerExit),
        ("CancelledError", TaskCancelled),
        ("TimeoutError", TimeoutError),
    ],
)
async def test_no_exception_of_a_function_harms_the_loop(
    pool: Executor, name: str, expected: type[Exception]
) -> None:
    """What would end a program, a task or an iterator becomes an ordinary error of the call."""
    with pytest.raises(expected) as caught:
        await pool.run(work.raise_this, name)
    if name != "TimeoutError":
        assert type(caught.value.__cause__).__name__ == name
    if name == "SystemExit":
        assert caught.value.code == 3  # type: ignore[attr-defined]
    assert await pool.run(work.add, 1, 1) == 2


async def test_an_exception_that_cannot_be_unpickled_is_stood_for(pool: Executor) -> None:
    """Such an exception becomes a RemoteError that names it, and the pool lives on."""
    expected = work.Unruly if pool.capabilities.by_reference else RemoteError
    with pytest.raises(expected, match="a and b") as caught:
        await pool.run(work.raise_this, "Unruly")
    if isinstance(caught.value, RemoteError):
        assert caught.value.type_name.endswith("executor_work.Unruly")
        assert "raise_this" in caught.value.traceback_text
    assert await pool.run(work.add, 1, 1) == 2


async def test_a_group_keeps_the_leaves_that_can_travel(pool: Executor) -> None:
    """Only the leaf that cannot be unpickled is replaced."""
    with pytest.raises(ExceptionGroup) as caught:
        await pool.run(work.raise_unruly_group)
    assert isinstance(caught.value.exceptions[0], ValueError)
    other = work.Unruly if pool.capabilities.by_reference else RemoteError
    assert isinstance(caught.value.exceptions[1], other)


async def test_a_value_that_cannot_cross_costs_one_call(pool: Executor) -> None:
    """Each of the four ways to fail names where and on which side, and the pool lives on."""
    if pool.capabilities.by_reference:
        lock = threading.Lock()
        assert await pool.run(lambda x: x, lock) is lock
        return
    here = os.getpid()
    cases: list[tuple[Callable[..., Any], tuple[Any, ...], str, str]] = [
        (work.add, (threading.Lock(),), "args", "parent"),
        (work.add, (work.NoReturn(),), "args", "worker"),
        (work.make_unpicklable, (), "result", "worker"),
        (work.make_no_return, (here,), "result", "parent"),
    ]
    for fn, args, where, side in cases:
        before = pool.statistics()
        with pytest.raises(SerializationError, match=fn.__name__) as caught:
            await pool.run(fn, *args)
        assert (caught.value.where, caught.value.side) == (where, side)
        if side == "parent" and where == "args":
            assert pool.statistics() == before
    assert await pool.run(work.add, 1, 1) == 2


async def test_an_unfit_function_is_refused(pool: Executor) -> None:
    """A coroutine, a coroutine function or a result in place of a function: say what was meant."""

    async def fetch() -> None: ...

    before = pool.statistics()
    run: Any = pool.run
    if not pool.capabilities.coroutines:
        with pytest.raises(TypeError, match=r"async function .*fetch; await.*ProcessExecutor"):
            await run(fetch)
    with pytest.raises(TypeError, match=r"got coroutine .*fetch.*did you mean `await"):
        await run(fetch())
    with pytest.raises(TypeError, match=r"got 42; did you mean .*\.run\(fn, arg\)"):
        await run(42)
    assert pool.statistics() == before


# -- limits and cancellation -----------------------------------------------------------------


async def test_no_more_run_than_there_are_workers(
    pool: Executor, gate: Callable[[str], Gate]
) -> None:
    """The calls beyond `max_workers` wait, and start in order of arrival."""
    skip_inline(pool)
    gates = [gate(str(number)) for number in range(4)]
    calls = [asyncio.ensure_future(pool.run(work.hold, each.path)) for each in gates]
    await gates[0].started()
    await gates[1].started()
    now = pool.statistics()
    assert (now.max_workers, now.busy, now.queued) == (2, 2, 2)
    assert repr(pool).endswith("Executor 2/2 busy, 2 queued>")
    gates[1].open()
    await gates[2].started()
    assert not gates[3].has_started()
    for each in gates:
        each.open()
    assert await asyncio.gather(*calls) == [each.path for each in gates]


async def test_a_cancelled_queued_call_never_starts(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """It leaves the queue at once, and its fate is told."""
    skip_inline(pool)
    holding = [gate("a"), gate("b")]
    held = [asyncio.ensure_future(pool.run(work.hold, each.path)) for each in holding]
    for each in holding:
        await each.started()
    third = gate("c")
    queued = asyncio.ensure_future(pool.run(work.hold, third.path))
    await asyncio.sleep(0)
    assert pool.statistics().queued == 1
    queued.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await queued
    assert pool.statistics().queued == 0
    assert fates(events) == [Fate.NOT_STARTED]
    for each in holding:
        each.open()
    await asyncio.gather(*held)
    assert await pool.run(work.add, 1, 1) == 2
    assert not third.has_started()


async def test_a_call_cancelled_before_its_first_step_never_starts(pool: Executor) -> None:
    """A task cancelled before it ran makes no call."""
    task = asyncio.ensure_future(pool.run(work.add, 1, 1))
    before = pool.statistics().completed
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.statistics().completed == before


async def test_wait_returns_when_the_function_has_ended(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """Cancelled with "wait", twice, the call lasts as long as its function."""
    skip_inline(pool)
    holding = gate("a")
    task = asyncio.ensure_future(pool.options(on_cancel="wait").run(work.hold, holding.path))
    await holding.started()
    task.cancel("first")
    await asyncio.sleep(0.01)
    task.cancel("second")
    await asyncio.sleep(0.01)
    assert not task.done()
    assert pool.statistics().busy == 1
    holding.open()
    with pytest.raises(asyncio.CancelledError, match="first"):
        await task
    assert holding.has_ended()
    assert fates(events) == [Fate.STOPPED]


async def test_abandon_returns_at_once_and_is_counted(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """Cancelled with "abandon", the function runs on, is counted, and its end is told."""
    skip_inline(pool)
    assert pool.capabilities.abandon
    holding = gate("a")
    task = asyncio.ensure_future(pool.options(on_cancel="abandon").run(work.hold, holding.path))
    await holding.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not holding.has_ended()
    now = pool.statistics()
    assert (now.busy, now.abandoned) == (0, 1)
    assert "1 abandoned" in repr(pool)
    assert fates(events) == [Fate.ABANDONED]
    assert await pool.run(work.add, 1, 1) == 2
    holding.open()
    await until(lambda: not pool.statistics().abandoned)
    assert "call.abandoned_ended" in [name for name, _ in events]


async def test_the_default_word_is_honoured(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """A call that runs and is cancelled without options: killed, or waited for."""
    skip_inline(pool)
    holding = gate("a")
    task = asyncio.ensure_future(pool.run(work.hold, holding.path))
    await holding.started()
    task.cancel()
    if pool._options.on_cancel == "wait":
        holding.open()
    with pytest.raises(asyncio.CancelledError):
        await task
    expected = {"wait": Fate.STOPPED, "kill": Fate.KILLED}[pool._options.on_cancel]
    assert fates(events) == [expected]
    assert holding.has_ended() == (expected == Fate.STOPPED)


async def test_kill_ends_what_never_ends(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """Cancelled with "kill", the call returns once its process is gone, and the pool lives on."""
    needs_force(pool)
    started = gate("a")

    def spin() -> None:
        work.write_pid(started.path + ".started")
        while True:
            pass

    bystander = asyncio.ensure_future(pool.run(work.hold, gate("b").path))
    task = asyncio.ensure_future(pool.options(on_cancel="kill").run(spin))
    await started.started()
    pid = int(Path(started.path + ".started").read_text())
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert not work.is_alive(pid)
    assert fates(events) == [Fate.KILLED]
    assert await pool.run(work.add, 1, 1) == 2
    assert not bystander.done()
    gate("b").open()
    await bystander


async def test_a_timed_out_call_is_killed(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """TimeoutError, and the fate is told."""
    if not pool.capabilities.kill:
        pytest.skip("cannot kill")
    with pytest.raises(TimeoutError):
        await pool.options(timeout=0.02, on_cancel="kill").run(work.pause, 60)
    assert fates(events) == [Fate.KILLED]


async def test_a_coroutine_that_is_thrown_away_leaves_nothing_running(
    pool: Executor, gate: Callable[[str], Gate]
) -> None:
    """Nobody can wait for the end then, but what can be killed is."""
    if not pool.capabilities.kill:
        pytest.skip("cannot kill")
    holding = gate("a")
    call = pool.options(on_cancel="kill").run(work.hold, holding.path)
    call.send(None)
    await holding.started()
    call.close()
    await until(lambda: not pool.statistics().abandoned)
    assert not holding.has_ended()
    if pool.capabilities.cooperative:
        return  # what never waits cannot be ended there
    made = gate("made").path

    async def read() -> None:
        view = pool.options(on_cancel="kill")
        async with view.stream(work.count_and_spin, made) as items:
            async for _ in items:
                pass

    reading = read()
    reading.send(None)
    await until(Path(made).exists)
    reading.close()
    await until(lambda: not pool.statistics().abandoned)


async def test_soft_kills_what_does_not_listen(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """A function that never asks is killed after `grace`."""
    if not pool.capabilities.soft:
        pytest.skip("cannot ask and kill")
    holding = gate("a")
    view = pool.options(on_cancel="soft", grace=0.02)
    task = asyncio.ensure_future(view.run(work.hold, holding.path))
    await holding.started()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fates(events) == [Fate.KILLED]
    assert not holding.has_ended()


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancel_in_the_tick_of_the_result_loses_nothing_silently(
    pool: Executor, events: list[Any], tmp_path: Path, turns: int
) -> None:
    """However close the cancel is to the result: a value, or a cancellation whose fate is told."""
    skip_inline(pool)
    done = tmp_path / "done"
    await pool.run(work.add, 1, 1)  # a worker is there: what the last test cancelled was killed
    task = asyncio.ensure_future(pool.run(work.touch, str(done)))
    await asyncio.sleep(0)
    deadline = time.monotonic() + 30
    while not done.exists():  # the loop stands: the result is about to be on its way
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        assert await task is None
    except asyncio.CancelledError:
        assert fates(events) in ([Fate.STOPPED], [Fate.KILLED])
    else:
        assert fates(events) == []
    now = pool.statistics()
    assert (now.busy, now.queued) == (0, 0)


async def test_an_anyio_scope_recognises_its_own_cancellation(
    pool: Executor, gate: Callable[[str], Gate]
) -> None:
    """Inside a host that re-cancels in every turn of the loop, the call waits without spinning."""
    skip_inline(pool)
    holding = gate("a")
    loop = asyncio.get_running_loop()
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        if not holding.has_ended():
            loop.call_later(0.001, count)

    with anyio.CancelScope() as scope:
        async with asyncio.TaskGroup() as group:
            group.create_task(_open_later(holding, scope))
            await pool.run(work.hold, holding.path)
    assert scope.cancelled_caught


async def _open_later(holding: Gate, scope: anyio.CancelScope) -> None:
    await holding.started()
    scope.cancel()
    asyncio.get_running_loop().call_later(0.02, holding.open)


# -- time-outs -------------------------------------------------------------------------------


async def timed_out(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> "tuple[asyncio.Task[Any], Gate, float]":
    """A call that has started and then timed out, and its time-out, on a machine however slow."""
    for seconds in (0.01, 0.1, 1.0, 10.0):
        holding = gate(f"within-{seconds}")
        task = asyncio.ensure_future(pool.options(timeout=seconds).run(work.hold, holding.path))
        await until(lambda task=task, holding=holding: task.done() or holding.has_started())  # type: ignore[misc]
        if not task.done():
            await asyncio.sleep(seconds + 0.02)
            events.clear()
            return task, holding, seconds
        assert isinstance(task.exception(), TimeoutError)
    raise AssertionError("no call started in time")


async def test_a_timed_out_call_follows_on_cancel(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """TimeoutError, at once with "abandon", when the function has ended with "wait"."""
    skip_inline(pool)
    task, holding, seconds = await timed_out(pool.options(on_cancel="wait"), gate, events)
    assert not task.done()
    holding.open()
    with pytest.raises(TimeoutError, match=f"hold had not ended {seconds} s after"):
        await task
    assert fates(events) == [Fate.STOPPED]
    other = gate("b")
    quick = pool.options(timeout=0.01, on_cancel="abandon")
    with pytest.raises(TimeoutError):
        await quick.run(work.hold, other.path)
    other.open()
    await until(lambda: not pool.statistics().abandoned)


async def test_a_cancel_while_a_timed_out_call_ends_is_a_cancel(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """The task's own cancellation wins over the time-out of its call."""
    skip_inline(pool)
    task, holding, _ = await timed_out(pool.options(on_cancel="wait"), gate, events)
    task.cancel("mine")
    await asyncio.sleep(0)
    holding.open()
    with pytest.raises(asyncio.CancelledError, match="mine"):
        await task


async def test_a_call_in_time_keeps_its_value(pool: Executor) -> None:
    """A time-out that does not pass changes nothing, and leaves no timer."""
    assert await pool.options(timeout=30, name="sum").run(work.add, 1, 1) == 2


async def test_a_late_value_is_a_time_out(pool: Executor) -> None:
    """The function ended, but too late."""
    with pytest.raises(TimeoutError):
        await pool.options(timeout=0.001).run(time.sleep, 0.03)


# -- options ---------------------------------------------------------------------------------


async def test_what_cannot_be_honoured_is_refused_when_asked(pool: Executor) -> None:
    """Every word and option outside `capabilities` raises at once, naming what can be used."""
    able = pool.capabilities
    for word in ("kill", "soft", "wait", "abandon"):
        if getattr(able, word):
            assert type(pool.options(on_cancel=word)) is type(pool)
        else:
            with pytest.raises(UnsupportedOption, match=f"on_cancel='{word}'.*use 'wait'"):
                pool.options(on_cancel=word)
    if not able.retries:
        with pytest.raises(UnsupportedOption, match="retries=1"):
            pool.options(retries=1)
    if not able.report:
        with pytest.raises(UnsupportedOption, match="on_report"):
            pool.options(on_report=print)
    if not able.soft:
        with pytest.raises(UnsupportedOption, match=r"grace=1\.0"):
            pool.options(grace=1.0)
    with pytest.raises(TypeError, match="no option 'time_out'; the options are timeout"):
        pool.options(time_out=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="timeout must be"):
        pool.options(timeout=-1)


async def test_a_view_shares_the_workers(pool: Executor) -> None:
    """A view is of the same class, counts in the same books and leaves the original as it was."""
    view = pool.options(name="seen", timeout=20)
    assert type(view) is type(pool)
    before = pool.statistics().completed
    await view.run(work.add, 1)
    assert pool.statistics().completed == before + 1
    assert (await view.run(worker.info)).name == "seen"
    assert (await pool.run(worker.info)).name == "info"


# -- maps ------------------------------------------------------------------------------------


async def test_map_keeps_the_order_and_the_limit(pool: Executor) -> None:
    """Results come in input order, from a lazily read source, as a list or as a stream."""
    taken: list[int] = []

    def source(size: int) -> Iterator[int]:
        for number in range(size):
            taken.append(number)
            yield number

    assert await pool.map(work.add, source(12)) == list(range(12))
    taken.clear()
    async with pool.map(work.add, source(100_000)) as results:
        assert await anext(results) == 0
        assert len(taken) < 100_000
    assert pool.statistics().queued == 0


async def test_map_follows_on_error(pool: Executor) -> None:
    """A failing item stops the map, takes its own place, or is left out."""

    def invert(x: int) -> float:
        return 1 / x

    with pytest.raises(ZeroDivisionError):
        await pool.map(invert, [1, 0, 2])
    found = await pool.map(invert, [1, 0, 2], on_error="return")
    assert [type(each) for each in found] == [float, ZeroDivisionError, float]
    assert await pool.map(invert, [1, 0, 2], on_error="skip") == [1.0, 0.5]


async def test_map_times_out_each_call(pool: Executor) -> None:
    """The time-out is that of one call."""
    found = await pool.map(time.sleep, [0, 0.2], timeout=0.1, on_error="return", limit=1)
    assert [type(each) for each in found] == [type(None), WorkerTimeout]


async def test_map_refuses_what_it_cannot_do(pool: Executor) -> None:
    """An async function, or chunks."""

    async def fetch(x: int) -> int:
        return x

    if pool.capabilities.coroutines:
        assert await pool.map(work.add_later, [1, 2]) == [1, 2]
    else:
        with pytest.raises(TypeError, match="got the async function"):
            pool.map(fetch, [1])
    if not pool.capabilities.chunks:
        with pytest.raises(UnsupportedOption, match="chunk=5"):
            pool.map(work.add, [1], chunk=5)


# -- streams ---------------------------------------------------------------------------------


async def test_a_stream_gives_the_items_in_order(pool: Executor) -> None:
    """All items, then the end; over processes it is refused at the call."""
    if not pool.capabilities.stream:
        with pytest.raises(UnsupportedOption, match="cannot stream"):
            pool.stream(range, 3)
        return
    async with pool.stream(range, 20, buffer=2) as items:
        assert [item async for item in items] == list(range(20))
    assert pool.statistics().busy == 0


async def test_a_stream_raises_after_the_items_before(pool: Executor) -> None:
    """An error of the generator arrives in its place."""
    if not pool.capabilities.stream:
        pytest.skip("cannot stream")

    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise work.Refused(3)

    seen = []
    with pytest.raises(work.Refused):
        async with pool.stream(failing) as items:
            async for item in items:
                seen.append(item)  # noqa: PERF401  # a comprehension would lose them on the error
    assert seen == [1, 2]


async def test_leaving_a_stream_closes_its_generator(pool: Executor, tmp_path: Path) -> None:
    """The generator's clean-up has run when the block is left, and it was never far ahead."""
    if not pool.capabilities.stream:
        pytest.skip("cannot stream")
    made, closed = tmp_path / "made", tmp_path / "closed"
    async with pool.stream(work.numbers, str(made), str(closed), buffer=3) as items:
        assert await anext(items) == 0
        await asyncio.sleep(0.01)
    assert closed.read_text() == "closed"
    assert 1 <= len(made.read_text()) <= 1 + 3


async def test_a_reader_cancelled_in_a_stream_loses_no_item(pool: Executor) -> None:
    """Whenever the reader is cancelled, the next read goes on where it was."""
    if not pool.capabilities.stream:
        pytest.skip("cannot stream")
    async with pool.stream(range, 30, buffer=1) as items:
        seen: list[int] = []

        async def read() -> None:
            async for item in items:
                seen.append(item)  # noqa: PERF401  # it is cancelled midway

        for turns in itertools.cycle(range(6)):
            reader = asyncio.ensure_future(read())
            for _ in range(turns):
                await asyncio.sleep(0)
            reader.cancel()
            await asyncio.wait([reader])
            if not reader.cancelled():
                break
            await asyncio.sleep(0.001)
    assert seen == list(range(30))


async def test_a_stream_whose_block_is_cancelled_follows_on_cancel(
    pool: Executor, events: list[Any], tmp_path: Path
) -> None:
    """With "kill" the worker is killed at once; with "wait" the generator closes."""
    if not pool.capabilities.stream:
        pytest.skip("cannot stream")
    skip_inline(pool)
    for word in ("wait", "kill"):
        if not getattr(pool.capabilities, word):
            continue
        events.clear()
        closed = tmp_path / word
        view = pool.options(on_cancel=word)  # type: ignore[call-arg]

        async def read(view: Executor = view, closed: Path = closed) -> None:
            async with view.stream(work.numbers, str(tmp_path / "made"), str(closed)) as items:
                await anext(items)
                await asyncio.get_running_loop().create_future()

        task = asyncio.ensure_future(read())
        await until((tmp_path / "made").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (tmp_path / "made").unlink()
        if word == "wait" or pool.capabilities.cooperative:  # where it waits it ends cleanly
            assert closed.exists()
        else:
            assert fates(events) == [Fate.KILLED]


async def test_a_generator_that_never_comes_back_is_killed_after_grace(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """A reader that leaves is not held by what computes for ever."""
    if not pool.capabilities.stream:
        pytest.skip("cannot stream")
    needs_force(pool)
    started = gate("a")

    def endless() -> Iterator[int]:
        yield 1
        work.touch(started.path + ".started")
        while True:
            pass

    async with pool.options(grace=0.02).stream(endless) as items:
        assert await anext(items) == 1
        await started.started()
    assert fates(events) == [Fate.KILLED]


async def test_a_crash_in_a_stream_comes_after_the_items_before(pool: Executor) -> None:
    """What was sent arrives, then WorkerCrashed."""
    if not (pool.capabilities.stream and pool.capabilities.retries):
        pytest.skip("has no workers that crash alone")

    def dying() -> Iterator[int]:
        yield 1
        yield 2
        os._exit(7)

    seen = []
    with pytest.raises(WorkerCrashed) as caught:
        async with pool.stream(dying) as items:
            async for item in items:
                seen.append(item)  # noqa: PERF401  # a comprehension would lose them on the error
    assert seen == [1, 2]
    assert caught.value.exitcode == 7


async def test_an_item_that_cannot_cross_ends_or_interrupts_the_stream(pool: Executor) -> None:
    """Not to be pickled: the stream ends with that. Not to be unpickled: that item is lost."""
    if not pool.capabilities.stream or pool.capabilities.by_reference:
        pytest.skip("its items are not pickled")
    here = os.getpid()

    def items_of(kind: str) -> Iterator[Any]:
        yield 1
        yield work.make_unpicklable() if kind == "worker" else work.NoReturn(here)
        yield 3

    for side in ("worker", "parent"):
        async with pool.stream(items_of, side) as items:
            assert await anext(items) == 1
            with pytest.raises(SerializationError, match=r"an item of .*items_of") as caught:
                await anext(items)
            assert (caught.value.where, caught.value.side) == ("result", side)
            rest = [item async for item in items]
        assert rest == ([3] if side == "parent" else [])


async def test_a_stream_takes_no_retries(pool: Executor) -> None:
    """Items that were read would come again."""
    if not (pool.capabilities.stream and pool.capabilities.retries):
        pytest.skip("cannot stream, or cannot retry")
    with pytest.raises(UnsupportedOption, match="no retries"):
        pool.options(retries=1).stream(range, 3)


async def test_large_items_keep_their_place(pool: Executor) -> None:
    """Those that are unpickled in a thread come before those that were sent after them."""
    if not pool.capabilities.stream:
        pytest.skip("cannot stream")

    def sizes() -> Iterator[list[int]]:
        for number in range(6):
            yield [number] * (300_000 if number % 2 else 1)

    async with pool.stream(sizes) as items:
        assert [item[0] async for item in items] == list(range(6))


# -- async functions -------------------------------------------------------------------------


async def test_async_functions_run_in_a_loop_of_the_worker(pool: Executor) -> None:
    """Results, errors and async generators; what they keep in the loop stays usable."""
    if not pool.capabilities.coroutines:
        pytest.skip("takes no async functions")
    run: Any = pool.run
    stream: Any = pool.stream
    assert await run(work.add_later, 1, 2) == 3
    with pytest.raises(work.Refused):
        await run(work.raise_refused_later)
    async with stream(work.count_later, 5, buffer=2) as items:
        assert [item async for item in items] == list(range(5))
    with pytest.raises(TypeError, match=r"async generator function .*stream"):
        await run(work.count_later, 5)
    with pytest.raises(TypeError, match=r"async function add_later, which gives one value"):
        stream(work.add_later, 1)


async def test_a_cancelled_async_function_is_cancelled_at_its_await(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """Asked with "soft" or "wait", it is cancelled in the worker's loop and cleans up."""
    if not pool.capabilities.coroutines:
        pytest.skip("takes no async functions")
    for number, view in enumerate(
        (pool.options(on_cancel="soft", grace=30.0), pool.options(on_cancel="wait"))
    ):
        events.clear()
        holding = gate(str(number))
        run: Any = view.run
        task = asyncio.ensure_future(run(work.hold_later, holding.path))
        await holding.started()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fates(events) == [Fate.STOPPED]
        assert holding.has_ended()


async def test_leaving_a_stream_cancels_its_async_generator(
    pool: Executor, gate: Callable[[str], Gate]
) -> None:
    """One that awaits something that never comes is cancelled there, and cleans up."""
    if not pool.capabilities.coroutines:
        pytest.skip("takes no async functions")
    holding = gate("a")
    stream: Any = pool.stream
    async with stream(work.hold_after_one, holding.path) as items:
        assert await anext(items) == 1
        await holding.started()
    assert holding.has_ended()


# -- what workers may call -------------------------------------------------------------------


async def test_info_says_where_the_call_runs(pool: Executor) -> None:
    """Executor, name and process, in every kind of worker."""
    info = await pool.run(worker.info)
    assert info.executor == type(pool).__name__
    assert info.attempt == 1
    here = pool.capabilities.by_reference or isinstance(pool, InterpreterExecutor)
    assert (info.pid == os.getpid()) == here


async def test_reports_arrive_in_order_before_the_result(pool: Executor) -> None:
    """All reports, also more than may be unread at a time; else the call in the worker fails."""
    if not pool.capabilities.report:
        with pytest.raises(UnsupportedOption, match=r"report\(\) does not work"):
            await pool.run(worker.report, 1)
        return
    got: list[object] = []

    def reporting() -> None:
        for number in range(600):
            worker.report(number)

    await pool.options(on_report=got.append).run(reporting)
    assert got == list(range(600))
    await pool.run(worker.report, "nobody listens")


async def test_check_cancelled_ends_cancelled_work(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """A function that asks is told; "wait" and "soft" then do not wait long."""
    if not pool.capabilities.check_cancelled:
        with pytest.raises(UnsupportedOption, match=r"check_cancelled\(\) does not work"):
            await pool.run(worker.check_cancelled)
        return
    await pool.run(worker.check_cancelled)
    skip_inline(pool)
    started = gate("a")

    def loop_forever() -> None:
        work.touch(started.path + ".started")
        while True:
            worker.check_cancelled()
            work.pause(0.001)

    views = [pool.options(on_cancel="wait")]
    if pool.capabilities.soft:
        views.append(pool.options(on_cancel="soft", grace=30.0))
    for view in views:
        Path(started.path + ".started").unlink(missing_ok=True)
        events.clear()
        task = asyncio.ensure_future(view.run(loop_forever))
        await started.started()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fates(events) == [Fate.STOPPED]
        with pytest.raises(TimeoutError):
            await view.options(timeout=0.01).run(loop_forever)


async def test_call_in_loop_runs_in_the_loop(pool: Executor) -> None:
    """Plain and coroutine functions run in the awaiting loop's thread; errors come back."""
    if not pool.capabilities.call_in_loop:
        with pytest.raises(UnsupportedOption, match=r"call_in_loop\(\) does not work"):
            await pool.run(worker.call_in_loop, work.add, 1)
        return
    here = threading.get_ident()

    async def pause() -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    assert await pool.run(worker.call_in_loop, threading.get_ident) == here
    assert await pool.run(worker.call_in_loop, pause) == here
    with pytest.raises(work.Refused):
        await pool.run(worker.call_in_loop, work.raise_refused)
    with pytest.raises(work.Unruly if pool.capabilities.by_reference else RemoteError):
        await pool.run(worker.call_in_loop, work.raise_this, "Unruly")
    if not pool.capabilities.by_reference:
        with pytest.raises(SerializationError, match="gave a lock, which cannot be pickled"):
            await pool.run(worker.call_in_loop, work.make_unpicklable)


async def test_what_a_call_started_in_the_loop_ends_with_it(
    pool: Executor, events: list[Any], tmp_path: Path
) -> None:
    """However the call ends, `run` returns after what it called in the loop has ended too."""
    if not pool.capabilities.call_in_loop:
        pytest.skip("cannot call in the loop")
    for word in ("wait", "kill"):
        if not getattr(pool.capabilities, word):
            continue
        path = tmp_path / word
        view = pool.options(on_cancel=word)  # type: ignore[call-arg]
        task = asyncio.ensure_future(view.run(worker.call_in_loop, work.hold_in_loop, str(path)))
        await until(Path(f"{path}.started").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert Path(f"{path}.ended").exists()


async def test_a_thread_of_a_worker_has_no_call(pool: Executor) -> None:
    """What a function's own threads call is refused, and the error says where to call it."""

    def ask() -> str:
        found: list[str] = []

        def call() -> None:
            try:
                worker.info()
            except RuntimeError as error:
                found.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return found[0]

    assert "in the thread that runs it" in await pool.run(ask)


async def test_context_variables_are_carried(pool: Executor) -> None:
    """The function sees the caller's values and cannot change them."""
    if not pool.capabilities.context:
        pytest.skip("does not carry context variables")
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("set")

    def look() -> str:
        value = variable.get()
        variable.set("changed")
        return value

    assert await pool.run(look) == "set"
    if not isinstance(pool, InlineExecutor):
        assert variable.get() == "set"


# -- the concurrent.futures face -------------------------------------------------------------


async def test_the_futures_face_is_a_standard_executor(pool: Executor) -> None:
    """`submit`, `map` and `run_in_executor` work, and exceptions arrive as they were raised."""
    face = pool.futures
    assert isinstance(face, concurrent.futures.Executor)
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(face, work.add, 1, 2) == 3
    assert await asyncio.to_thread(lambda: list(face.map(work.add, [1, 2], [3, 4]))) == [4, 6]
    future = face.submit(work.raise_this, "SystemExit")
    await until(future.done)
    assert isinstance(future.exception(), SystemExit)


async def test_a_cancelled_future_leaves_the_queue(
    pool: Executor, gate: Callable[[str], Gate]
) -> None:
    """A queued future can be cancelled, and a running one cannot."""
    skip_inline(pool)
    holding = [gate("a"), gate("b")]
    running = [pool.futures.submit(work.hold, each.path) for each in holding]
    for each in holding:
        await each.started()
    queued = pool.futures.submit(work.add, 1)
    assert pool.statistics().queued == 1
    assert queued.cancel()
    assert pool.statistics().queued == 0
    assert not running[0].cancel()
    for each in holding:
        each.open()
    await asyncio.to_thread(lambda: concurrent.futures.wait([*running, queued]))


# -- closing ---------------------------------------------------------------------------------


async def test_closing_waits_for_what_is_in_flight(
    new: Callable[[], Executor], gate: Callable[[str], Gate]
) -> None:
    """Running and queued calls end with their results; later calls are refused."""
    pool = new()
    skip_inline(pool)
    gates = [gate(str(number)) for number in range(3)]
    calls = [asyncio.ensure_future(pool.run(work.hold, each.path)) for each in gates]
    await gates[0].started()
    closing = asyncio.ensure_future(pool.aclose())
    await asyncio.sleep(0.01)
    assert not closing.done()
    with pytest.raises(ExecutorClosed, match="closed; make a new one"):
        await pool.run(work.add, 1)
    for each in gates:
        each.open()
    await closing
    assert await asyncio.gather(*calls) == [each.path for each in gates]
    await pool.aclose()
    pool.close()


async def test_closing_with_cancel_drops_what_is_queued(
    new: Callable[[], Executor], gate: Callable[[str], Gate]
) -> None:
    """Queued calls fail with ExecutorClosed and never start; running ones end, or are killed."""
    pool = new()
    skip_inline(pool)
    gates = [gate(str(number)) for number in range(3)]
    calls = [asyncio.ensure_future(pool.run(work.hold, each.path)) for each in gates]
    await gates[0].started()
    await gates[1].started()
    closing = asyncio.ensure_future(pool.aclose(cancel=True))
    with pytest.raises(ExecutorClosed, match="before hold started"):
        await calls[2]
    if not pool.capabilities.kill:
        assert not closing.done()
        for each in gates:
            each.open()
    await closing
    await check_ended(pool, calls[:2], gates)
    assert not gates[2].has_started()


async def check_ended(pool: Executor, calls: "list[asyncio.Task[Any]]", gates: list[Gate]) -> None:
    """Calls that ran while the executor was closed with cancel=True: killed if that can be."""
    for call, each in zip(calls, gates, strict=False):
        if pool.capabilities.kill:
            with pytest.raises(ExecutorClosed, match="while hold ran"):
                await call
        else:
            assert await call == each.path


async def test_closing_with_a_timeout_gives_up_what_runs(
    new: Callable[[], Executor], gate: Callable[[str], Gate]
) -> None:
    """After the time-out the callers get ExecutorClosed and aclose raises TimeoutError."""
    pool = new()
    skip_inline(pool)
    holding = gate("a")
    call = asyncio.ensure_future(pool.run(work.hold, holding.path))
    await holding.started()
    with pytest.raises(TimeoutError, match="1 of its calls had not ended"):
        await pool.aclose(timeout=0.01)
    with pytest.raises(ExecutorClosed):
        await call
    holding.open()
    await until(lambda: not pool.statistics().abandoned)


async def test_a_failing_block_cancels_what_runs(
    new: Callable[[], Executor], gate: Callable[[str], Gate]
) -> None:
    """`async with` closes with cancel=True when its body raises."""
    pool = new()
    skip_inline(pool)
    gates = [gate(str(number)) for number in range(3)]
    calls = [asyncio.ensure_future(pool.run(work.hold, each.path)) for each in gates]
    await gates[0].started()
    await gates[1].started()

    def open_both() -> None:
        gates[0].open()
        gates[1].open()

    calls[2].add_done_callback(lambda _: open_both())
    with pytest.raises(work.Refused):
        async with pool:
            raise work.Refused(1)
    await check_ended(pool, calls[:2], gates)
    with pytest.raises(ExecutorClosed):
        await calls[2]


def test_a_pool_serves_one_loop_after_another(new: Callable[[], Executor]) -> None:
    """The same executor in two runs of asyncio, then closed outside any."""
    with new() as pool:
        assert asyncio.run(pool.run(work.add, 1, 1)) == 2
        assert asyncio.run(pool.run(work.add, 2, 2)) == 4
    with pytest.raises(ExecutorClosed):
        asyncio.run(pool.run(work.add, 1))


def test_a_pool_serves_loops_in_several_threads(new: Callable[[], Executor]) -> None:
    """Each loop gets its own results."""

    async def many(executor: Executor, first: int) -> list[int]:
        return await asyncio.gather(*(executor.run(work.add, first, each) for each in range(20)))

    with new() as executor, concurrent.futures.ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(asyncio.run, many(executor, first)) for first in (0, 100, 200)]
        for first, future in zip((0, 100, 200), futures, strict=True):
            assert future.result(timeout=30) == list(range(first, first + 20))


def test_a_late_result_for_a_closed_loop_makes_no_noise(
    new: Callable[[], Executor], gate: Callable[[str], Gate], loop_errors: list[str]
) -> None:
    """The function of an abandoned call ends after its loop was closed: nothing is raised."""
    holding = gate("a")

    async def main(pool: Executor) -> None:
        call = asyncio.ensure_future(pool.options(on_cancel="abandon").run(work.hold, holding.path))
        await holding.started()
        call.cancel()
        await asyncio.wait([call])

    with new() as pool:
        skip_inline(pool)
        asyncio.run(main(pool))
        holding.open()
        deadline = time.monotonic() + 30
        while pool.statistics().abandoned:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        assert asyncio.run(pool.run(work.add, 1, 1)) == 2
    assert loop_errors == []


def test_a_stream_of_a_closed_loop_lets_its_worker_go(
    new: Callable[[], Executor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody reads on and nobody leaves the block, and the pool can be closed all the same."""
    monkeypatch.setattr(_credits, "_LOOK", 0.005)
    made, closed = tmp_path / "made", tmp_path / "closed"
    pool = new()
    skip_inline(pool)
    if not pool.capabilities.stream:
        pytest.skip("cannot stream")
    loop = asyncio.new_event_loop()
    stream = pool.stream(work.numbers, str(made), str(closed), buffer=2)
    reader = loop.run_until_complete(stream.__aenter__())
    assert loop.run_until_complete(anext(reader)) == 0  # type: ignore[arg-type]
    loop.close()
    pool.close()
    assert closed.exists() or pool.capabilities.kill


# -- waiting for a worker ------------------------------------------------------------------------


async def fill(pool: Executor, gate: Callable[[str], Gate]) -> "list[asyncio.Task[str]]":
    """Keep every worker busy until the gates `filled-N` are opened."""
    calls = [
        asyncio.create_task(pool.run(work.hold, gate(f"filled-{number}").path))
        for number in range(pool.max_workers)
    ]
    for number in range(pool.max_workers):
        await gate(f"filled-{number}").started()
    return calls


async def let_go(calls: "list[asyncio.Task[str]]", gate: Callable[[str], Gate]) -> None:
    for number in range(len(calls)):
        gate(f"filled-{number}").open()
    await asyncio.gather(*calls)


async def test_a_time_limit_counts_from_when_a_worker_has_the_call(
    pool: Executor, gate: Callable[[str], Gate]
) -> None:
    """However long it waits in the queue, its own time is not used up."""
    skip_inline(pool)
    calls = await fill(pool, gate)
    late = asyncio.create_task(pool.options(timeout=20).run(work.add, 1, 1))
    quick = asyncio.create_task(pool.options(timeout=0.001).run(work.add, 2, 2))
    await until(lambda: pool.statistics().queued == 2)
    await asyncio.sleep(0.02)
    assert not quick.done()
    await let_go(calls, gate)
    assert await late == 2
    await asyncio.gather(quick, return_exceptions=True)


async def test_a_call_leaves_the_queue_when_it_waited_too_long(
    pool: Executor, gate: Callable[[str], Gate], events: list[Any]
) -> None:
    """It never starts, says so, and those behind it move up."""
    skip_inline(pool)
    calls = await fill(pool, gate)
    with pytest.raises(WorkerTimeout) as caught:
        await pool.options(queue_timeout=0.01).run(work.touch, gate("never").path)
    assert (caught.value.phase, caught.value.seconds) == ("queue", 0.01)
    assert fates(events) == [Fate.NOT_STARTED]
    assert pool.statistics().queued == 0
    await let_go(calls, gate)
    assert not Path(gate("never").path).exists()
    assert await pool.options(queue_timeout=20).run(work.add, 1, 1) == 2


async def test_higher_priorities_leave_the_queue_first(
    pool: Executor, gate: Callable[[str], Gate], tmp_path: Path
) -> None:
    """Within a priority, first come first served."""
    skip_inline(pool)
    if pool.max_workers != WORKERS:
        pytest.skip("counts on two workers")
    calls = await fill(pool, gate)
    log = tmp_path / "log"
    names = [("low", -1), ("first", 0), ("second", 0), ("urgent", 5)]
    queued = []
    for name, priority in names:
        view = pool.options(priority=priority)
        queued.append(asyncio.create_task(view.run(work.append_line, str(log), name)))
        await asyncio.sleep(0)
    await until(lambda: pool.statistics().queued == len(names))
    gate("filled-0").open()  # one worker takes them all, in order
    await asyncio.gather(*queued)
    assert log.read_text().split() == ["urgent", "first", "second", "low"]
    await let_go(calls, gate)


async def test_a_stream_refuses_the_options_of_single_calls(pool: Executor) -> None:
    """Rather than that they are passed over in silence."""
    if not pool.capabilities.stream:
        pytest.skip("cannot stream")
    for name in ("timeout", "queue_timeout"):
        view = pool.options(**{name: 1.0})  # type: ignore[arg-type]
        with pytest.raises(UnsupportedOption, match=rf"stream\(\) takes no {name}, got 1\.0; put"):
            view.stream(range, 3)
    if pool.capabilities.retries:
        with pytest.raises(UnsupportedOption, match=r"stream\(\) takes no retries, got 2"):
            pool.options(retries=2).stream(range, 3)
