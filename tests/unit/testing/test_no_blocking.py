"""`no_blocking` names what holds the loop, and never what does not."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, thread_time

import pytest

from aioconc.errors import BlockingError
from aioconc.testing import Stall, loop_factory, no_blocking

pytestmark = pytest.mark.loops("all")

# Seconds. The stalls are longer than the threshold by enough for a machine that is busy.
THRESHOLD = 0.02
LONG = 0.1

RETRIES = 20  # for what a busy machine may hide: what it may have caused is not reported


def line(marker: str) -> str:
    """How a report names the line of this file that ends in `# marker`."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, text in enumerate(lines, 1) if text.endswith(f"  # {marker}")]
    return f"{Path(__file__).name}:{number} in "


async def stalls(
    where: str, scenario: Callable[[], Awaitable[object]], *, count: int = 1
) -> list[Stall]:
    """The stalls at a place that the scenario holds the loop at, so many times.

    Never more than that. On a busy machine there may be others too, or one of these not, since the
    time for which the machine let it wait does not count: then once more.
    """
    for _ in range(RETRIES):
        found: list[Stall] = []
        try:
            with no_blocking(THRESHOLD) as report:
                found = report.stalls
                await scenario()
        except BlockingError as error:
            assert list(error.stalls) == [str(each) for each in found]
            for each in error.stalls:
                assert each in str(error)
        else:
            assert found == []
        here = [each for each in found if where in str(each.site)]
        assert len(here) <= count, here
        if len(here) == count:
            return here
    return pytest.fail("never found")


def compute(seconds: float) -> None:
    end = thread_time() + seconds  # of a processor, however often others have it meanwhile
    while thread_time() < end:
        pass


async def test_blocking_call_is_named_with_its_line() -> None:
    """A call that sleeps is shown as it is written, with the line and for how long."""

    async def fetch() -> None:
        await asyncio.sleep(0.001)
        time.sleep(LONG)  # sleeps

    (stall,) = await stalls(line("sleeps"), fetch)
    assert stall.code == "time.sleep(LONG)"
    assert str(stall.site).endswith("fetch")
    assert stall.inside == ""
    assert stall.seconds > THRESHOLD
    assert f"{stall.seconds:.3f} s: `time.sleep(LONG)` at " in str(stall)


async def test_call_inside_of_the_standard_library_is_named_too() -> None:
    """The line is the user's, and the report says where within the library it was."""
    event = threading.Event()

    async def scenario() -> None:
        await asyncio.sleep(0)
        event.wait(LONG)  # waits
        await asyncio.sleep(0.001)

    (stall,) = await stalls(line("waits"), scenario)
    assert stall.code == "event.wait(LONG)"
    assert "threading.py" in stall.inside and "wait" in stall.inside


async def test_computing_is_named_too() -> None:
    """Plain Python that takes long holds the loop as much as a call that waits."""

    async def scenario() -> None:
        await asyncio.sleep(0)
        compute(2 * LONG)
        await asyncio.sleep(0.001)

    await stalls("in compute", scenario)


async def test_code_that_keeps_the_interpreter_to_itself_is_named_too() -> None:
    """One long call into C lets the watchdog not run either; it is found right after."""
    length = 10_000_000

    async def scenario() -> None:
        nonlocal length
        await asyncio.sleep(0.01)
        assert sum(range(length)) > 0  # one call
        await asyncio.sleep(0.001)
        length += 5_000_000  # the next try, if there is one, is easier to see on a busy machine

    await stalls(line("one call"), scenario)


async def test_callback_that_is_no_task_is_named_too() -> None:
    """What the loop calls by itself may hold it as well."""

    def callback() -> None:
        time.sleep(LONG)  # in a callback

    async def scenario() -> None:
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0.01)

    await stalls(line("in a callback"), scenario)


async def test_each_stall_is_named_once() -> None:
    """Two stalls are two lines, however often they were looked at."""

    async def scenario() -> None:
        for _ in range(2):
            await asyncio.sleep(0.001)
            time.sleep(LONG)  # twice
            await asyncio.sleep(0.001)

    await stalls(line("twice"), scenario, count=2)


async def test_stall_in_another_task_is_found() -> None:
    """The loop is watched, not the task that asked."""

    async def other() -> None:
        time.sleep(LONG)  # other task

    async def scenario() -> None:
        await asyncio.create_task(other())
        await asyncio.sleep(0.001)

    await stalls(line("other task"), scenario)


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

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with no_blocking(THRESHOLD):
            for _ in range(100):
                await asyncio.sleep(36)
        assert loop.time() == pytest.approx(3600)
        await stalls(line("in virtual time"), scenario)

    async def scenario() -> None:
        await asyncio.sleep(3600)
        time.sleep(LONG)  # in virtual time
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


async def test_exception_of_the_block_leaves_with_the_stalls_as_a_note() -> None:
    """What the block raised is not hidden by what held it up."""
    notes: list[str] = []
    for _ in range(RETRIES):
        with pytest.raises(LookupError) as caught, no_blocking(THRESHOLD):
            await asyncio.sleep(0.001)
            time.sleep(LONG)
            raise LookupError
        notes = getattr(caught.value, "__notes__", [])
        if notes:
            break
    (note,) = notes
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

    async def scenario() -> None:
        await asyncio.sleep(0.001)
        time.sleep(LONG)  # nested
        await asyncio.sleep(0.001)

    with no_blocking(60) as outer:
        await stalls(line("nested"), scenario)
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
