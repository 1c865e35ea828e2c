"""`open_signals` and `graceful` within one process; real programs are in tests/system."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aioconc.runtime import graceful, open_signals
from aioconc.runtime._listen import listening
from aioconc.tasks import TaskGroup, move_on_after
from aioconc.testing import cancel_everywhere, loop_factory

pytestmark = [
    pytest.mark.loops("all"),
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]

ONE, TWO = signal.SIGUSR1, signal.SIGUSR2


def send(number: int) -> None:
    os.kill(os.getpid(), number)


# ------------------------------------------------------------------ open_signals


async def test_signals_come_in_their_order() -> None:
    """Each as a member of `signal.Signals`, those that came before the first read too."""
    async with open_signals(ONE, TWO) as arriving:
        send(TWO)
        send(ONE)
        assert await anext(arriving) is TWO
        assert await anext(arriving) is ONE
        asyncio.get_running_loop().call_later(0.001, send, ONE)
        assert await anext(arriving) is ONE


async def test_signal_that_was_not_read_yet_is_given_once() -> None:
    """Many of one kind are one, as for the system; what waits is bounded."""
    async with open_signals(ONE, TWO) as arriving:
        for _ in range(100):
            send(ONE)
        send(TWO)
        assert await anext(arriving) is ONE
        assert await anext(arriving) is TWO
        with move_on_after(0.005):
            pytest.fail(f"got {await anext(arriving)!r}")


async def test_signal_that_is_named_twice_is_heard_once() -> None:
    """A slip that does no harm, and the handler comes back."""
    before = signal.getsignal(ONE)
    async with open_signals(ONE, ONE) as arriving:
        send(ONE)
        assert await anext(arriving) is ONE
    assert signal.getsignal(ONE) is before
    async with graceful(ONE, ONE) as shutdown:
        send(ONE)
        await shutdown.requested.wait()
        await asyncio.sleep(0.001)
    assert not shutdown.cancelled


async def test_signal_without_a_name_is_its_number() -> None:
    """Real-time signals are given as the numbers that they are."""
    if not hasattr(signal, "SIGRTMIN"):
        pytest.skip("no real-time signals here")
    number = int(signal.SIGRTMIN) + 1
    async with open_signals(number) as arriving:
        send(number)
        assert await anext(arriving) == number


@pytest.mark.parametrize("earlier", [signal.SIG_IGN, signal.SIG_DFL, print])
async def test_earlier_handler_comes_back(earlier: object) -> None:
    """Whatever it was, and also when the block fails."""
    before = signal.signal(ONE, earlier)  # type: ignore[arg-type]
    try:
        with pytest.raises(LookupError):
            async with open_signals(ONE):
                assert signal.getsignal(ONE) is not earlier
                raise LookupError
        assert signal.getsignal(ONE) is earlier
    finally:
        signal.signal(ONE, before)


async def test_several_blocks_hear_one_signal() -> None:
    """Each gets every one, and they may end in any order."""
    before = signal.getsignal(ONE)
    first, second = open_signals(ONE), open_signals(ONE)
    one = await first.__aenter__()
    two = await second.__aenter__()
    send(ONE)
    assert await anext(one) is ONE
    assert await anext(two) is ONE
    await first.__aexit__(None, None, None)
    send(ONE)
    assert await anext(two) is ONE
    await second.__aexit__(None, None, None)
    assert signal.getsignal(ONE) is before


async def test_handler_that_somebody_set_meanwhile_is_left() -> None:
    """The block takes back its own handler only."""
    before = signal.getsignal(ONE)
    try:
        async with open_signals(ONE):
            signal.signal(ONE, print)
        assert signal.getsignal(ONE) is print
    finally:
        signal.signal(ONE, before)


@pytest.mark.parametrize("make", [open_signals, graceful])
async def test_block_inside_of_another_handler_hears_and_puts_that_back(make: Any) -> None:
    """Also where an earlier block is open around it, whose own handler somebody has replaced."""
    before = signal.getsignal(ONE)
    async with graceful(ONE) as outer:
        ours = signal.signal(ONE, print)
        async with make(ONE) as inner:
            send(ONE)
            if make is graceful:
                await inner.requested.wait()
            else:
                assert await anext(inner) is ONE
        assert signal.getsignal(ONE) is print
        signal.signal(ONE, ours)
        send(ONE)
        await outer.requested.wait()
    assert signal.getsignal(ONE) is before


async def test_blocks_end_in_any_order_around_another_handler() -> None:
    """Each handler comes back when the last of the blocks that replaced it has ended."""
    before = signal.getsignal(ONE)
    blocks = [open_signals(ONE) for _ in range(4)]
    try:
        for each in blocks[:2]:
            await each.__aenter__()
        signal.signal(ONE, print)
        for each in blocks[2:]:
            await each.__aenter__()
        await blocks[2].__aexit__(None, None, None)
        await blocks[3].__aexit__(None, None, None)
        assert signal.getsignal(ONE) is print
        async with open_signals(ONE):
            await blocks[0].__aexit__(None, None, None)
        await blocks[1].__aexit__(None, None, None)
        assert signal.getsignal(ONE) is print
    finally:
        signal.signal(ONE, before)


async def test_block_that_was_left_behind_with_its_loop_deafens_no_other() -> None:
    """A forced end leaves blocks of a closed loop; who took the handler back need not know them."""
    before = signal.getsignal(ONE)
    earlier = asyncio.new_event_loop()
    left = listening("test", earlier, (ONE,), lambda _: None)
    left.__enter__()
    earlier.close()
    signal.signal(ONE, before)
    async with graceful(ONE) as shutdown:
        send(ONE)
        await shutdown.requested.wait()
    assert signal.getsignal(ONE) is before
    left.__exit__(None, None, None)
    assert signal.getsignal(ONE) is before


async def test_cancelled_read_loses_no_signal() -> None:
    """One that arrived in the tick of the cancel is given to the next read."""
    async with open_signals(ONE) as arriving:
        reader = asyncio.ensure_future(anext(arriving))
        await asyncio.sleep(0)
        send(ONE)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert await anext(arriving) is ONE


async def test_reading_ends_with_the_block() -> None:
    """A task that still reads sees the end of the iterator."""
    async with open_signals(ONE) as arriving:
        reader = asyncio.ensure_future(anext(arriving, None))
        await asyncio.sleep(0)
    assert await reader is None
    assert [each async for each in arriving] == []
    assert "closed" in repr(arriving)


async def test_signal_to_another_thread_wakes_the_loop() -> None:
    """The system may hand a signal to any thread; the loop's wait ends all the same."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        async with open_signals(ONE) as arriving, asyncio.timeout(30):
            for _ in range(5):
                assert thread.ident is not None
                asyncio.get_running_loop().call_later(
                    0.001, lambda: to_thread_soon(thread.ident or 0)
                )
                assert await anext(arriving) is ONE
    finally:
        stop.set()
        thread.join()


