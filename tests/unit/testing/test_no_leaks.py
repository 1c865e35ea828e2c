"""`no_leaks` finds what is left, of every kind, and names the line that created it."""

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aioconc._bridge._service import service
from aioconc.errors import LeakError
from aioconc.testing import Leak, LeakReport, loop_factory, no_leaks
from aioconc.testing._births import births
from aioconc.testing._process_state import ProcessState

pytestmark = pytest.mark.loops("all")

# Seconds. What these tests leave is there for good; a slow machine changes nothing.
SHORT = 0.01


def line(marker: str) -> str:
    """How a report names the line of this file that ends in `# marker`."""
    lines = Path(__file__).read_text().splitlines()
    (number,) = [n for n, text in enumerate(lines, 1) if text.endswith(f"  # {marker}")]
    return f"{Path(__file__).name}:{number} in "


async def leaks_of(block: Callable[[LeakReport], Any], **options: Any) -> list[Leak]:
    """What is left by a block, which may be a coroutine function."""
    async with contextlib.AsyncExitStack() as stack:
        report = await stack.enter_async_context(no_leaks(patience=SHORT, **options))
        result = block(report)
        if hasattr(result, "__await__"):
            await result
        with pytest.raises(LeakError) as caught:
            await stack.aclose()
    assert list(caught.value.leaks) == [str(each) for each in report.leaks]
    for each in caught.value.leaks:
        assert each in str(caught.value)
    return [*report.leaks]


def of_kind(leaks: list[Leak], kind: str) -> Leak:
    (found,) = [each for each in leaks if each.kind == kind]
    return found


async def three() -> AsyncIterator[int]:
    for each in range(3):
        yield each


# -- tasks ------------------------------------------------------------------------------------


async def test_task_is_named_with_the_line_that_created_it() -> None:
    """A task that has not ended is found, with its name, where it waits, and where it was made."""

    async def wait_for_nothing(event: asyncio.Event) -> None:
        await event.wait()  # waits

    def start() -> "asyncio.Task[None]":
        return asyncio.create_task(wait_for_nothing(event), name="reader")  # task

    event = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []
    (leak,) = await leaks_of(lambda _: tasks.append(start()))
    assert leak.kind == "task"
    assert "'reader'" in leak.what and "wait_for_nothing" in leak.what
    assert leak.created is not None and line("task") in str(leak.created)
    event.set()
    await tasks[0]


async def test_task_says_where_it_waits() -> None:
    """The report shows the await at which the task is now."""

    async def waiter(event: asyncio.Event) -> None:
        await event.wait()  # the await

    async def block(_: LeakReport) -> None:
        tasks.append(asyncio.create_task(waiter(event)))
        await asyncio.sleep(0)

    event = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []
    (leak,) = await leaks_of(block)
    assert line("the await") in leak.what
    event.set()
    await tasks[0]


async def test_task_that_was_there_before_is_no_leak() -> None:
    """Only what began in the block counts."""
    task = asyncio.create_task(asyncio.sleep(60))
    async with no_leaks(patience=0):
        await asyncio.sleep(0)
    task.cancel()


async def test_task_that_ends_within_a_few_turns_is_no_leak() -> None:
    """What only needs the loop to turn gets that."""

    async def few_turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async with no_leaks():
        asyncio.create_task(few_turns())


async def test_names_contexts_and_factories_are_as_without_the_block() -> None:
    """A task gets its name, context and class from the loop and its factory, as ever."""
    loop = asyncio.get_running_loop()
    seen = []
    before = loop.get_task_factory()

    class Special(asyncio.Task[Any]):
        pass

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        options.pop("eager_start", None)
        seen.append(options)
        return Special(coroutine, loop=loop, **options)

    async with no_leaks():
        assert loop.get_task_factory() is before
        unnamed = asyncio.create_task(asyncio.sleep(0))
        loop.set_task_factory(factory)
        special = asyncio.create_task(asyncio.sleep(0), name="special")
        assert isinstance(special, Special) and special.get_name() == "special"
        await asyncio.gather(unnamed, special)
    assert loop.get_task_factory() is factory
    loop.set_task_factory(before)
    if before is None:  # with a factory, CPython 3.13.0 itself names it "None"
        assert re.fullmatch(r"Task-\d+", unnamed.get_name())
    assert len(seen) == 1


