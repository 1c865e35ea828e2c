"""`run` without signals: loops, arguments, results, refusals, an orderly end."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading

import pytest

from aioconc import run
from aioconc.errors import MissingExtra
from aioconc.runtime import _signals
from aioconc.runtime._signals import SignalWatch

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


async def give(value=None):
    await asyncio.sleep(0)
    return value


def test_an_async_function_with_arguments():
    """The result of main is the result of run."""
    assert run(give, 42) == 42


def test_a_coroutine_as_asyncio_run_takes_it():
    """A coroutine object is run as well."""
    assert run(give(42)) == 42


def test_a_callable_that_returns_an_awaitable():
    """A lambda around an async function serves too."""
    assert run(lambda: give(1)) == 1


def test_an_exception_of_main_passes_through():
    """What main raises is raised by run."""

    async def main():
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        run(main)


def test_a_cancellation_that_no_signal_caused_passes_through():
    """A main that was cancelled by itself raises CancelledError, as under asyncio.run."""

    async def main():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        run(main)


def test_uvloop_is_used_when_installed():
    """loop="auto" takes uvloop where there is one; "asyncio" does not."""
    uvloop = pytest.importorskip("uvloop")

    async def kind():
        return isinstance(asyncio.get_running_loop(), uvloop.Loop)

    assert run(kind)
    assert run(kind, loop="uvloop")
    assert not run(kind, loop="asyncio")


def test_without_uvloop_auto_is_asyncio_and_uvloop_names_the_extra(monkeypatch):
    """A missing uvloop is an error only where it was asked for."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run(give, 1) == 1
    with pytest.raises(MissingExtra, match=r"aioconc\[uvloop\]"):
        run(give, loop="uvloop")


def test_a_loop_factory():
    """A function that makes a loop is used, and its loop closed."""
    made = []

    def factory():
        made.append(asyncio.new_event_loop())
        return made[-1]

    async def main():
        return asyncio.get_running_loop()

    assert run(main, loop=factory) is made[0]
    assert made[0].is_closed()


def test_a_system_exit_of_main_ends_the_program_unreported(caplog):
    """Only a forced end lists what was still running."""

    async def main():
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 3
    assert caplog.records == []


def test_a_factory_that_fails_leaves_no_coroutine_behind():
    """Its error is raised, and a coroutine given as main is closed."""

    def factory():
        raise OSError("no descriptors left")

    with pytest.raises(OSError, match="descriptors"):
        run(give(), loop=factory)
    with pytest.raises(OSError, match="descriptors"):
        run(give, loop=factory)


def test_debug_mode():
    """debug= is that of the loop."""

    async def main():
        return asyncio.get_running_loop().get_debug()

    assert run(main, debug=True)
    assert not run(main, debug=False)


def test_leftovers_end_with_the_program():
    """Tasks, async generators and default-executor threads that main leaves have ended after it."""
    ended = []
    leftovers = []

    async def task():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("task")

    async def generator():
        try:
            yield
        finally:
            ended.append("generator")

    async def main():
        leftovers.append(asyncio.create_task(task()))
        leftovers.append(generator())
        await anext(leftovers[1])
        await asyncio.to_thread(leftovers.append, "thread")

    run(main)
    assert ended == ["task", "generator"]
    leftovers.clear()


def test_previous_handlers_are_restored():
    """The handlers are ours while run runs, and the previous ones afterwards, also on errors."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def main():
        assert all(signal.getsignal(number) is not before[number] for number in before)
        raise KeyError

    with pytest.raises(KeyError):
        run(main)
    assert {number: signal.getsignal(number) for number in before} == before


def test_no_signals_leaves_every_handler_alone():
    """With signals=() run installs none."""

    async def main():
        return signal.getsignal(signal.SIGTERM)

    assert run(main, signals=()) is signal.getsignal(signal.SIGTERM)


def test_a_signal_raised_in_process_is_a_system_exit():
    """SIGTERM becomes SystemExit(143) and SIGINT KeyboardInterrupt, after clean-up."""
    ended = []

    async def main(number):
        try:
            signal.raise_signal(number)
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    with pytest.raises(SystemExit) as caught:
        run(main, signal.SIGTERM)
    assert caught.value.code == 143
    with pytest.raises(KeyboardInterrupt):
        run(main, signal.SIGINT)
    assert ended == [signal.SIGTERM, signal.SIGINT]


def test_a_signal_before_the_first_step_cancels_main():
    """A signal that arrives while the loop is being made is not lost."""

    def factory():
        signal.raise_signal(signal.SIGTERM)
        return asyncio.new_event_loop()

    with pytest.raises(SystemExit):
        run(asyncio.sleep, 60, loop=factory)


@POSIX
def test_a_signal_when_the_loop_is_closed_already_is_not_lost():
    """Until the earlier handlers are back a signal ends the program, however late it comes."""

    class Loop(asyncio.SelectorEventLoop):
        def close(self):
            super().close()
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        run(give, 42, loop=Loop)
    assert caught.value.code == 143


@POSIX
@pytest.mark.parametrize("grace", [1e10, 1e300])
def test_a_grace_longer_than_any_clock(grace):
    """The system's clocks do not count so far; the program ends all the same."""

    async def main():
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(60)

    with pytest.raises(SystemExit):
        run(main, grace=grace)