def to_thread_soon(ident: int) -> None:
    """Sends it while the loop waits, from yet another thread."""

    def main() -> None:
        signal.pthread_kill(ident, ONE)

    threading.Timer(0.005, main).start()


async def test_loops_own_handlers_go_on_working() -> None:
    """Those of `loop.add_signal_handler`, set before or inside, also after the block."""
    loop = asyncio.get_running_loop()
    heard: list[str] = []
    loop.add_signal_handler(TWO, heard.append, "two")
    try:
        async with open_signals(ONE) as arriving:
            send(TWO)
            send(ONE)
            assert await anext(arriving) is ONE
        send(TWO)
        while len(heard) < 2:
            await asyncio.sleep(0.001)
    finally:
        loop.remove_signal_handler(TWO)


async def test_entry_and_read_inside_a_cancelled_scope_raise_at_once() -> None:
    """A cancelled scope is checked at each await."""
    before = signal.getsignal(ONE)
    with move_on_after(0) as scope:
        scope.cancel()
        async with open_signals(ONE):
            pytest.fail("entered")
    assert signal.getsignal(ONE) is before
    async with open_signals(ONE) as arriving:
        with move_on_after(0) as scope:
            scope.cancel()
            await anext(arriving)
            pytest.fail("read")


async def test_second_reader_is_refused() -> None:
    """Two tasks that want all signals open a block each."""
    async with open_signals(ONE) as arriving:
        reader = asyncio.ensure_future(anext(arriving))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="open another"):
            await anext(arriving)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader


@pytest.mark.parametrize("make", [open_signals, graceful])
async def test_bad_signals_are_refused(make: object) -> None:
    """What does not exist, what nobody can handle."""
    with pytest.raises(ValueError, match="SIGKILL cannot be handled"):
        make(signal.SIGKILL)  # type: ignore[operator]
    with pytest.raises(ValueError, match="signal numbers, got 1234"):
        make(1234)  # type: ignore[operator]


async def test_wrong_use_is_refused() -> None:
    """No signal, a bare `async for`, a second entry, SIGCHLD on uvloop."""
    with pytest.raises(ValueError, match="at least one signal"):
        open_signals()
    with pytest.raises(TypeError, match="async with open_signals"):
        async for _ in open_signals(ONE):  # type: ignore[attr-defined]
            pass
    block = open_signals(ONE)
    assert "new" in repr(block)
    async with block:
        with pytest.raises(RuntimeError, match="entered before"):
            await block.__aenter__()
    if not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        with pytest.raises(RuntimeError, match="SIGCHLD on uvloop"):
            await open_signals(ONE, signal.SIGCHLD).__aenter__()
    assert signal.getsignal(ONE) == signal.SIG_DFL


@pytest.mark.parametrize("make", [lambda: open_signals(ONE), graceful])
def test_other_threads_are_refused(make: object) -> None:
    """Handlers run in the main thread; the message says where to open it."""
    errors: list[BaseException] = []

    async def main() -> None:
        try:
            async with make():  # type: ignore[operator]
                pass
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="other")
    thread.start()
    thread.join()
    assert "main thread only" in str(errors[0])
    assert "'other'" in str(errors[0])


# ------------------------------------------------------------------ graceful


async def test_first_signal_asks_and_the_body_ends_by_itself() -> None:
    """Nothing is cancelled; the block tells which signal it was."""
    async with graceful(ONE, drain=60) as shutdown:
        assert (shutdown.signal, shutdown.requested.is_set()) == (None, False)
        assert repr(shutdown) == "<Shutdown not requested>"
        send(ONE)
        await shutdown.requested.wait()
        await asyncio.sleep(0.001)
    assert shutdown.signal is ONE
    assert not shutdown.cancelled
    assert repr(shutdown) == "<Shutdown requested by SIGUSR1>"


async def test_end_of_the_drain_cancels_the_body() -> None:
    """What has not ended in time is cancelled, and the code after the block runs."""
    log = []
    async with graceful(ONE, drain=0.01) as shutdown:
        send(ONE)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log.append("clean")
    assert log == ["clean"]
    assert shutdown.cancelled
    assert repr(shutdown) == "<Shutdown cancelled by SIGUSR1>"


def test_drain_of_an_hour_takes_an_hour_of_virtual_time() -> None:
    """The drain time is counted from the first signal, on the clock of the loop."""

    async def main() -> float:
        await asyncio.sleep(1)
        async with graceful(ONE, drain=3600) as shutdown:
            await asyncio.sleep(1)
            send(ONE)
            await asyncio.get_running_loop().create_future()
        assert shutdown.cancelled
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        began = runner.get_loop().time()
        assert runner.run(main()) - began == pytest.approx(3602)


async def test_second_signal_cancels_the_body() -> None:
    """Also another one than the first, and the tasks of a group inside."""
    log = []

    async def child() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log.append("clean")

    async with graceful(ONE, TWO, drain=None) as shutdown, TaskGroup() as group:
        group.start_soon(child)
        send(ONE)
        await shutdown.requested.wait()
        send(TWO)
    assert log == ["clean"]
    assert shutdown.cancelled
    assert shutdown.signal is ONE