async def test_lost_exception_is_named_with_the_line_that_created_its_task(
    loop_errors: list[str],
) -> None:
    """An exception of a task that is dropped is a leak, with the task's line."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("nobody asks")

    async def block(_: LeakReport) -> None:
        asyncio.create_task(fail(), name="lost")  # lost
        await asyncio.sleep(0.001)

    (leak,) = await leaks_of(block)
    assert leak.kind == "exception"
    assert "LookupError" in leak.what and "nobody asks" in leak.what and "'lost'" in leak.what
    assert line("lost") in str(leak)
    assert "never retrieved" in loop_errors.pop()  # asyncio's own report is not kept back


async def test_exception_of_a_task_that_is_kept_is_no_leak() -> None:
    """Whoever still has the task may ask it later."""

    async def fail() -> None:
        raise LookupError

    async with no_leaks():
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
    with pytest.raises(LookupError):
        await task


async def test_unawaited_coroutine_is_named_with_the_line_that_made_it() -> None:
    """A coroutine that is dropped unawaited is a leak, and Python's own warning is not kept back."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        (leak,) = await leaks_of(lambda _: asyncio.sleep(1) and None)  # unawaited
    assert leak.kind == "coroutine" and leak.what.startswith("sleep ")
    assert line("unawaited") in str(leak)
    assert [each for each in warned if "was never awaited" in str(each.message)]


# -- async generators ---------------------------------------------------------------------------


async def test_async_generator_is_named_with_the_line_that_began_it() -> None:
    """A generator that has begun and not finished is found, while somebody holds it."""
    generators = [three(), three(), three()]

    async def block(_: LeakReport) -> None:
        await anext(generators[0])  # generator
        assert [each async for each in generators[1]] == [0, 1, 2]

    leak = of_kind(await leaks_of(block), "async generator")
    assert leak.what.startswith("three, now at ")
    assert line("generator") in str(leak)
    await generators[0].aclose()  # type: ignore[attr-defined]


async def test_hooks_of_async_generators_are_chained_and_put_back() -> None:
    """The loop goes on keeping its books, and its own hooks are back afterwards."""
    before = sys.get_asyncgen_hooks()
    closed = []

    async def careful() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    async with no_leaks():
        async for _ in careful():
            break
        await asyncio.sleep(0.001)
        assert closed  # by the loop's hook
    assert sys.get_asyncgen_hooks() == before


# -- threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("daemon", [False, True])
async def test_thread_is_named_with_the_line_that_started_it(daemon: bool) -> None:
    """A live thread is found, daemon or not, with where it is now and who started it."""
    stop = threading.Event()

    def linger() -> None:
        stop.wait()  # lingers

    thread = threading.Thread(target=linger, name="lingering", daemon=daemon)
    leak = of_kind(await leaks_of(lambda _: thread.start()), "thread")  # thread
    assert "'lingering'" in leak.what and line("lingers") in leak.what
    assert ("(daemon)" in leak.what) is daemon
    assert line("thread") in str(leak.created)
    stop.set()
    thread.join()


async def test_thread_that_ends_a_little_later_is_no_leak() -> None:
    """A thread is given time to end."""
    async with no_leaks():
        threading.Thread(target=time.sleep, args=(0.03,)).start()


async def test_pool_thread_is_a_leak_while_it_works_and_none_when_it_waits() -> None:
    """The facts decide: a pool's worker that runs a call is found, also one that was idle before."""
    service()  # it stands by, whatever tests came before
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
        stack.callback(stop.set)
        pool.submit(int).result()
        while ProcessState.now(children=False, fds=False).threads & pool._threads:
            await asyncio.sleep(0.001)  # it has answered, and is about to wait again
        begun = threading.Event()

        def work() -> None:
            begun.set()
            stop.wait()

        def block(_: LeakReport) -> None:
            pool.submit(work)
            begun.wait(20)  # in the instant before, its stack looks like that of an idle one

        leak = of_kind(await leaks_of(block), "thread")
        assert "ThreadPoolExecutor" in leak.what
        stop.set()
        async with no_leaks():
            pool.submit(int)


