"""`run_sync`, with and without a loop in the calling thread; and `run` with eager tasks."""

import asyncio
import contextvars
import signal
import subprocess
import sys
import threading

import pytest

from aioconc import run
from aioconc.runtime import run_sync

variable = contextvars.ContextVar("variable", default="unset")

HERE = pytest.mark.parametrize("here", ["no loop", "a loop"])


def call(here, *args, **options):
    """`run_sync` where no loop runs, or in a coroutine."""

    async def notebook():
        return run_sync(*args, **options)

    return run_sync(*args, **options) if here == "no loop" else asyncio.run(notebook())


async def double(n):
    await asyncio.sleep(0)
    return 2 * n


@HERE
def test_result_and_error_are_the_functions(here):
    """Async functions with arguments, and coroutines."""

    async def fail():
        raise LookupError("lost")

    assert call(here, double, 21) == 42
    assert call(here, double(21)) == 42
    with pytest.raises(LookupError, match="lost"):
        call(here, fail)


@HERE
def test_function_sees_the_callers_context(here):
    """Context variables go in, and what is set inside does not come out."""

    async def main():
        seen = variable.get()
        variable.set("inside")
        return seen

    token = variable.set("outside")
    try:
        assert call(here, main) == "outside"
        assert variable.get() == "outside"
    finally:
        variable.reset(token)


def test_in_a_notebook_it_runs_in_a_thread_that_ends_with_the_call():
    """The loop is a new one, of the kind that was asked for."""

    async def where():
        return threading.current_thread().name, asyncio.get_running_loop()

    async def notebook():
        name, loop = run_sync(where, loop="asyncio")
        assert name.startswith("run_sync ") and name.endswith("where")
        assert loop is not asyncio.get_running_loop()
        assert isinstance(loop, asyncio.BaseEventLoop)
        assert loop.is_closed()

    before = threading.active_count()
    asyncio.run(notebook())
    assert threading.active_count() == before


def test_leftovers_end_with_the_call():
    """As with `run`: no task of the function outlives it."""
    log = []

    async def left():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            log.append("ended")

    async def main():
        log.append(asyncio.ensure_future(left()))
        await asyncio.sleep(0)

    call("a loop", main)
    assert log[1:] == ["ended"]


@HERE
def test_what_cannot_be_run_is_refused(here):
    """With the value and the remedy, and nothing left unawaited."""
    with pytest.raises(TypeError, match="expected an async function or a coroutine, got 42"):
        call(here, 42)
    with pytest.raises(TypeError, match="without calling it"):
        call(here, double(1), 2)
    with pytest.raises(TypeError, match="expects an async function"):
        call(here, len, "ab")


@HERE
def test_loop_that_cannot_be_made_closes_the_coroutine(here):
    """The error of the choice or of the factory is raised, and nothing is left unawaited."""

    def factory():
        raise OSError("no descriptors left")

    with pytest.raises(ValueError, match="loop must be one of"):
        call(here, double(1), loop="trio")
    with pytest.raises(OSError, match="no descriptors left"):
        call(here, double(1), loop=factory)


def test_thread_that_cannot_be_started_closes_the_coroutine(monkeypatch):
    """The system's error is raised, and nothing is left unawaited."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    async def notebook():
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="start new thread"):
            patch.setattr(threading.Thread, "start", refuse)
            run_sync(double(1), loop="asyncio")

    asyncio.run(notebook())


@HERE
def test_exit_and_own_cancel_leave_as_they_are(here):
    """`SystemExit` of the function is raised here; a cancel that nobody asked for is one."""

    async def leave():
        raise SystemExit(3)

    async def cancel():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(SystemExit) as caught:
        call(here, leave)
    assert caught.value.code == 3
    if here == "no loop":
        with pytest.raises(asyncio.CancelledError):
            call(here, cancel)
    else:
        # Raised in a task, it looks as if that one had been cancelled: asyncio.run says so.
        with pytest.raises(asyncio.CancelledError):
            call(here, cancel)


INTERRUPTED = """
import asyncio, threading
from aioconc.runtime import run_sync
async def stubborn():
    try:
        print("ready", flush=True)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        AFTER
    finally:
        print("clean", flush=True)
async def notebook():
    try:
        print(run_sync(stubborn))
    except KeyboardInterrupt:
        print("interrupted", threading.active_count())
asyncio.run(notebook())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("raise", ["cancelled", "clean", "interrupted 1"]),
        ("return 'saved'", ["cancelled", "clean", "saved"]),
    ],
)
def test_interrupt_cancels_the_function_and_waits_for_it(after, said):
    """Ctrl-C in a notebook: its clean-up has run when KeyboardInterrupt is raised."""
    source = INTERRUPTED.replace("AFTER", after)
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert out.split("\n")[:-1] == said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_second_interrupt_leaves_it_behind_and_says_so():
    """A function that does not end holds nobody who has pressed Ctrl-C twice."""
    source = INTERRUPTED.replace("AFTER", "await asyncio.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "cancelled\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert out == "interrupted 2\n"
    assert "interrupted twice: stubborn is left running in its thread" in err


# ------------------------------------------------------------------ run(eager_tasks=True)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has eager tasks")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_eager_tasks_run_until_they_wait(loop):
    """A task that never waits has ended when `create_task` returns; names and contexts are kept."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")

    async def child():
        return variable.get()

    async def main():
        task = asyncio.create_task(child(), name="named")
        assert task.done()
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        other = asyncio.get_running_loop().create_task(child(), context=context)
        assert other.result() == "given"
        assert asyncio.create_task(child()).get_name().startswith("Task-")
        return task.get_name(), task.result()

    assert run(main, loop=loop, eager_tasks=True) == ("named", "unset")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python 3.12 has eager tasks")
def test_eager_tasks_are_refused_where_there_are_none():
    """With the version that is needed; a coroutine is closed."""
    with pytest.raises(RuntimeError, match=r"eager_tasks needs Python 3\.12 or newer"):
        run(double(1), eager_tasks=True)


def test_tasks_are_lazy_unless_asked_for():
    """The default is asyncio's."""

    async def main():
        task = asyncio.create_task(double(1))
        assert not task.done()
        return await task

    assert run(main) == 2


def test_bad_option_closes_the_coroutine():
    """No coroutine is left unawaited by a call that was refused."""
    for options in ({"loop": "trio"}, {"grace": -1}, {"signals": [signal.SIGKILL]}):
        with pytest.raises(ValueError):
            run(double(1), **options)