async def test_request_by_hand_counts_as_the_first() -> None:
    """A program may ask itself; the next signal cancels."""
    async with graceful(ONE, drain=60) as shutdown:
        shutdown.request()
        shutdown.request()
        assert shutdown.requested.is_set()
        assert shutdown.signal is None
        send(ONE)
        await asyncio.get_running_loop().create_future()
    assert shutdown.cancelled
    assert shutdown.signal is ONE


async def test_block_without_signals_changes_nothing() -> None:
    """It ends with its body, errors and outer cancels leave as they come, handlers come back."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with graceful() as shutdown:
        assert signal.getsignal(signal.SIGTERM) not in before
    assert not shutdown.requested.is_set()
    with pytest.raises(LookupError):
        async with graceful():
            raise LookupError
    with move_on_after(0.001) as scope:
        async with graceful():
            await asyncio.get_running_loop().create_future()
    assert scope.cancelled_caught
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_ignored_signal_stays_ignored() -> None:
    """As for `run`: what nohup or a shell has set is not taken over."""
    before = signal.signal(ONE, signal.SIG_IGN)
    try:
        async with graceful(ONE, TWO) as shutdown:
            send(ONE)
            await asyncio.sleep(0.005)
            assert not shutdown.requested.is_set()
    finally:
        signal.signal(ONE, before)


async def test_graceful_takes_a_signal_without_a_name() -> None:
    """A real-time signal asks as any other does; it is told as its number."""
    if not hasattr(signal, "SIGRTMIN"):
        pytest.skip("no real-time signals here")
    number = int(signal.SIGRTMIN) + 1
    async with graceful(number, drain=60) as shutdown:
        send(number)
        await shutdown.requested.wait()
    assert shutdown.signal == number
    assert repr(shutdown) == f"<Shutdown requested by signal {number}>"


async def test_third_signal_that_ends_nothing_by_default_gives_its_handler_back() -> None:
    """The system ignores it, so the block is still there, and ends as any other."""
    before = signal.getsignal(signal.SIGURG)
    async with graceful(signal.SIGURG, drain=None) as shutdown:
        for _ in range(3):
            send(signal.SIGURG)
        await asyncio.get_running_loop().create_future()
    assert shutdown.cancelled
    assert signal.getsignal(signal.SIGURG) is before


async def test_graceful_serves_once() -> None:
    """And its arguments are checked at the call."""
    block = graceful(ONE)
    async with block:
        with pytest.raises(RuntimeError, match="entered before"):
            await block.__aenter__()
    with pytest.raises(ValueError, match="drain must be a number of seconds"):
        graceful(ONE, drain=-1)


@pytest.mark.parametrize("loop", ["virtual", "uvloop"])
def test_cancelled_at_any_await(loop: str) -> None:
    """In a read, in the body, in the drain: handlers come back, nothing is left."""
    before = signal.getsignal(ONE)

    @contextmanager
    def sent_soon() -> Iterator[None]:
        """And not after the block is left, when the signal would end this process."""
        timer = asyncio.get_running_loop().call_later(0.01, send, ONE)
        try:
            yield
        finally:
            timer.cancel()

    async def reads() -> None:
        async with open_signals(ONE, TWO) as arriving:
            with sent_soon():
                assert await anext(arriving) is ONE
            send(TWO)
            assert await anext(arriving) is TWO

    async def drains() -> None:
        async with graceful(ONE, drain=30) as shutdown:
            with sent_soon():
                await shutdown.requested.wait()
            await asyncio.sleep(0.01)

    def check() -> None:
        assert signal.getsignal(ONE) is before

    factory = None
    if loop == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    for program in (reads, drains):
        report = cancel_everywhere(program, check=check, loop_factory=factory)
        assert report.points
        assert not report.swallowed
