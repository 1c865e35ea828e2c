"""`watch_loop` tells what holds the loop up: once, where, and why."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, thread_time

import pytest

from aioconc._bridge._watchdog import Watchdog
from aioconc._internal import _hooks
from aioconc.runtime import LoopStall, WatchStatistics, watch_loop

# Seconds. The stalls are longer than the threshold by enough for a machine that is busy.
THRESHOLD = 0.03
LONG = 0.1

RETRIES = 10  # for what a busy machine may hide: what it may have caused is not reported


def line(marker: str) -> str:
    """How a report names the line of this file that ends in `# marker`."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, text in enumerate(lines, 1) if text.endswith(f"  # {marker}")]
    return f"{Path(__file__).name}:{number} in "


def compute(seconds: float) -> None:
    """Uses a processor for so long, however often others have it meanwhile."""
    end = thread_time() + seconds
    while thread_time() < end:
        pass


async def told(
    marker: str, scenario: Callable[[], Awaitable[object]]
) -> tuple[LoopStall, list[LoopStall], watch_loop]:
    """The stall at a line that the scenario runs once, and all that were told in the same watch.

    Told once at most. On a busy machine others may be told too, or this one not, since the time for
    which the machine let it wait does not count: then once more.
    """
    for _ in range(RETRIES):
        found: list[LoopStall] = []
        with watch_loop(THRESHOLD, found.append) as watch:
            await asyncio.sleep(0.001)
            await scenario()
            await asyncio.sleep(2 * THRESHOLD)
        here = [each for each in found if line(marker) in each.where]
        assert len(here) <= 1, here
        if here:
            return here[0], found, watch
    return pytest.fail("never told")


async def test_blocking_call_is_told_once_with_its_line_and_task() -> None:
    """However often it was looked at, one stall is one report: duration, line, stack, task."""

    async def fetch() -> None:
        time.sleep(LONG)  # sleeps

    stall, found, watch = await told("sleeps", lambda: asyncio.create_task(fetch(), name="fetcher"))
    assert stall.cause == "code"
    assert stall.where.endswith("fetch")
    assert stall.task == "fetcher"
    assert stall.stack[-1].name == "fetch"
    assert stall.stack[-1].line == "time.sleep(LONG)  # sleeps"
    assert stall.seconds > THRESHOLD
    assert (stall.ongoing, stall.suppressed) == (False, 0)
    seconds = [each.seconds for each in found]
    expected = WatchStatistics(len(found), pytest.approx(sum(seconds)), max(seconds), 0)  # type: ignore[arg-type]
    assert watch.statistics() == expected


@pytest.mark.loops("asyncio")
async def test_stack_begins_at_the_callback() -> None:
    """What runs the loop is left out."""

    async def fetch() -> None:
        time.sleep(LONG)  # alone

    stall, _, _ = await told("alone", lambda: asyncio.create_task(fetch()))
    assert [each.name for each in stall.stack] == ["fetch"]


async def test_report_reads_like_a_traceback() -> None:
    """What is told names duration, line and task, and shows the stack."""

    async def fetch() -> None:
        time.sleep(LONG)  # holds

    stall, _, _ = await told("holds", fetch)
    text = str(stall)
    assert text.startswith(f"the event loop was held up for {stall.seconds:.3f} s by ")
    assert line("holds") in text
    assert "    time.sleep(LONG)" in text


async def test_stalls_are_logged_unless_there_is_a_function_for_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By default they are warnings of the library's logger."""
    for _ in range(RETRIES):
        with caplog.at_level(logging.INFO, "aioconc"), watch_loop(THRESHOLD):
            await asyncio.sleep(0.001)
            time.sleep(LONG)  # is logged
            await asyncio.sleep(0.001)
        records = [each for each in caplog.records if line("is logged") in each.getMessage()]
        if records:
            break
    assert (records[0].name, records[0].levelname) == ("aioconc", "WARNING")


