"""`graceful` and `open_signals` in real programs that get real signals, on both loops."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import IO, Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PRELUDE = """
import asyncio, os, signal, sys, time
from aioconc import TaskGroup, offload_cpu, run
from aioconc.runtime import graceful, open_signals
LOOP = {loop!r}
def say(*words):
    print(*words, flush=True)
async def forever():
    await asyncio.get_running_loop().create_future()
"""


class Program:
    """A Python program that says what it does, line by line."""

    def __init__(self, process: "subprocess.Popen[str]", out: IO[str]) -> None:
        self.process = process
        self.out = out

    def hear(self, *lines: str) -> None:
        """Wait until it has said these."""
        for line in lines:
            assert self.out.readline().strip() == line

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end: status, and what it said until then."""
        status = self.process.wait(timeout=30)
        return status, self.out.read().splitlines()


@pytest.fixture(params=["asyncio", "uvloop"])
def program(request: pytest.FixtureRequest) -> Any:
    """Starts a program that says "ready"."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    @contextlib.contextmanager
    def start(text: str) -> Iterator[Program]:
        source = PRELUDE.format(loop=request.param) + textwrap.dedent(text)
        process = subprocess.Popen(
            [sys.executable, "-c", source], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            try:
                started = Program(process, process.stdout)
                started.hear("ready")
                yield started
            finally:
                process.kill()

    return start


WORKS = """
    async def work(shutdown):
        n = 0
        while not shutdown.requested.is_set():
            await asyncio.sleep(0.001)
        say("draining")
        await drain()
        say("drained")
    async def main():
        async with graceful(drain=DRAIN) as shutdown:
            async with TaskGroup() as group:
                group.start_soon(work, shutdown)
                say("ready")
        say("left", shutdown.signal.name, shutdown.cancelled)
    run(main, loop=LOOP)
    say("not killed")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_lets_the_program_finish(program: Any, number: signal.Signals) -> None:
    """Ctrl-C or a process manager asks; the program drains, and ends as if nobody had asked."""
    with program("DRAIN = 60\ndrain = lambda: asyncio.sleep(0.01)" + unindented(WORKS)) as it:
        it.send(number)
        status, said = it.end()
    assert status == 0
    assert said == ["draining", "drained", f"left {number.name} False", "not killed"]


@pytest.mark.slow
def test_second_signal_while_draining_cancels(program: Any) -> None:
    """SIGTERM after Ctrl-C cuts the drain short; clean-up runs, and the block ends quietly."""
    with program("DRAIN = 60\ndrain = forever" + unindented(WORKS)) as it:
        it.send(signal.SIGINT)
        it.hear("draining")
        it.send(signal.SIGTERM)
        assert it.end() == (0, ["left SIGINT True", "not killed"])


