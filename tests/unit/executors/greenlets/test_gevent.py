"""GeventExecutor: what is its own, beside the contract of every executor."""

import asyncio
import gc
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioconc import offload_io, use, worker
from aioconc._bridge import _credits
from aioconc._internal import _hooks
from aioconc.errors import DeadlockError, ExecutorClosed, MissingExtra, WorkerExit
from aioconc.executors import Fate
from aioconc.executors.greenlets import GeventExecutor, _gevent
from aioconc.testing import run

gevent = pytest.importorskip("gevent")


@pytest.fixture
def fates() -> Iterator[list[str]]:
    """The fates of cancelled calls."""
    heard: list[str] = []

    def hear(name: str, fields: dict[str, Any]) -> None:
        if name == "call.cancelled":
            heard.append(fields["fate"])

    end = _hooks.subscribe(hear)
    yield heard
    end()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("aioconc-gevent")]


async def cancelled(task: "asyncio.Task[Any]") -> bool:
    """Cancel it and wait: whether it ended so."""
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


# -- greenlets --------------------------------------------------------------------------------------


async def test_calls_wait_at_the_same_time_in_one_thread() -> None:
    """Thirty calls are in the middle of their function at once, and one thread runs them."""
    inside: set[int] = set()

    def wait(number: int) -> str:
        inside.add(number)
        while len(inside) < 30:
            gevent.sleep(0.001)
        return threading.current_thread().name

    async with GeventExecutor(30) as pool:
        assert threads() == []
        names = await pool.map(wait, range(30))
        assert {*names} == {*threads()}
        assert len(threads()) == 1
    assert threads() == []