async def test_computing_is_told_too() -> None:
    """Plain Python that takes long holds the loop as much as a call that waits."""

    async def scenario() -> None:
        end = thread_time() + LONG  # of a processor, however often others have it meanwhile
        sum(1 for _ in iter(lambda: thread_time() < end, False))  # computes

    stall, _, _ = await told("computes", scenario)
    assert stall.cause in ("code", "gil")  # as the machine is


async def test_callback_that_is_no_task_is_told_too() -> None:
    """What the loop calls by itself has no task."""

    def callback() -> None:
        time.sleep(LONG)  # in a callback

    async def scenario() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0.001)

    stall, _, _ = await told("in a callback", scenario)
    assert stall.task is None


@pytest.mark.slow
async def test_each_stall_is_told_once() -> None:
    """Two stalls at one line are two reports."""
    for _ in range(RETRIES):
        found: list[LoopStall] = []
        with watch_loop(THRESHOLD, found.append):
            for _ in range(2):
                await asyncio.sleep(0.001)
                time.sleep(LONG)  # twice
                await asyncio.sleep(2 * THRESHOLD)
        here = [each for each in found if line("twice") in each.where]
        assert len(here) <= 2
        if len(here) == 2:
            return
    pytest.fail("never told both")


@pytest.mark.slow
async def test_waiting_is_not_blocking() -> None:
    """A loop that waits for time, threads or sockets for long is free."""
    with watch_loop(0.1) as watch:
        await asyncio.sleep(0.3)
        await asyncio.to_thread(time.sleep, 0.3)
        reader = asyncio.StreamReader()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.3)
    assert watch.statistics() == WatchStatistics(0, 0.0, 0.0, 0)


async def test_garbage_collection_is_told_apart() -> None:
    """A stall that is mostly the collector's says so, with its share."""
    circles = [[] for _ in range(400_000)]
    for each in circles:
        each.append(circles)
    for _ in range(RETRIES):
        found: list[LoopStall] = []
        with watch_loop(0.01, found.append):
            await asyncio.sleep(0.001)
            gc.collect()
            await asyncio.sleep(0.02)
        if found and found[0].cause == "gc":
            break
    else:
        pytest.fail(f"never told: {found}")
    assert found[0].gc_seconds > found[0].seconds / 2
    assert "by the garbage collector" in str(found[0])
    assert "garbage collection)" in str(found[0])
    assert not any(each.filename.endswith("_gc_clock.py") for each in found[0].stack)


@pytest.mark.slow
async def test_step_that_other_threads_slow_down_is_told_apart() -> None:
    """A short step that waits for the interpreter most of the time is not accused alone."""
    stop = threading.Event()

    def other() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=other) for _ in range(4)]
    for each in threads:
        each.start()
    try:
        for _ in range(3 * RETRIES):
            found: list[LoopStall] = []
            with watch_loop(0.05, found.append):
                await asyncio.sleep(0.001)
                compute(0.04)
                await asyncio.sleep(0.001)
            if any(each.cause == "gil" for each in found):
                break
        else:
            pytest.fail(f"never told apart: {found}")
    finally:
        stop.set()
        for each in threads:
            each.join()