# -- processes --------------------------------------------------------------------------------


async def test_child_process_is_named_with_the_line_that_started_it() -> None:
    """A process of `subprocess` is found with its command and pipes, and who started it."""
    children: list[subprocess.Popen[bytes]] = []

    def block(_: LeakReport) -> None:
        children.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))  # child

    leaks = await leaks_of(block)
    leak = of_kind(leaks, "child process")
    assert leak.what == f"{children[0].pid}: cat"
    assert line("child") in str(leak)
    pipe = of_kind(leaks, "descriptor")
    assert f"held by child process {children[0].pid}" in pipe.what and line("child") in str(pipe)
    children[0].communicate()


async def test_child_that_nobody_waits_for_is_a_leak() -> None:
    """An ended process stays in the system's table until it is waited for."""
    children: list[subprocess.Popen[bytes]] = []

    def block(_: LeakReport) -> None:
        children.append(subprocess.Popen(["true"]))
        os.waitid(os.P_PID, children[0].pid, os.WEXITED | os.WNOWAIT)

    leak = of_kind(await leaks_of(block), "child process")
    assert "nobody waited for it" in leak.what
    children[0].wait()


async def test_subprocess_of_the_loop_is_named_with_the_line_that_started_it() -> None:
    """So is one of asyncio, whichever loop it is."""
    children: list[asyncio.subprocess.Process] = []

    async def block(_: LeakReport) -> None:
        children.append(
            await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE)  # loop's child
        )

    leak = of_kind(await leaks_of(block), "child process")
    assert leak.what == f"{children[0].pid}: cat"
    assert line("loop's child") in str(leak)
    await children[0].communicate(b"")


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
async def test_process_of_multiprocessing_is_found(start: Any) -> None:
    """Also one that a fork server started, which is no child of ours; helpers are not found."""
    process = multiprocessing.get_context(start).Process(target=time.sleep, args=(60,))

    def begin(_: LeakReport) -> None:
        process.start()  # process

    leaks = await leaks_of(begin)
    leak = of_kind(leaks, "child process")
    assert leak.what.startswith(f"{process.pid}")
    assert line("process") in str(leak)
    for each in leaks:
        assert each is leak or f"held by child process {process.pid}" in each.what
    process.kill()
    process.join()
    process.close()


@pytest.mark.slow
async def test_process_pool_belongs_to_the_block_that_made_it() -> None:
    """Workers that start late in a pool of an earlier time stay; a pool of the block is to end."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as earlier:
        async with no_leaks():
            assert await asyncio.wrap_future(earlier.submit(int)) == 0
        pools: list[concurrent.futures.Executor] = []

        async def block(_: LeakReport) -> None:
            pools.append(concurrent.futures.ProcessPoolExecutor(1, spawn))
            await asyncio.wrap_future(pools[0].submit(int))  # worker

        leaks = await leaks_of(block)
        assert line("worker") in str(of_kind(leaks, "child process"))
        pools[0].shutdown()


# -- sockets and descriptors --------------------------------------------------------------------


async def test_sockets_are_named_with_both_ends_and_their_lines() -> None:
    """A socket is found with what it is connected to, and the line that opened it."""
    with contextlib.ExitStack() as stack:

        def block(_: LeakReport) -> None:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # server
            address = server.getsockname()
            stack.enter_context(socket.create_connection(address))  # client
            ports.append(address[1])

        ports: list[int] = []
        server, client = await leaks_of(block)
        assert server.kind == client.kind == "socket"
        assert f" 127.0.0.1:{ports[0]} (listening)" in server.what
        assert client.what.endswith(f" -> 127.0.0.1:{ports[0]}")
        assert line("server") in str(server) and line("client") in str(client)


async def test_sockets_of_the_loop_are_named_with_their_lines() -> None:
    """So are the loop's own: servers and transports, whichever loop it is."""
    writers: list[asyncio.StreamWriter] = []
    servers: list[asyncio.Server] = []

    async def block(_: LeakReport) -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)  # loop's server
        servers.append(server)
        _, writer = await asyncio.open_connection(*address_of(server))  # loop's client
        writers.append(writer)

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    leaks = [str(each) for each in await leaks_of(block) if each.kind == "socket"]
    for each in writers:
        each.close()
        await each.wait_closed()
    servers[0].close()
    await servers[0].wait_closed()
    await asyncio.sleep(0.001)
    for marker in ("loop's server", "loop's client"):
        assert any(line(marker) in each for each in leaks), leaks