@POSIX
def test_a_signal_that_is_named_twice_gets_its_handler_back():
    """A slip that does no harm."""
    before = signal.getsignal(signal.SIGUSR1)
    run(give, signals=[signal.SIGUSR1, signal.SIGUSR1])
    assert signal.getsignal(signal.SIGUSR1) is before


@POSIX
def test_an_interrupt_while_handlers_are_set_takes_them_back():
    """The handler of another signal may raise in the middle of it."""

    class Interrupted(list):
        def __iter__(self):
            yield signal.SIGUSR1
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(KeyboardInterrupt), SignalWatch(Interrupted(), 0.0):
        pass
    assert signal.getsignal(signal.SIGUSR1) is before


@POSIX
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_forced_end_leaves_nothing_of_its_loop_to_the_signals(monkeypatch, loop):
    """What it leaves behind is a coroutine; where signals are written to is taken back."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    monkeypatch.setattr(_signals, "LAST_MOMENTS", 0.02)
    left = []

    async def main():
        left.append(asyncio.current_task())
        signal.raise_signal(signal.SIGTERM)
        while True:
            try:
                await asyncio.sleep(0)
                signal.raise_signal(signal.SIGTERM)
            except asyncio.CancelledError:
                await asyncio.sleep(0.001)

    with pytest.raises(SystemExit):
        run(main, loop=loop)
    assert signal.set_wakeup_fd(-1) == -1
    assert run(give, 42) == 42


@POSIX
def test_a_loop_that_cannot_be_woken_is_closed(monkeypatch):
    """Without a descriptor left nothing has begun: loop and coroutine are closed."""

    def refuse():
        raise OSError(24, "Too many open files")

    loop = asyncio.SelectorEventLoop()
    monkeypatch.setattr(socket, "socketpair", refuse)
    with pytest.raises(OSError, match="Too many"):
        run(give(42), loop=lambda: loop)
    assert loop.is_closed()


def test_refused_where_a_loop_runs():
    """Inside a running loop run says what to do instead, and closes the coroutine."""

    async def main():
        with pytest.raises(RuntimeError, match="await the function instead"):
            run(give)
        with pytest.raises(RuntimeError, match="where one is running"):
            run(give())

    run(main)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: run(3), TypeError, "async function or a coroutine, got 3"),
        (lambda: run(give(), 1), TypeError, r"did you mean run\(give, \.\.\.\)"),
        (lambda: run(print), TypeError, "print returned None"),
        (lambda: run(give, loop="trio"), ValueError, "one of 'auto'"),
        (lambda: run(give, grace=-1), ValueError, "grace must be"),
        (lambda: run(give, signals=(9,)), ValueError, "SIGKILL cannot be handled"),
        (lambda: run(give, signals=("SIGINT",)), ValueError, "signal numbers"),
        (lambda: run(give, signals=signal.SIGINT), TypeError, "pass a tuple"),
    ],
)
def test_bad_arguments(call, error, message):
    """Each is refused with the value and the rule."""
    with pytest.raises(error, match=message):
        call()


def test_in_a_thread():
    """run works in any thread that has no loop."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run(give, 7)))
    thread.start()
    thread.join()
    assert found == [7]


def test_naming_run_loads_no_loop_and_no_executor():
    """`aioconc.run` costs asyncio and nothing else before it is called."""
    code = (
        "import sys; before = {*sys.modules}; import aioconc; aioconc.run; "
        "print(*({'uvloop', 'aioconc.executors', 'aioconc.flow', 'aioconc.tasks', "
        "'multiprocessing'} & {*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