async def test_debugger_is_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that stands in a debugger is no fault of the program: it is logged as info."""
    code = compile("def stands(wait):\n    wait()\n", "/usr/lib/python3/bdb.py", "exec")
    namespace: dict[str, object] = {}
    exec(code, namespace)
    for _ in range(RETRIES):
        with caplog.at_level(logging.INFO, "aioconc"), watch_loop(THRESHOLD):
            await asyncio.sleep(0.001)
            namespace["stands"](lambda: time.sleep(LONG))  # type: ignore[operator]
            await asyncio.sleep(0.001)
        records = [each for each in caplog.records if "by a debugger" in each.getMessage()]
        if records:
            break
    assert records[0].levelname == "INFO"


async def test_too_many_stalls_are_counted_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than so many in a minute the rest is suppressed, and the next report says how many."""
    import aioconc.runtime._stall_report as report

    found: list[LoopStall] = []

    async def stall_until(reached: Callable[[], bool]) -> None:
        for _ in range(20 * report._MOST):  # a busy machine may hide some
            await asyncio.sleep(0.001)
            time.sleep(0.03)
            await asyncio.sleep(0.01)
            if reached():
                return
        pytest.fail("never reached")

    with watch_loop(0.01, found.append) as watch:
        await stall_until(lambda: watch.statistics().suppressed > 0)
        assert len(found) == report._MOST
        monkeypatch.setattr(report, "_PERIOD", 0.0)
        await stall_until(lambda: len(found) > report._MOST)
    suppressed = watch.statistics().suppressed
    assert watch.statistics().stalls == len(found) + suppressed
    assert found[report._MOST].suppressed == suppressed
    assert f"{suppressed} stalls before it were not told" in str(found[report._MOST])


async def test_hang_is_told_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall that may never end is told once, from the watching thread, and not at its end."""
    import aioconc.runtime._stall_report as report

    monkeypatch.setattr(report, "_LONG", (1, 0.01))
    found: list[LoopStall] = []
    told = threading.Event()

    def tell(stall: LoopStall) -> None:
        found.append(stall)
        if line("hangs until it is told") in stall.where:
            told.set()

    with watch_loop(THRESHOLD, tell):
        await asyncio.sleep(0.001)
        assert told.wait(30)  # hangs until it is told
        await asyncio.sleep(2 * THRESHOLD)
    (stall,) = [each for each in found if line("hangs until it is told") in each.where]
    assert stall.ongoing
    assert "has been held up" in str(stall)


async def test_function_that_fails_is_logged_and_the_watch_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The loop's program is not disturbed by what its observer does."""
    calls: list[LoopStall] = []

    def fails(stall: LoopStall) -> None:
        calls.append(stall)
        raise LookupError

    with watch_loop(THRESHOLD, fails):
        for _ in range(RETRIES):
            await asyncio.sleep(0.001)
            time.sleep(LONG)
            await asyncio.sleep(2 * THRESHOLD)
            if len(calls) >= 2:
                break
    assert len(calls) >= 2
    assert [each.exc_info is not None for each in caplog.records] == [True] * len(calls)


async def test_listeners_hear_of_it() -> None:
    """Low layers tell what happened through the hooks."""
    heard: list[tuple[str, dict[str, object]]] = []
    found: list[LoopStall] = []
    end = _hooks.subscribe(lambda event, fields: heard.append((event, fields)))
    try:
        with watch_loop(THRESHOLD, found.append):
            for _ in range(RETRIES):
                await asyncio.sleep(0.001)
                time.sleep(LONG)
                await asyncio.sleep(0.001)
                if found:
                    break
    finally:
        end()
    assert heard == [("loop.stalled", {"stall": each}) for each in found]


async def test_watches_may_be_nested_and_end_with_their_block() -> None:
    """Each has a threshold of its own; no thread, timer or collector hook is left."""
    hooks = len(gc.callbacks)
    with watch_loop(60) as outer, watch_loop(THRESHOLD, lambda _: None) as inner:
        assert [each.name for each in threading.enumerate()].count("watch_loop") == 2
        for _ in range(RETRIES):
            await asyncio.sleep(0.001)
            time.sleep(LONG)
            await asyncio.sleep(0.001)
            if inner.statistics().stalls:
                break
        assert repr(inner).startswith("<watch_loop 0.03 s, watching, ")
    assert outer.statistics().stalls == 0
    assert inner.statistics().stalls > 0
    assert "watch_loop" not in [each.name for each in threading.enumerate()]
    assert len(gc.callbacks) == hooks
    assert "ended" in repr(inner)


async def test_block_that_is_cancelled_ends_its_watch() -> None:
    """A cancel leaves as it came, and the thread has ended."""

    async def program() -> None:
        with watch_loop(THRESHOLD):
            await asyncio.sleep(60)

    task = asyncio.create_task(program())
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "watch_loop" not in {each.name for each in threading.enumerate()}


