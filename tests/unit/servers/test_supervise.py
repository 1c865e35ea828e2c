"""The supervisor of serve_prefork, step by step: what it does when things happen at the wrong time."""

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from aioconc._internal import _hooks
from aioconc.servers import ready, serve_prefork, serve_tcp
from tests.unit.servers.serving import echo

pytestmark = pytest.mark.slow


async def app(sockets: Sequence[socket.socket]) -> None:
    await serve_tcp(echo, sockets=sockets)


def signal_self(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@contextmanager
def steps(*actions: tuple[str, Callable[[int], object]]) -> Iterator[list[str]]:
    """For each `(event, action)` in turn: wait for that event, then call the action with its pid."""
    left = [*actions]
    seen: list[str] = []

    def hear(event: str, fields: dict[str, Any]) -> None:
        if not event.startswith("prefork."):
            return
        seen.append(event.removeprefix("prefork."))
        if left and seen[-1] == left[0][0]:
            _, action = left.pop(0)
            action(fields.get("pid", 0))

    unsubscribe = _hooks.subscribe(hear)
    try:
        yield seen
    finally:
        unsubscribe()
    assert not left, seen


def reload(_: int) -> None:
    signal_self(signal.SIGHUP)


def stop(_: int) -> None:
    signal_self(signal.SIGTERM)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def serve(**options: Any) -> int:
    return serve_prefork(app, 0, host="127.0.0.1", **({"workers": 1} | options))


def test_a_second_sighup_during_a_reload_is_another_reload() -> None:
    """It may stand for a still newer version of the code."""
    with steps(
        ("ready", reload),
        ("worker_started", reload),
        ("reloaded", lambda _: None),
        ("reloaded", stop),
    ) as seen:
        assert serve() == 0
    assert seen.count("worker_started") == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_successor_that_ends_gives_the_reload_up(
    number: signal.Signals, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed or asked to end before it is ready: the worker that serves goes on."""
    flag = str(tmp_path / "later")

    async def slow_later(sockets: Sequence[socket.socket]) -> None:
        if Path(flag).exists():
            await asyncio.sleep(3600)
        await serve_tcp(echo, sockets=sockets)

    def reload_slowly(_: int) -> None:
        Path(flag).touch()
        signal_self(signal.SIGHUP)

    with steps(
        ("ready", reload_slowly),
        ("worker_started", lambda pid: os.kill(pid, number)),
        ("reload_failed", stop),
    ) as seen:
        assert serve_prefork(slow_later, 0, host="127.0.0.1", workers=1) == 0
    assert seen.count("worker_started") == 2
    assert "the reload is given up" in caplog.text


def test_a_worker_that_dies_during_its_replacement_is_replaced_once() -> None:
    """Its successor takes over; the reload goes on with the next one."""
    pids = []

    def remember(pid: int) -> None:
        pids.append(pid)

    def kill_first(_: int) -> None:
        kill(pids[0])

    with steps(
        ("worker_ready", remember),
        ("ready", reload),
        ("worker_started", kill_first),
        ("reloaded", stop),
    ) as seen:
        assert serve() == 0
    assert seen.count("worker_started") == 2


def test_a_worker_that_is_asked_to_end_during_its_replacement_is_replaced_once() -> None:
    """By somebody else than the supervisor."""
    pids = []
    with steps(
        ("worker_ready", pids.append),
        ("ready", reload),
        ("worker_started", lambda _: os.kill(pids[0], signal.SIGTERM)),
        ("reloaded", stop),
    ) as seen:
        assert serve() == 0
    assert seen.count("worker_started") == 2


@pytest.mark.soak
def test_a_reload_passes_over_a_worker_that_is_being_started() -> None:
    """It is new anyway."""

    def kill_and_reload(pid: int) -> None:
        kill(pid)
        signal_self(signal.SIGHUP)

    with steps(("worker_ready", kill_and_reload), ("reloaded", stop)):
        assert serve(workers=2) == 0


def test_sigterm_during_a_reload_ends_old_and_new() -> None:
    """Also the one that is not ready."""
    with steps(("ready", reload), ("worker_started", stop)) as seen:
        assert serve() == 0
    assert seen.count("worker_ended") == 2


def test_a_process_that_cannot_be_started_counts_as_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again, and given up with the system's reason."""

    def no_process(*_: Any) -> Any:
        raise OSError(errno.EAGAIN, "too many processes")

    monkeypatch.setattr("aioconc.servers._member.start_python", no_process)
    assert serve(max_restarts=2) == 1
    assert "max_restarts is 2; the last: a worker cannot be started" in caplog.text
    assert "too many processes" in caplog.text


def test_a_successor_that_cannot_be_started_leaves_the_worker_that_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reload ends, and requests go on."""

    def no_more(_: int) -> None:
        def no_process(*_: Any) -> Any:
            raise OSError(errno.EAGAIN, "too many processes")

        monkeypatch.setattr("aioconc.servers._member.start_python", no_process)
        signal_self(signal.SIGHUP)

    with steps(("ready", no_more), ("reload_failed", stop)):
        assert serve() == 0


def test_a_worker_that_fails_as_it_ends_shows_in_the_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The others have ended in order, but not all."""

    async def bad_end(sockets: Sequence[socket.socket]) -> None:
        try:
            await serve_tcp(echo, sockets=sockets)
        finally:
            raise LookupError("not saved")

    with steps(("ready", stop)):
        assert serve_prefork(bad_end, 0, host="127.0.0.1", workers=1) == 1
    assert "LookupError: not saved, when it was to end" in caplog.text


def test_what_the_factory_returns_must_be_awaitable(caplog: pytest.LogCaptureFixture) -> None:
    """A plain function fails its workers with the reason."""

    def plain(sockets: Sequence[socket.socket]) -> Any:
        return None

    assert serve_prefork(plain, 0, host="127.0.0.1", workers=1, max_restarts=0) == 1
    assert "the factory of serve_prefork returned None; it must be an async" in caplog.text


def test_a_failing_on_ready_is_logged_and_the_program_serves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever wants to be told has failed, not the server."""

    def on_ready(port: int) -> None:
        signal_self(signal.SIGTERM)
        raise LookupError("no such port")

    assert serve(on_ready=on_ready) == 0
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == "on_ready failed"


def test_a_worker_that_is_still_starting_when_it_is_to_end_is_no_failure() -> None:
    """It is killed when the time is up, and has lost nothing."""

    async def slow_to_start(sockets: Sequence[socket.socket]) -> None:
        time.sleep(3600)

    with steps(("worker_started", stop)):
        assert serve_prefork(slow_to_start, 0, host="127.0.0.1", workers=1, drain=0.1) == 0


def test_a_signal_to_supervisor_and_workers_alike_asks_them_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As systemd ends a service: what is under way is finished, whoever of them hears of it first."""

    async def finish() -> None:
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            raise LookupError("what was under way is lost") from None

    async def asked_once(sockets: Sequence[socket.socket]) -> None:
        ready()
        try:
            await asyncio.sleep(3600)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await finish()

    assert serve_prefork(asked_once, 0, host="127.0.0.1", workers=1, on_ready=stop) == 0

    async def asked_before(sockets: Sequence[socket.socket]) -> None:
        ready()
        try:
            await asyncio.sleep(3600)
        finally:
            await finish()

    pids: list[int] = []

    class KillWorker(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "the workers are asked to end" in record.getMessage():
                os.kill(pids[0], signal.SIGTERM)
                time.sleep(0.2)  # it has said so, and that was not read yet

    handler = KillWorker()
    logging.getLogger("aioconc").addHandler(handler)
    caplog.set_level(logging.INFO, "aioconc")
    try:
        with steps(("worker_ready", pids.append), ("ready", stop)) as seen:
            assert serve_prefork(asked_before, 0, host="127.0.0.1", workers=1) == 0
    finally:
        logging.getLogger("aioconc").removeHandler(handler)
    assert seen.count("worker_started") == 1


def test_a_signal_while_a_worker_ends_does_not_kill_it() -> None:
    """Nor in the moment in which its event loop lets go of the signal."""

    def make_loop() -> asyncio.AbstractEventLoop:
        class Loop(asyncio.SelectorEventLoop):
            def remove_signal_handler(self, sig: int) -> bool:
                done = super().remove_signal_handler(sig)
                os.kill(os.getpid(), signal.SIGTERM)
                return done

        return Loop()

    with steps(("ready", stop)):
        assert serve(loop=make_loop) == 0


class _Loaded:
    """A factory that notes how it is loaded, and is asked to end the first time."""

    def __init__(self, log: str) -> None:
        self._log = log

    def __reduce__(self) -> Any:
        return _load, (self._log,)

    async def __call__(self, sockets: Sequence[socket.socket]) -> None:
        await app(sockets)


def _load(log: str) -> _Loaded:
    first = not Path(log).exists()
    with Path(log).open("a") as file:
        file.write(f"{sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))}\n")
    if first:
        os.kill(os.getpid(), signal.SIGTERM)
    return _Loaded(log)


def test_what_a_factory_starts_as_it_is_loaded_inherits_no_blocked_signals(tmp_path: Path) -> None:
    """Else a process that a module of the user starts could not be ended; and none of them is lost."""
    log = tmp_path / "loaded"
    with steps(("ready", stop)) as seen:
        assert serve_prefork(_Loaded(str(log)), 0, host="127.0.0.1", workers=1, max_restarts=0) == 0
    assert seen.count("worker_started") == 2
    assert log.read_text() == "[]\n[]\n"


def test_a_process_that_cannot_be_watched_is_not_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ended before the failure is told."""
    pids: list[int] = []

    def add_reader(self: asyncio.SelectorEventLoop, fd: Any, *args: Any) -> None:
        if isinstance(fd, socket.socket):
            raise OSError(errno.ENOSPC, "no more watches")
        pids.append(fd)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", add_reader)
    before = psutil.Process().children()
    assert serve(max_restarts=0) == 1
    assert "a worker cannot be started: [Errno 28] no more watches" in caplog.text
    assert [each for each in psutil.Process().children() if each not in before] == []
