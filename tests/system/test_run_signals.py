"""`run` in real processes that get real signals, on both loops."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PRELUDE = """
import asyncio, os, signal, sys, threading, time
from aioconc import run
LOOP = {loop!r}
def say(*words):
    print(*words, flush=True)
def loop_name():
    return type(asyncio.get_running_loop()).__module__.split(".")[0]
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def program(request):
    """Starts a Python program; gives the process once it has said "ready"."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    @contextmanager
    def start(text, *, wait_for="ready", preexec_fn=None):
        source = PRELUDE.format(loop=request.param) + textwrap.dedent(text)
        process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=preexec_fn,  # noqa: PLW1509  # no other thread holds a lock here
        )
        with process:
            try:
                if wait_for:
                    assert process.stdout.readline().strip() == wait_for, process.communicate()
                yield process
            finally:
                process.kill()

    return start


def finish(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out.split("\n")[:-1], err


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_main_after_its_clean_up(program, number, status):
    """Ctrl-C ends in KeyboardInterrupt and SIGTERM in status 143, both after clean-up."""
    with program("""
        async def main():
            assert (loop_name() == "uvloop") == (LOOP == "uvloop")
            child = asyncio.create_task(cleaning("child"))
            await cleaning("main", ready=True)
        async def cleaning(name, ready=False):
            try:
                if ready:
                    await asyncio.sleep(0)
                    say("ready")
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                say(name, "clean")
        run(main, loop=LOOP)
        say("not reached")
    """) as process:
        process.send_signal(number)
        code, out, err = finish(process)
    assert (code, out) == (status, ["main clean", "child clean"])
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)


def test_a_main_that_catches_the_signal_returns_its_value(program):
    """As under asyncio.run, what main returns after it was cancelled is the result of run."""
    with program("""
        async def main():
            try:
                say("ready")
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "saved"
        say(run(main, loop=LOOP))
    """) as process:
        process.send_signal(signal.SIGTERM)
        assert finish(process) == (0, ["saved"], "")


def test_an_error_of_the_clean_up_is_what_run_raises(program):
    """An exception of main after the signal passes through."""
    with program("""
        async def main():
            try:
                say("ready")
                await asyncio.sleep(60)
            finally:
                raise OSError("disk full")
        try:
            run(main, loop=LOOP)
        except OSError as error:
            say(error)
    """) as process:
        process.send_signal(signal.SIGINT)
        assert finish(process)[:2] == (0, ["disk full"])


STUBBORN = """
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                # Said by the loop, when this task waits again: a signal that came before that
                # would end the task by itself, and nothing would have to be forced.
                asyncio.get_running_loop().call_soon(say, "cancelled")
    async def main():
        say("ready")
        await stubborn()
    import aioconc.runtime._signals as signals
    signals.LAST_MOMENTS = 0.05
"""


def test_a_second_signal_forces_the_end_and_says_what_still_ran(program):
    """The second signal ends a program that does not react, with the stack of what was running."""
    with program(STUBBORN + "    run(main, loop=LOOP, grace=None)") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "cancelled\n"
        process.send_signal(signal.SIGTERM)
        code, _, err = finish(process)
    assert code == 143
    assert "forced to end while 'Task-1' was still running" in err
    assert "in stubborn" in err


def test_the_grace_period_forces_the_end(program):
    """Without a second signal the end is forced when the grace is over."""
    with program(STUBBORN + "    run(main, loop=LOOP, grace=0.05)") as process:
        process.send_signal(signal.SIGINT)
        code, out, err = finish(process)
    assert code == -signal.SIGINT
    assert out[0] == "cancelled"
    assert "in stubborn" in err


@pytest.mark.parametrize("blocking", ["time.sleep(60)", "while True: pass"])
def test_the_grace_period_also_ends_a_blocked_loop(program, blocking):
    """A callback that never returns to the loop is interrupted when the grace is over."""
    with program(f"""
        async def main():
            say("ready")
            {blocking}
        run(main, loop=LOOP, grace=0.05)
    """) as process:
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 143


def test_leftover_tasks_that_hang_are_left_behind_when_forced(program):
    """A task that main left behind and that refuses to end holds the program only for the grace."""
    with program(
        STUBBORN
        + """
    async def main():
        global task
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
    run(main, loop=LOOP, grace=0.05)
    """,
        wait_for="cancelled",
    ) as process:
        process.send_signal(signal.SIGTERM)
        code, _, err = finish(process)
    assert code == 143
    assert "in stubborn" in err


def test_a_signal_after_main_has_ended_is_not_lost(program):
    """A signal that arrives while leftover tasks end makes run raise once they have."""
    with program("""
        async def slow():
            try:
                await asyncio.sleep(60)
            finally:
                say("ready")
                while not heard():
                    await asyncio.sleep(0.01)
                say("clean")
        def heard():
            import gc
            from aioconc.runtime._signals import SignalWatch
            return any(w.unheard for w in gc.get_objects() if isinstance(w, SignalWatch))
        async def main():
            global task
            task = asyncio.create_task(slow())
            await asyncio.sleep(0)
        run(main, loop=LOOP)
        say("not reached")
    """) as process:
        process.send_signal(signal.SIGTERM)
        assert finish(process)[:2] == (143, ["clean"])


def test_a_signal_that_the_process_ignores_stays_ignored(program):
    """What nohup or a shell has set to be ignored is not taken over."""

    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with program(
        """
        async def main():
            say("ready")
            try:
                await asyncio.sleep(60)
            finally:
                say("ignored", signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
        run(main, loop=LOOP)
    """,
        preexec_fn=ignore,
    ) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        code, out, _ = finish(process)
    assert (code, out) == (143, ["ignored True"])


def test_in_another_thread_signals_are_left_alone(program):
    """run works outside the main thread, and handles no signals there."""
    with program(
        """
        async def main():
            return signal.getsignal(signal.SIGTERM)
        before = signal.getsignal(signal.SIGTERM)
        found = []
        thread = threading.Thread(target=lambda: found.append(run(main, loop=LOOP)))
        thread.start()
        thread.join()
        say("ready", found == [before])
    """,
        wait_for="ready True",
    ) as process:
        assert finish(process)[0] == 0


def test_many_signals_in_a_row_end_the_program(program):
    """A storm of signals neither hangs the program nor breaks the order of its end."""
    # Python's shutdown takes handlers away, and then the storm would kill: leave without one.
    end = """
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        run(main, loop=LOOP)
    except SystemExit as error:
        os._exit(error.code)
    """
    with program(STUBBORN + end) as process:
        while process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
            time.sleep(0.002)
        assert process.returncode == 143
