"""Objects that own a descriptor, in what calls to real worker processes send and give back."""

import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aioconc import worker
from aioconc._wire._passing import Passed, pass_on
from aioconc.errors import ExecutorClosed, RemoteError, SerializationError, WorkerCrashed
from aioconc.executors import FuturesExecutor
from aioconc.executors.process import ProcessExecutor
from tests.system.process_tools import pids, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts those of a worker"),
]


class Handle:
    """Owns a descriptor, and travels with it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close

    def __reduce__(self) -> Any:
        return _take, (pass_on(self.fd, owner=self),)


def _take(passed: Passed) -> Handle:
    return Handle(passed.take())


class Explosive:
    """Cannot be unpickled in a worker, after the handle in front of it was."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle

    def __reduce__(self) -> Any:
        return _explode, (self.handle, os.getpid())


def _explode(handle: Handle, pid: int) -> Any:
    raise LookupError("no")


def pipe() -> tuple[Handle, Handle]:
    reader, writer = os.pipe()
    return Handle(reader), Handle(writer)


def ends(of: Handle, pid: int | str = "self") -> int:
    """How many descriptors of a process lead to this pipe."""
    pipe_id = Path(f"/proc/self/fd/{of.fd}").readlink()
    count = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += each.readlink() == pipe_id
        except OSError:
            pass  # that of the listing itself
    return count


def write(writer: Handle, text: bytes = b"x", *, close: bool = True) -> None:
    os.write(writer.fd, text)
    if close:
        writer.close()


def make() -> tuple[Handle, Handle]:
    return pipe()


def make_many(count: int) -> Iterator[Handle]:
    for each in range(count):
        reader, writer = pipe()
        os.write(writer.fd, b"%d" % each)
        yield reader


def read(handle: Handle) -> bytes:
    return os.read(handle.fd, 100)


def pipe_with(number: int) -> Handle:
    reader, writer = pipe()
    os.write(writer.fd, b"%d" % number)
    return reader


def report_and_ask(handle: Handle) -> bytes:
    worker.report(handle)
    other = worker.call_in_loop(same, handle)
    return os.read(other.fd, 100)


def same(*values: Any) -> Any:
    return values[0]


def write_when_told(writer: Handle, go: Handle) -> bytes:
    os.write(writer.fd, b"x")
    writer.close()
    return os.read(go.fd, 1)


def fail_with(handle: Handle) -> None:
    raise ValueError(handle)