def address_of(server: asyncio.Server) -> Any:
    return server.sockets[0].getsockname()


async def test_open_file_is_found() -> None:
    """A descriptor is found with what it leads to."""
    with contextlib.ExitStack() as stack:
        (leak,) = await leaks_of(
            lambda _: stack.enter_context(Path("/proc/version").open()) and None
        )
        assert leak.kind == "descriptor"
        assert leak.what.endswith(" -> /proc/version")


async def test_socket_that_replaces_one_is_no_leak() -> None:
    """A pool that reconnects has as many connections as before."""
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(socket.socket())
        async with no_leaks(patience=0):
            new = stack.enter_context(socket.socket())
            old.close()
        assert new.fileno() >= 0


async def test_without_the_proc_file_system_sockets_and_children_are_still_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the kernel does not list is known from its creation."""
    monkeypatch.setattr("aioconc.testing._process_state._PROC", tmp_path)
    with contextlib.ExitStack() as stack:

        def block(_: LeakReport) -> None:
            stack.enter_context(socket.socket())
            children.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))

        children: list[subprocess.Popen[bytes]] = []
        kinds = {each.kind for each in await leaks_of(block)}
        assert kinds == {"socket", "child process"}
        children[0].communicate()


# -- how the block ends -------------------------------------------------------------------------


async def test_exception_of_the_block_leaves_with_the_leaks_as_a_note() -> None:
    """What the block raised is not hidden by what it left."""
    with pytest.raises(LookupError) as caught:
        async with no_leaks(patience=0):
            task = asyncio.create_task(asyncio.sleep(60))
            raise LookupError
    (note,) = caught.value.__notes__
    assert "the block left 1 behind" in note and "task" in note
    task.cancel()


async def test_cancelled_block_raises_its_cancellation() -> None:
    """A cancel in the block leaves as it came, with the leaks as a note."""
    tasks = []

    async def program() -> None:
        async with no_leaks(patience=SHORT):
            tasks.append(asyncio.create_task(asyncio.sleep(60)))
            await asyncio.sleep(60)

    task = asyncio.create_task(program())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    tasks[0].cancel()


async def test_cancel_while_things_are_given_time_to_end_leaves() -> None:
    """A cancel is not kept back by the looking, nor does it hide what was found."""
    tasks = []
    caught: list[asyncio.CancelledError] = []
    before = threading.Thread.start

    async def program() -> None:
        try:
            async with no_leaks(patience=60):
                tasks.append(asyncio.create_task(asyncio.sleep(60)))
        except asyncio.CancelledError as error:
            caught.append(error)
            raise

    task = asyncio.create_task(program())
    for _ in range(4):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "the block left 1 behind" in caught[0].__notes__[0]
    assert threading.Thread.start is before
    tasks[0].cancel()


@pytest.mark.loops("asyncio")
def test_waiting_does_not_move_a_virtual_clock() -> None:
    """Patience is real time: a virtual clock stands still, and what sleeps on it is left."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(LeakError, match="sleep"):
            async with no_leaks(patience=0.05):
                task = asyncio.create_task(asyncio.sleep(1))
        assert loop.time() == 0
        task.cancel()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


async def test_plain_with_looks_at_the_running_loop() -> None:
    """Synchronous use inside a coroutine sees tasks; it cannot let the loop turn."""
    with pytest.raises(LeakError, match="task"), no_leaks(patience=SHORT):
        task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()


def test_plain_with_needs_no_loop() -> None:
    """Synchronous code is looked at too, and whole runs of loops within it."""
    with no_leaks():
        asyncio.run(asyncio.to_thread(int))
    with pytest.raises(LeakError) as caught, no_leaks(patience=0):
        left = socket.socket()
    assert len(caught.value.leaks) == 1
    left.close()