@pytest.mark.parametrize("what", ["thread", "hub"])
async def test_a_hub_that_cannot_start_costs_the_calls_that_wanted_it(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a thread or descriptor left each call says so; later ones try again, and it closes."""

    def refuse(*_: object) -> None:
        raise OSError("nothing left")

    async with GeventExecutor(2) as pool, asyncio.timeout(60):
        with monkeypatch.context() as patch:
            if what == "thread":
                patch.setattr(threading.Thread, "start", refuse)
            else:
                patch.setattr(gevent, "get_hub", refuse)
            calls = [pool.run(int, "3") for _ in range(5)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert ["nothing left" in str(each) for each in errors] == [True] * 5
        assert await pool.run(int, "3") == 3
        assert not pool._greenlets.running
    assert threads() == []
    async with asyncio.timeout(60):
        with monkeypatch.context() as patch:
            patch.setattr(gevent, "get_hub", refuse)
            async with GeventExecutor(1) as pool:
                with pytest.raises(RuntimeError, match="could not start its hub"):
                    await pool.run(int, "3")


async def test_a_cancel_raises_greenlet_exit_where_it_waits(fates: list[str]) -> None:
    """Its clean-up may wait, and the call returns when that is over."""
    log: list[str] = []

    def wait() -> None:
        log.append("begun")
        try:
            gevent.sleep(60)
        except BaseException as error:
            log.append(type(error).__name__)
            raise
        finally:
            gevent.sleep(0.01)
            log.append("cleaned up")

    async with GeventExecutor() as pool:
        task = asyncio.ensure_future(pool.run(wait))
        await until(lambda: log)
        assert await cancelled(task)
        assert log == ["begun", "GreenletExit", "cleaned up"]
        assert pool.statistics().workers == 0
    assert fates == [Fate.KILLED]


async def test_who_catches_greenlet_exit_is_waited_for(fates: list[str]) -> None:
    """The function goes on; it was not killed, and the caller is cancelled when it has ended."""
    log: list[str] = []

    def stubborn() -> None:
        log.append("begun")
        try:
            gevent.sleep(60)
        except gevent.GreenletExit:
            gevent.sleep(0.01)
            log.append("ended")

    async with GeventExecutor() as pool:
        task = asyncio.ensure_future(pool.run(stubborn))
        await until(lambda: log)
        assert await cancelled(task)
        assert log == ["begun", "ended"]
    assert fates == [Fate.STOPPED]


async def test_a_late_kill_strikes_no_other_call() -> None:
    """Calls that are cancelled as they end leave those that follow them alone."""

    def short() -> int:
        gevent.sleep(0)
        return 1

    async with GeventExecutor(1) as pool:
        for turns in range(40):
            first = asyncio.ensure_future(pool.run(short))
            second = asyncio.ensure_future(pool.run(short))
            for _ in range(turns % 8):
                await asyncio.sleep(0.0002)
            first.cancel()
            await asyncio.wait([first])
            assert await second == 1


async def test_what_gevent_has_for_waiting_works_in_its_hub() -> None:
    """Names, sockets, `select` and gevent's own threads."""

    def use_all() -> list[Any]:
        from gevent import select, socket

        found: list[Any] = [socket.getaddrinfo("127.0.0.1", 80)[0][4][0]]
        here, there = socket.socketpair()
        with here, there:
            there.send(b"x")
            found += [len(select.select([here], [], [], 30)[0]), here.recv(1)]
        found.append(gevent.get_hub().threadpool.spawn(pow, 2, 3).get())
        return found

    async with GeventExecutor() as pool:
        assert await pool.run(use_all) == ["127.0.0.1", 1, b"x", 8]


async def test_exceptions_of_gevent_get_a_meaning() -> None:
    """Its time-out is a TimeoutError; GreenletExit that nobody asked for is told as an exit."""

    def too_slow() -> None:
        with gevent.Timeout(0.001):
            gevent.sleep(60)

    def leave() -> None:
        raise gevent.GreenletExit

    async with GeventExecutor() as pool:
        with pytest.raises(TimeoutError, match=r"too_slow raised gevent\.Timeout: 0.001"):
            await pool.run(too_slow)
        with pytest.raises(WorkerExit, match="raised GreenletExit"):
            await pool.run(leave)


# -- the way back to the loop -----------------------------------------------------------------------


async def test_each_greenlet_has_a_call_of_its_own() -> None:
    """Reports and names of calls that take turns are not mixed; a spawned greenlet has no call."""
    heard: dict[str, list[str]] = {"a": [], "b": []}

    def tell() -> None:
        for _ in range(5):
            worker.report(worker.info().name)
            gevent.sleep(0)

    def ask_in_another() -> None:
        gevent.spawn(worker.info).get()

    async with GeventExecutor() as pool:
        await asyncio.gather(
            *(pool.options(name=name, on_report=heard[name].append).run(tell) for name in heard)
        )
        assert heard == {"a": ["a"] * 5, "b": ["b"] * 5}
        with pytest.raises(
            RuntimeError, match=r"info\(\) was called outside a call.*in a greenlet"
        ):
            await pool.run(ask_in_another)
        with pytest.raises(RuntimeError, match=r"report\(\) was called outside a call"):
            await asyncio.wrap_future(pool.futures.submit(worker.report, 1))


async def test_what_waits_for_the_loop_lets_the_other_greenlets_run() -> None:
    """A call that awaits in the loop, or has too many reports unread, holds up nobody."""
    gate = asyncio.Event()
    reports: list[object] = []

    def report_much() -> str:
        for number in range(2000):
            worker.report(number)
        return "reported"

    async with GeventExecutor() as pool:
        waiting = asyncio.ensure_future(pool.run(worker.call_in_loop, gate.wait))
        reporting = asyncio.ensure_future(pool.options(on_report=reports.append).run(report_much))
        assert await pool.run(pow, 2, 3) == 8
        assert await reporting == "reported"
        assert not waiting.done()
        gate.set()
        assert await waiting
    assert reports == [*range(2000)]


async def test_it_can_take_the_place_of_threads() -> None:
    """`use` makes it the default of offload_io for a block."""
    async with use(GeventExecutor()):
        info = await offload_io(worker.info)
    assert info.executor == "GeventExecutor"


async def test_what_computes_on_keeps_no_outcome_back() -> None:
    """A call that has ended is told at once, though another one then holds the hub."""
    go = threading.Event()

    def hold() -> bool:
        return go.wait(30)  # blocks the hub

    async with GeventExecutor() as pool:
        ended = asyncio.ensure_future(pool.run(pow, 2, 3))
        holding = asyncio.ensure_future(pool.run(hold))
        assert await ended == 8
        assert not holding.done()
        go.set()
        assert await holding


@pytest.mark.loops("asyncio")
def test_virtual_time_stands_still_for_its_calls() -> None:
    """A call takes no virtual time, an idle hub holds back no deadlock."""

    async def main(deadlock: bool = False) -> float:
        async with GeventExecutor() as pool:
            await pool.run(gevent.sleep, 0.01)
            await pool.run(worker.call_in_loop, asyncio.sleep, 1000)
            if deadlock:
                await asyncio.get_running_loop().create_future()
            return asyncio.get_running_loop().time()

    assert run(main) == 1000
    with pytest.raises(DeadlockError):
        run(lambda: main(deadlock=True))


# -- the end ----------------------------------------------------------------------------------------


async def test_the_hub_stays_for_what_was_abandoned() -> None:
    """Closing does not wait for it; the thread ends when it has ended."""
    log: list[str] = []

    def hold() -> None:
        log.append("begun")
        while len(log) < 2:
            gevent.sleep(0.001)

    pool = GeventExecutor()
    task = asyncio.ensure_future(pool.options(on_cancel="abandon").run(hold))
    await until(lambda: log)
    assert await cancelled(task)
    await pool.aclose()
    assert len(threads()) == 1
    log.append("go")
    await until(lambda: not threads())


async def test_closing_with_cancel_ends_all() -> None:
    """What runs, what was abandoned, and what its greenlet has not yet begun."""
    ended: list[str] = []
    begun: list[str] = []

    def hold(name: str) -> None:
        begun.append(name)
        try:
            gevent.sleep(60)
        finally:
            ended.append(name)

    pool = GeventExecutor(3)
    left = asyncio.ensure_future(pool.options(on_cancel="abandon").run(hold, "abandoned"))
    await until(lambda: begun)
    assert await cancelled(left)
    running = asyncio.ensure_future(pool.run(hold, "running"))
    await until(lambda: len(begun) == 2)
    fresh = asyncio.ensure_future(pool.run(hold, "fresh"))
    await asyncio.sleep(0)
    await pool.aclose(cancel=True)
    for task in (running, fresh):
        with pytest.raises(ExecutorClosed, match="closed with cancel=True"):
            await task
    await until(lambda: not threads())
    assert sorted(ended) == sorted(begun)


async def test_what_a_call_spawned_and_did_not_join_ends_with_the_hub() -> None:
    """It gets GreenletExit, and its clean-up may wait; greenlets of other hubs are left alone."""
    log: list[str] = []

    def stray() -> None:
        try:
            gevent.sleep(60)
        finally:
            gevent.sleep(0.001)
            log.append("cleaned up")

    def start() -> None:
        gevent.spawn(stray)
        gevent.sleep(0.001)

    other = GeventExecutor()
    waiting = asyncio.ensure_future(other.run(gevent.sleep, 60))
    async with GeventExecutor() as pool:
        await pool.run(start)
        assert log == []
    assert log == ["cleaned up"]
    assert not waiting.done()
    assert await cancelled(waiting)
    await other.aclose()


async def test_a_stray_that_will_not_end_is_left_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds up the end for a while, and not for ever."""
    monkeypatch.setattr(_gevent, "_STRAYS", 0.01)

    def stubborn() -> None:
        while True:
            try:
                gevent.sleep(60)
            except gevent.GreenletExit:
                pass

    def start() -> None:
        gevent.spawn(stubborn)
        gevent.sleep(0.001)

    async with GeventExecutor() as pool:
        await pool.run(start)
    assert threads() == []
    assert re.search(r"ends, though .*stubborn, spawned in it, has not", caplog.text)


async def test_a_forgotten_executor_ends_its_hub() -> None:
    """Nobody has it any more: its thread goes."""
    pool = GeventExecutor()
    assert await pool.run(pow, 2, 2) == 4
    assert len(threads()) == 1
    del pool
    gc.collect()
    await until(lambda: not threads())


@pytest.mark.slow
def test_a_program_ends_though_a_greenlet_waits() -> None:
    """Neither a call in flight nor a hub that stands holds up the exit."""
    code = """
import asyncio, gevent
from aioconc.executors.greenlets import GeventExecutor, _gevent
pool = GeventExecutor()
async def main():
    task = asyncio.ensure_future(pool.options(on_cancel="abandon").run(gevent.sleep, 600))
    await asyncio.sleep(0.01)
    print(await pool.run(pow, 2, 3))
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (0, "8\n")
    assert "Traceback" not in done.stderr


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_is_refused_where_gevent_has_replaced_threads() -> None:
    """Under monkey.patch_all() there is no thread to put a hub in."""
    code = """
from gevent import monkey
monkey.patch_all()
from aioconc.executors.greenlets import GeventExecutor, _gevent
try:
    GeventExecutor()
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert "does not work under gevent.monkey.patch_all()" in done.stdout, done.stderr


def test_without_gevent_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing engine says what to install."""
    monkeypatch.setitem(sys.modules, "gevent", None)
    with pytest.raises(MissingExtra, match=r"install aioconc\[gevent\]"):
        GeventExecutor()


@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (True, TypeError), (1.5, TypeError)])
def test_max_workers_is_checked(value: Any, kind: type[Exception]) -> None:
    """An int >= 1 and nothing else."""
    with pytest.raises(kind, match="max_workers must be an int >= 1"):
        GeventExecutor(value)