def die(_: Handle | None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(reader: Handle) -> bytes:
    if worker.info().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.read(reader.fd, 100)


def wait_for_ever(_: Handle) -> None:
    threading.Event().wait()


kept: list[Any] = []


def keep(*what: Any) -> None:
    kept.extend(what)


def write_kept() -> None:
    os.write(kept[0].fd, kept[1])


async def test_a_handle_goes_there_and_back_in_everything_that_is_sent() -> None:
    """Arguments, keywords, results, streams, maps, reports, questions and answers."""
    heard: list[Handle] = []
    async with ProcessExecutor(max_workers=1) as pool:
        reader, writer = pipe()
        await pool.run(write, writer, text=b"hello", close=False)
        assert read(reader) == b"hello"
        await pool.run(write, writer=writer, text=b"again")
        assert read(reader) == b"again"
        there, back = await pool.run(make)
        os.write(back.fd, b"made there")
        assert read(there) == b"made there"
        async with pool.stream(make_many, 5, buffer=2) as handles:
            assert [read(each) async for each in handles] == [b"0", b"1", b"2", b"3", b"4"]
        items = [pipe_with(each) for each in range(20)]
        assert await pool.map(read, items) == [b"%d" % each for each in range(20)]
        got = await pool.map(pipe_with, range(20))
        assert [read(each) for each in got] == [b"%d" % each for each in range(20)]
        os.write(writer.fd, b"asked")
        assert await pool.options(on_report=heard.append).run(report_and_ask, reader) == b"asked"
        os.write(writer.fd, b"reported")
        assert read(heard[0]) == b"reported"


async def test_a_closure_and_the_futures_face_take_handles_along() -> None:
    """By value, and from any thread."""
    async with ProcessExecutor(max_workers=1) as pool:
        reader, writer = pipe()
        await pool.run(lambda: write(writer, close=False))
        assert read(reader) == b"x"
        future = pool.futures.submit(write, writer, b"future")
        writer.close()
        await asyncio.wrap_future(future)
        assert read(reader) == b"future"
        assert read(reader) == b""


async def test_nothing_stays_open_after_calls_however_they_end() -> None:
    """On both sides: with a value, with an error, when they did not arrive, after a crash."""
    kept: list[BaseException] = []  # the tracebacks hold the calls
    async with ProcessExecutor(max_workers=1) as pool:
        _reader, writer = pipe()
        for _ in range(3):
            await pool.run(write, writer)
            await pool.run(make)
            with pytest.raises(RemoteError, match="Handle object"):
                await pool.run(fail_with, writer)  # errors take none along
            for bad in (Explosive(writer), threading.Lock()):
                try:
                    await pool.run(same, writer, bad)
                except SerializationError as error:
                    kept.append(error)
            await pool.map(write, [writer, writer])
        (pid,) = pids(pool)
        assert (ends(writer), ends(writer, pid)) == (2, 0)
        try:
            await pool.run(die, writer)
        except WorkerCrashed as error:
            kept.append(error)
        assert ends(writer) == 2
        assert len(kept) == 7


async def test_what_the_worker_closes_has_ended_while_its_call_runs() -> None:
    """The parent keeps nothing of it once the call has begun."""
    async with ProcessExecutor(max_workers=1) as pool:
        reader, writer = pipe()
        go_reader, go_writer = pipe()
        call = asyncio.ensure_future(pool.run(write_when_told, writer, go_reader))
        await until(lambda: pool.statistics().busy)
        writer.close()
        os.set_blocking(reader.fd, False)
        seen = []

        def has_ended() -> bool:
            try:
                seen.append(read(reader))
            except BlockingIOError:
                return False
            return seen[-1] == b""

        await until(has_ended)
        assert seen == [b"x", b""]
        assert not call.done()
        os.write(go_writer.fd, b"y")
        assert await call == b"y"


async def test_a_call_that_never_starts_lets_its_handles_go() -> None:
    """Cancelled in the queue, refused when closed, out of patience."""
    async with ProcessExecutor(max_workers=1) as pool:
        reader, writer = pipe()
        busy = asyncio.ensure_future(pool.run(wait_for_ever, reader))
        await until(lambda: ends(reader) == 3)
        await until(lambda: ends(reader) == 2)
        with pytest.raises(TimeoutError):
            await pool.options(queue_timeout=0.01).run(write, writer)
        queued = asyncio.ensure_future(pool.run(write, writer))
        await until(lambda: pool.statistics().queued == 1)
        future = pool.futures.submit(write, writer)
        assert ends(writer) == 4
        queued.cancel()
        future.cancel()
        await asyncio.wait([queued])
        assert ends(writer) == 2
        left = [asyncio.ensure_future(pool.run(write, writer)) for _ in range(3)]
        await until(lambda: pool.statistics().queued == 3)
        await pool.aclose(cancel=True)
        errors = await asyncio.gather(busy, *left, return_exceptions=True)
        assert ends(writer) == 2  # while the errors are still there
        assert {type(each) for each in errors} == {ExecutorClosed}
        reader.close()
        writer.close()


async def test_a_killed_call_closes_what_it_had() -> None:
    """Its end is seen at the other end of the pipe as soon as it has returned."""
    async with ProcessExecutor(max_workers=1, spares=1) as pool:
        for turns in (0, 1, 2, 4, 8, 50):
            reader, writer = pipe()
            call = asyncio.ensure_future(pool.run(wait_for_ever, writer))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            writer.close()
            assert read(reader) == b""


async def test_a_retry_takes_along_what_the_first_attempt_did() -> None:
    """Also if the caller has closed its own meanwhile."""
    async with ProcessExecutor(max_workers=1) as pool:
        reader = pipe_with(7)
        other = Handle(os.dup(reader.fd))
        call = asyncio.ensure_future(pool.options(retries=1).run(die_once, reader))
        await asyncio.sleep(0)
        reader.close()
        assert await call == b"7"
        assert ends(other) == 1


async def test_a_call_whose_worker_died_idle_takes_its_handles_to_another() -> None:
    """They are kept until a call has begun."""
    async with ProcessExecutor(max_workers=1) as pool:
        await pool.run(os.getpid)
        for _ in range(5):
            reader, writer = pipe()
            (pid,) = pids(pool)
            os.kill(pid, signal.SIGKILL)  # whether it is seen before or after the call is sent
            call = asyncio.ensure_future(pool.run(write, writer))
            await asyncio.sleep(0)
            writer.close()
            await call
            assert read(reader) == b"x"
            assert read(reader) == b""


@pytest.mark.parametrize("start", ["exec", "forkserver"])
async def test_what_the_initializer_takes_along_reaches_each_worker(start: Any) -> None:
    """Also those that are started later."""
    reader, writer = pipe()
    async with ProcessExecutor(
        max_workers=1, initializer=keep, initargs=(writer, b"x"), start=start
    ) as pool:
        await pool.run(write_kept)
        assert read(reader) == b"x"
        with pytest.raises(WorkerCrashed):
            await pool.run(die, None)
        await pool.run(write_kept)
        assert read(reader) == b"x"


async def test_too_many_for_one_call_are_refused_before_it_is_sent() -> None:
    """With the limit; the next call is not disturbed."""
    async with ProcessExecutor(max_workers=1) as pool:
        reader, writer = pipe()
        many = [Handle(os.dup(writer.fd)) for _ in range(300)]
        with pytest.raises(SerializationError, match="at most 252 descriptors"):
            await pool.run(len, many)
        assert await pool.run(len, many[:252]) == 252
        many.clear()
        await pool.run(write, writer)
        writer.close()
        assert read(reader) == b"x"
        assert read(reader) == b""


async def test_other_executors_refuse_handles_by_name() -> None:
    """With the executor that takes them."""
    reader, _ = pipe()
    processes = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    async with FuturesExecutor(processes) as pool:
        with pytest.raises(SerializationError, match=r"Handle.* cannot be pickled here.*Process"):
            await pool.run(read, reader)