@pytest.mark.slow
def test_end_of_the_drain_time_cancels(program: Any) -> None:
    """A body that does not end in time is cancelled without a second signal."""
    with program("DRAIN = 0.05\ndrain = forever" + unindented(WORKS)) as it:
        it.send(signal.SIGTERM)
        assert it.end() == (0, ["draining", "left SIGTERM True", "not killed"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_third_signal_ends_a_program_that_does_not_react(
    program: Any, number: signal.Signals
) -> None:
    """It takes the system's default action: the process ends by that signal."""
    with program("""
        async def main():
            async with graceful() as shutdown:
                say("ready")
                await shutdown.requested.wait()
                say("asked")
                while True:
                    try:
                        await forever()
                    except asyncio.CancelledError:
                        asyncio.get_running_loop().call_soon(say, "cancelled")
        run(main, loop=LOOP)
    """) as it:
        it.send(number)
        it.hear("asked")
        it.send(number)
        it.hear("cancelled")
        it.send(number)
        assert it.end() == (-number, [])


@pytest.mark.slow
def test_third_signal_ends_a_blocked_loop(program: Any) -> None:
    """Signals are counted while a callback never returns to the loop."""
    with program("""
        async def main():
            async with graceful():
                seen = []
                handler = signal.getsignal(signal.SIGTERM)
                def counting(number, frame):
                    seen.append(number)
                    say("signal", len(seen))
                    handler(number, frame)
                signal.signal(signal.SIGTERM, counting)
                say("ready")
                while True:
                    time.sleep(0.01)
        run(main, loop=LOOP)
    """) as it:
        for n in (1, 2, 3):
            it.send(signal.SIGTERM)
            it.hear(f"signal {n}")
        assert it.end() == (-signal.SIGTERM, [])


def test_after_the_block_run_hears_its_signals_again(program: Any) -> None:
    """Inside, SIGTERM does not cancel main; afterwards it does, and the status says so."""
    with program("""
        async def main():
            async with graceful() as shutdown:
                say("ready")
                await shutdown.requested.wait()
            say("left")
            try:
                await forever()
            finally:
                say("cancelled by run")
        run(main, loop=LOOP)
    """) as it:
        it.send(signal.SIGTERM)
        it.hear("left")
        it.send(signal.SIGTERM)
        assert it.end() == (143, ["cancelled by run"])


@pytest.mark.slow
def test_signals_that_the_block_does_not_hear_go_to_run(program: Any) -> None:
    """A block for one signal leaves the others as they were."""
    with program("""
        async def main():
            async with graceful(signal.SIGTERM) as shutdown:
                say("ready")
                try:
                    await forever()
                finally:
                    say("asked", shutdown.requested.is_set())
        run(main, loop=LOOP)
    """) as it:
        it.send(signal.SIGINT)
        assert it.end() == (-signal.SIGINT, ["asked False"])


@pytest.mark.slow
def test_without_run_it_works_too(program: Any) -> None:
    """Under `asyncio.run` Ctrl-C is taken over for the block, and given back."""
    with program("""
        async def main():
            async with graceful() as shutdown:
                say("ready")
                await shutdown.requested.wait()
            say("left")
            try:
                await forever()
            except asyncio.CancelledError:
                say("cancelled by asyncio")
                raise
        runner = asyncio.Runner()
        if LOOP == "uvloop":
            import uvloop
            runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        with runner:
            try:
                runner.run(main())
            except KeyboardInterrupt:
                say("interrupted")
    """) as it:
        it.send(signal.SIGINT)
        it.hear("left")
        it.send(signal.SIGINT)
        assert it.end() == (0, ["cancelled by asyncio", "interrupted"])


@pytest.mark.slow
def test_reload_while_the_program_runs(program: Any) -> None:
    """SIGHUP is an item of a stream, and SIGTERM still ends the program."""
    with program("""
        async def main():
            async with open_signals(signal.SIGHUP) as arriving:
                say("ready")
                async for number in arriving:
                    say("reload", number.name)
        run(main, loop=LOOP)
    """) as it:
        for _ in range(3):
            it.send(signal.SIGHUP)
            it.hear("reload SIGHUP")
        it.send(signal.SIGTERM)
        assert it.end() == (143, [])


@pytest.mark.slow
def test_signal_that_hits_another_thread_ends_run(program: Any) -> None:
    """The system may hand it to any thread; the loop does not sleep on."""
    with program("""
        import threading
        async def main():
            threading.Thread(target=forever_in_a_thread, daemon=True).start()
            await asyncio.sleep(0.05)
            say("ready")
            await forever()
        def forever_in_a_thread():
            time.sleep(0.2)
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            time.sleep(60)
        run(main, loop=LOOP)
    """) as it:
        assert it.end() == (143, [])


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False], ids=["ctrl-c", "kill the parent"])
def test_worker_process_finishes_its_call_while_the_program_drains(
    request: pytest.FixtureRequest, to_all: bool
) -> None:
    """Ctrl-C in a terminal reaches every process of the program, and the workers pass it over."""
    import pty
    import termios

    source = PRELUDE.format(loop="asyncio") + textwrap.dedent("""
        def compute():
            time.sleep(0.5)
            return "computed"
        async def main():
            assert await offload_cpu(abs, -1) == 1  # a worker is there
            async with graceful(drain=60) as shutdown, TaskGroup() as group:
                call = group.start_soon(offload_cpu, compute)
                await asyncio.sleep(0.1)
                say("ready")
                await shutdown.requested.wait()
                say("asked")
            say(call.result(), shutdown.signal.name, shutdown.cancelled)
        if __name__ == "__main__":
            run(main, loop=LOOP)
    """)
    terminal, its_end = pty.openpty()
    request.addfinalizer(lambda: os.close(terminal))

    def own_terminal() -> None:
        import fcntl

        fcntl.ioctl(its_end, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=its_end,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=own_terminal,  # noqa: PLW1509  # no other thread holds a lock here
    )
    os.close(its_end)
    with process:
        assert process.stdout is not None
        it = Program(process, process.stdout)
        try:
            it.hear("ready")
            if to_all:
                os.write(terminal, b"\x03")
            else:
                it.send(signal.SIGINT)
            assert it.end() == (0, ["asked", "computed SIGINT False"])
        finally:
            process.kill()


def unindented(text: str) -> str:
    return "\n" + textwrap.dedent(text)