# -- many at once -----------------------------------------------------------------------------------


class Ledger:
    """What the functions of a storm have begun and ended; all in the hub's one thread."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def nap(self, seconds: float) -> str:
        self.begun += 1
        try:
            gevent.sleep(seconds)
            return "slept"
        finally:
            self.ended += 1
            gevent.sleep(0)

    def resist(self, seconds: float) -> str:
        self.begun += 1
        try:
            gevent.sleep(seconds)
        except gevent.GreenletExit:
            gevent.sleep(seconds)
        self.ended += 1
        return "slept"

    def ask(self, seconds: float) -> str:
        self.begun += 1
        try:
            return str(worker.call_in_loop(asyncio.sleep, seconds, "slept"))
        finally:
            self.ended += 1

    def count(self, seconds: float) -> Iterator[str]:
        self.begun += 1
        try:
            for _ in range(5):
                gevent.sleep(seconds / 5)
                yield "slept"
        finally:
            self.ended += 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_a_storm_of_cancels_leaves_nothing(seed: int) -> None:
    """Calls, streams and futures, cancelled, timed out and abandoned at any moment; then closed."""
    dice = random.Random(seed)
    ledger = Ledger()
    pool = GeventExecutor(8)

    async def read(view: GeventExecutor) -> str:
        async with view.stream(ledger.count, 0.002, buffer=1) as items:
            async for item in items:
                if dice.random() < 0.2:
                    return item
        return "slept"

    def start() -> "asyncio.Future[str]":
        view = pool.options(on_cancel=dice.choice(("kill", "kill", "soft", "wait", "abandon")))
        kind = dice.randrange(6)
        seconds = dice.choice((0.0, 0.001, 0.004))
        if kind == 0:
            return asyncio.wrap_future(pool.futures.submit(ledger.nap, seconds))
        if kind == 1:
            return asyncio.ensure_future(read(view))
        fn = dice.choice((ledger.nap, ledger.resist, ledger.ask))
        if kind == 2:
            view = view.options(timeout=0.002)
        return asyncio.ensure_future(view.run(fn, seconds))

    calls = []
    for _ in range(150):
        calls.append(start())
        await asyncio.sleep(dice.choice((0, 0, 0.0005)))
        if dice.random() < 0.4:
            dice.choice(calls).cancel()
    if cancel := bool(seed % 2):
        await pool.aclose(cancel=True)
    found = await asyncio.gather(*calls, return_exceptions=True)
    good = (asyncio.CancelledError, TimeoutError, ExecutorClosed)
    assert all(each == "slept" or isinstance(each, good) for each in found), found
    assert cancel or not any(isinstance(each, ExecutorClosed) for each in found)
    await until(lambda: not pool.statistics().abandoned)
    now = pool.statistics()
    assert (now.busy, now.queued, now.workers) == (0, 0, 0)
    await pool.aclose()
    await until(lambda: not threads())
    assert ledger.begun == ledger.ended
    assert cancel or ledger.ended > 50


async def test_a_second_cancel_hurries_a_stream_that_ends(fates: list[str]) -> None:
    """The reader left early and waits for the clean-up: a cancel now strikes the generator."""
    log: list[str] = []

    def slow_to_end() -> Iterator[int]:
        try:
            yield 1
        finally:
            log.append("ending")
            gevent.sleep(60)

    async def read(pool: GeventExecutor) -> None:
        async with pool.stream(slow_to_end) as items:
            await anext(items)

    async with GeventExecutor() as pool:
        task = asyncio.ensure_future(read(pool))
        await until(lambda: log)
        assert await cancelled(task)
    assert fates == [Fate.KILLED]


def test_a_stream_that_waits_for_room_ends_with_its_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its loop is closed and nobody reads: the greenlet notices, and the pool can be closed."""
    monkeypatch.setattr(_credits, "_LOOK", 0.005)
    made: list[int] = []

    def count() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    pool = GeventExecutor()
    loop = asyncio.new_event_loop()
    stream = pool.stream(count, buffer=1)
    loop.run_until_complete(stream.__aenter__())
    loop.run_until_complete(until(lambda: made))
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.close()
    pool.close()
    assert made == [0]


async def test_futures_are_finished_when_the_executor_is_closed() -> None:
    """As in the standard library, a running one is not cancelled, whatever else is."""
    log: list[str] = []

    def wait() -> str:
        log.append("begun")
        gevent.sleep(0.02)
        return "ended"

    pool = GeventExecutor()
    future = pool.futures.submit(wait)
    await until(lambda: log)
    await pool.aclose(cancel=True)
    assert future.result(timeout=0) == "ended"
    never_used = GeventExecutor()
    await never_used.aclose(timeout=0)
