"""`no_blocking` names what holds the loop, and never what does not."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest

from aioconc.errors import BlockingError
from aioconc.testing import Stall, loop_factory, no_blocking

pytestmark = pytest.mark.loops("all")

# Seconds. The stalls are longer than the threshold by enough for a machine that is busy.
THRESHOLD = 0.02
LONG = 0.1


def line(marker: str) -> str:
    """How a report names the line of this file that ends in `# marker`."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, text in enumerate(lines, 1) if text.endswith(f"  # {marker}")]
    return f"{Path(__file__).name}:{number} in "


@contextlib.contextmanager
def stalls(threshold: float = THRESHOLD) -> Iterator[list[Stall]]:
    """What is found in the block, in which something must be."""
    found: list[Stall] = []
    with pytest.raises(BlockingError) as caught, no_blocking(threshold) as report:
        yield found
    found += report.stalls
    assert list(caught.value.stalls) == [str(each) for each in found]
    for each in caught.value.stalls:
        assert each in str(caught.value)


def compute(seconds: float) -> None:
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass  # computes


async def test_blocking_call_is_named_with_its_line() -> None:
    """A call that sleeps is shown as it is written, with the line and for how long."""

    async def fetch() -> None:
        time.sleep(LONG)  # sleeps

    with stalls() as found:
        await asyncio.sleep(0.001)
        await fetch()
    (stall,) = found
    assert stall.code == "time.sleep(LONG)"
    assert line("sleeps") in str(stall.site) and str(stall.site).endswith("fetch")
    assert stall.inside == ""
    assert stall.seconds > THRESHOLD
    assert f"{stall.seconds:.3f} s: `time.sleep(LONG)` at " in str(stall)


async def test_call_inside_of_the_standard_library_is_named_too() -> None:
    """The line is the user's, and the report says where within the library it was."""
    event = threading.Event()
    with stalls() as found:
        await asyncio.sleep(0)
        event.wait(LONG)  # waits
        await asyncio.sleep(0.001)
    (stall,) = found
    assert stall.code == "event.wait(LONG)"
    assert line("waits") in str(stall.site)
    assert "threading.py" in stall.inside and "wait" in stall.inside


async def test_computing_is_named_too() -> None:
    """Plain Python that takes long holds the loop as much as a call that waits."""
    with stalls() as found:
        await asyncio.sleep(0)
        compute(2 * LONG)
        await asyncio.sleep(0.001)
    (stall,) = found
    assert str(stall.site).endswith("in compute")


async def test_code_that_keeps_the_interpreter_to_itself_is_named_too() -> None:
    """One long call into C lets the watchdog not run either; it is found right after."""
    for _ in range(10):  # what a busy machine may have caused is not reported
        with contextlib.suppress(BlockingError), no_blocking(THRESHOLD) as report:
            await asyncio.sleep(0.01)
            assert sum(range(10_000_000)) > 0  # one call
            await asyncio.sleep(0.001)
        if any(line("one call") in str(each.site) for each in report.stalls):
            return
    pytest.fail("never found")


async def test_callback_that_is_no_task_is_named_too() -> None:
    """What the loop calls by itself may hold it as well."""

    def callback() -> None:
        time.sleep(LONG)  # in a callback

    with stalls() as found:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0.01)
    (stall,) = found
    assert line("in a callback") in str(stall.site)


async def test_each_stall_is_named_once() -> None:
    """Two stalls are two lines, however often they were looked at."""
    with stalls() as found:
        for _ in range(2):
            await asyncio.sleep(0.001)
            time.sleep(LONG)
            await asyncio.sleep(0.001)
    assert len(found) == 2


async def test_stall_in_another_task_is_found() -> None:
    """The loop is watched, not the task that asked."""

    async def other() -> None:
        time.sleep(LONG)  # other task

    with stalls() as found:
        await asyncio.create_task(other())
        await asyncio.sleep(0.001)
    (stall,) = found
    assert line("other task") in str(stall.site)


async def test_waiting_is_not_blocking() -> None:
    """A loop that waits for time, threads or sockets for long is free."""
    with no_blocking(THRESHOLD) as report:
        await asyncio.sleep(3 * THRESHOLD)
        await asyncio.to_thread(time.sleep, 3 * THRESHOLD)
        reader = asyncio.StreamReader()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 3 * THRESHOLD)
    assert report.stalls == []
    assert repr(report) == "<BlockReport 0 stalls>"


@pytest.mark.slow
async def test_loop_that_is_busy_with_short_steps_is_not_blocked() -> None:
    """A loop may be busy all the time, as long as each step is short."""

    async def busy() -> None:
        end = perf_counter() + 1
        while perf_counter() < end:
            compute(0.001)
            await asyncio.sleep(0)

    with no_blocking():
        await asyncio.gather(*(busy() for _ in range(3)))


@pytest.mark.slow
async def test_machine_that_is_busy_is_not_taken_for_a_stall() -> None:
    """Other threads that compute slow the loop down, and no step of it is accused."""
    stop = threading.Event()

    def other() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=other) for _ in range(2)]
    for each in threads:
        each.start()
    try:
        with no_blocking(0.2):
            for _ in range(50):
                await asyncio.sleep(0.01)
    finally:
        stop.set()
        for each in threads:
            each.join()


@pytest.mark.loops("asyncio")
def test_virtual_clock_and_order_are_left_alone() -> None:
    """Nothing is scheduled in a loop of asyncio: hours pass at once, and stalls are real ones."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        with no_blocking(THRESHOLD):
            for _ in range(100):
                await asyncio.sleep(36)
        with stalls() as found:
            await asyncio.sleep(3600)
            time.sleep(LONG)
            await asyncio.sleep(0)
        assert len(found) == 1
        return loop.time()

    began = perf_counter()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        assert runner.run(main()) == pytest.approx(7200)
    assert perf_counter() - began < 30


async def test_exception_of_the_block_leaves_with_the_stalls_as_a_note() -> None:
    """What the block raised is not hidden by what held it up."""
    with pytest.raises(LookupError) as caught, no_blocking(THRESHOLD):
        await asyncio.sleep(0.001)
        time.sleep(LONG)
        raise LookupError
    (note,) = caught.value.__notes__
    assert "held up" in note and "time.sleep(LONG)" in note


async def test_block_that_is_cancelled_raises_its_cancellation() -> None:
    """A cancel leaves as it came, and the watchdog has ended."""

    async def program() -> None:
        with no_blocking(THRESHOLD):
            await asyncio.sleep(60)

    task = asyncio.create_task(program())
    await asyncio.sleep(0.001)
    assert "no_blocking" in {each.name for each in threading.enumerate()}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "no_blocking" not in {each.name for each in threading.enumerate()}


async def test_blocks_may_be_nested() -> None:
    """Each has a watchdog and a threshold of its own."""
    with no_blocking(60) as outer, stalls() as found:
        await asyncio.sleep(0.001)
        time.sleep(LONG)
        await asyncio.sleep(0.001)
    assert len(found) == 1
    assert outer.stalls == []


def test_needs_a_running_loop() -> None:
    """Outside a coroutine there is nothing to watch, and the message says so."""
    with pytest.raises(RuntimeError, match="use it inside a coroutine"), no_blocking():
        pass


async def test_bad_arguments_are_refused() -> None:
    """The value, the rule; and a block is for one use at a time."""
    with pytest.raises(ValueError, match=r"threshold must be a number of seconds > 0, got 0"):
        no_blocking(0)
    block = no_blocking()
    with block, pytest.raises(RuntimeError, match="entered already"):
        block.__enter__()