async def test_report_tells_at_any_time_what_would_be_left() -> None:
    """`now` looks without waiting; after the block it gives the verdict."""
    async with no_leaks() as report:
        assert report.now() == []
        task = asyncio.create_task(asyncio.sleep(60))
        (leak,) = report.now()
        assert leak.kind == "task"
        assert repr(report) == "<LeakReport of an open block>"
        task.cancel()
    assert report.now() == [] == [*report.leaks]
    assert repr(report) == "<LeakReport 0 left>"


@pytest.mark.parametrize(
    ("option", "kinds"),
    [
        ("tasks", {"task"}),
        ("asyncgens", {"async generator"}),
        ("threads", {"thread"}),
        ("children", {"child process"}),
        ("sockets", {"socket"}),
        ("fds", {"descriptor"}),
    ],
)
async def test_options_say_what_is_looked_at(option: str, kinds: set[str]) -> None:
    """Each option is for its own kind of thing."""
    options = ("tasks", "asyncgens", "threads", "children", "sockets", "fds")
    stop = threading.Event()
    async with contextlib.AsyncExitStack() as stack:

        async def block(_: LeakReport) -> None:
            task = asyncio.create_task(asyncio.sleep(60))
            stack.callback(task.cancel)
            stack.enter_context(socket.socket())
            stack.enter_context(Path("/proc/version").open())  # noqa: SIM115
            generator: Any = three()
            await anext(generator)
            stack.push_async_callback(generator.aclose)
            thread = threading.Thread(target=stop.wait)
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop.set)
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
            stack.callback(child.communicate)

        chosen = {each: each == option for each in options}
        assert {each.kind for each in await leaks_of(block, **chosen)} == kinds


def test_bad_arguments_are_refused() -> None:
    """The value, the rule; and a block is for one use at a time."""
    with pytest.raises(ValueError, match=r"patience must be a number of seconds >= 0, got -1"):
        no_leaks(patience=-1)
    block = no_leaks()
    with block, pytest.raises(RuntimeError, match="entered already"):
        block.__enter__()
    with block:
        pass


# -- what is put back ---------------------------------------------------------------------------


@pytest.fixture
def originals() -> Iterator[dict[str, Any]]:
    """The functions that are wrapped; they must be back after the test."""

    def now() -> dict[str, Any]:
        from multiprocessing.process import BaseProcess

        return {
            "thread": vars(threading.Thread)["start"],
            "popen": vars(subprocess.Popen)["__init__"],
            "process": vars(BaseProcess)["start"],
            "socket": vars(socket.socket)["__init__"],
            "pool": vars(concurrent.futures.ProcessPoolExecutor)["__init__"],
            "coroutine": vars(warnings)["_warn_unawaited_coroutine"],
            "depth": sys.get_coroutine_origin_tracking_depth(),
        }

    before = now()
    yield before
    assert now() == before


async def test_blocks_may_overlap_in_any_order(originals: dict[str, Any]) -> None:
    """Wrappers stay until the last of several blocks ends, whichever that is."""
    loop = asyncio.get_running_loop()
    of_the_loop = dict(vars(loop))
    first, second = no_leaks(), no_leaks(patience=SHORT)
    await first.__aenter__()
    await second.__aenter__()
    assert threading.Thread.start is not originals["thread"]
    await first.__aexit__(None, None, None)
    assert threading.Thread.start is not originals["thread"]
    task = asyncio.create_task(asyncio.sleep(60))  # overlap
    with pytest.raises(LeakError, match=re.escape(line("overlap"))):
        await second.__aexit__(None, None, None)
    assert {*vars(loop)} == {*of_the_loop}
    task.cancel()


def test_blocks_in_many_threads_put_all_back(originals: dict[str, Any]) -> None:
    """The wrappers are counted across threads."""

    def block() -> None:
        for _ in range(20):
            with no_leaks(threads=False, fds=False, sockets=False):
                socket.socket().close()

    threads = [threading.Thread(target=block) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert threading.Thread.start is originals["thread"]


def test_what_others_wrapped_meanwhile_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch that came later stays, and through it our wrapper, which does nothing any more."""
    calls = []
    with no_leaks():
        inner = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            calls.append(thread)
            inner(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
    assert threading.Thread.start is start
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert calls == [thread]
    assert thread not in births.threads
    monkeypatch.undo()
    threading.Thread.start = inner.__wrapped__  # type: ignore[attr-defined, method-assign]