def test_virtual_time_is_left_alone() -> None:
    """On a clock of its own there are no ticks: hours pass at once, and a deadlock is one."""
    from aioconc.errors import DeadlockError
    from aioconc.testing import loop_factory

    async def main() -> None:
        with watch_loop(THRESHOLD):
            for _ in range(100):
                await asyncio.sleep(3600)
            await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=loop_factory()) as runner, pytest.raises(DeadlockError):
        runner.run(main())


async def test_threshold_longer_than_any_clock_never_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system's clocks do not count so far; the watch only waits for its end."""
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    with watch_loop(1e300) as watch:
        await asyncio.sleep(0.001)
    assert not failures
    assert watch.statistics().stalls == 0


async def test_watch_that_is_ended_in_its_own_thread_ends() -> None:
    """The collector may end a block there that was never left; it does not wait for itself."""
    over = threading.Event()

    class Ends:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_, **__: None

        def remember(self, frame: object, *, again: bool) -> None:
            if not over.is_set():
                watchdog.end()
                over.set()

    watchdog = Watchdog(
        asyncio.get_running_loop(), 0.01, Ends(), looks=4, name="ends itself", timer=True
    )
    watchdog.begin()
    await asyncio.sleep(0.001)
    assert over.wait(30)
    watchdog._thread.join()


def test_needs_a_running_loop() -> None:
    """Outside a coroutine there is nothing to watch, and the message says so."""
    with pytest.raises(RuntimeError, match="use it inside a coroutine"), watch_loop():
        pass


async def test_bad_arguments_are_refused() -> None:
    """The value and the rule; and a watch is for one block."""
    with pytest.raises(ValueError, match=r"threshold must be a number of seconds > 0, got 0"):
        watch_loop(0)
    with pytest.raises(TypeError, match="on_block must be a function"):
        watch_loop(1, 42)  # type: ignore[arg-type]
    watch = watch_loop()
    assert "new" in repr(watch)
    with watch, pytest.raises(RuntimeError, match="entered before"):
        watch.__enter__()


STOPPED = """
import asyncio, sys
from aioconc.runtime import run, watch_loop
async def main():
    with watch_loop(0.05, lambda stall: print(stall.cause, stall.ongoing, flush=True)):
        print("ready", flush=True)
        while True:
            await asyncio.sleep(0.01)
run(main, loop=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="tells it from the thread's switches")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_process_that_was_stopped_is_told_apart(loop: str) -> None:
    """A program that was stopped and went on was not held up by its own code."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, loop], stdout=subprocess.PIPE, text=True
    )
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(process.pid, signal.SIGCONT)
        while (told := process.stdout.readline()) not in ("suspended False\n", ""):
            pass  # a busy machine may have caused others
        assert told == "suspended False\n"


@pytest.mark.slow
@pytest.mark.soak
async def test_ten_seconds_of_idling_are_told_of_as_nothing() -> None:
    """A loop that only waits is never taken for a blocked one."""
    with watch_loop(0.1) as watch:
        end = perf_counter() + 10
        while perf_counter() < end:
            await asyncio.sleep(1)
    assert watch.statistics() == WatchStatistics(0, 0.0, 0.0, 0)


@pytest.mark.slow
async def test_third_of_a_second_is_told_once_with_the_right_line() -> None:
    """At the default threshold, in the middle of other work."""

    async def busy() -> None:
        for _ in range(100):
            await asyncio.sleep(0.01)

    async def stall() -> None:
        await asyncio.sleep(0.3)
        time.sleep(0.3)  # a third

    for _ in range(RETRIES):
        found: list[LoopStall] = []
        with watch_loop(on_block=found.append):
            await asyncio.gather(busy(), busy(), stall())
        here = [each for each in found if line("a third") in each.where]
        assert len(here) <= 1
        if here:
            break
    assert here[0].seconds > 0.1
