"""serve_prefork called in this very process: what it returns, and what it puts back."""

import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from aioconc._internal import _hooks
from aioconc.servers import serve_prefork, serve_tcp
from tests.unit.servers.serving import echo

pytestmark = pytest.mark.slow


async def app(sockets: Sequence[socket.socket]) -> None:
    await serve_tcp(echo, sockets=sockets)


def ask(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"


def test_handlers_are_put_back_and_nothing_is_left() -> None:
    """After an orderly end the signals do what they did before, and no process or socket is left."""
    ports = []

    def stop(port: int) -> None:
        ports.append(port)
        ask(port)
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    events = []
    unsubscribe = _hooks.subscribe(lambda event, _: events.append(event))
    try:
        assert serve_prefork(app, 0, host="127.0.0.1", workers=1, on_ready=stop) == 0
    finally:
        unsubscribe()
    assert {number: signal.getsignal(number) for number in numbers} == before
    assert [each for each in events if each.startswith("prefork.")] == [
        "prefork.worker_started",
        "prefork.worker_ready",
        "prefork.ready",
        "prefork.worker_ended",
    ]
    with pytest.raises(ConnectionRefusedError):
        ask(ports[0])


def test_sockets_of_the_caller_stay_open() -> None:
    """They are served, and what queues later is not reset."""

    def stop(port: int) -> None:
        ask(port)
        os.kill(os.getpid(), signal.SIGINT)

    with socket.create_server(("127.0.0.1", 0)) as sock:
        for _ in range(2):
            assert serve_prefork(app, sockets=[sock], workers=1, on_ready=stop) == 0
        with socket.create_connection(sock.getsockname()) as queued:
            queued.sendall(b"x")
            sock.setblocking(True)
            accepted, _ = sock.accept()
            assert accepted.recv(1) == b"x"
            accepted.close()


def test_an_on_ready_that_exits_leaves_no_worker() -> None:
    """What is raised past the supervisor ends the workers at once."""

    def leave(port: int) -> None:
        raise SystemExit(7)

    with pytest.raises(SystemExit, match="7"):
        serve_prefork(app, 0, host="127.0.0.1", workers=1, on_ready=leave)


def test_a_signal_while_the_workers_start_ends_them() -> None:
    """They are asked to end although they do not serve yet."""

    def at_start(event: str, fields: dict[str, Any]) -> None:
        if event == "prefork.worker_started":
            os.kill(os.getpid(), signal.SIGTERM)

    unsubscribe = _hooks.subscribe(at_start)
    try:
        assert serve_prefork(app, 0, host="127.0.0.1", workers=1) == 0
    finally:
        unsubscribe()


@pytest.mark.soak
def test_closures_are_served_by_value() -> None:
    """A factory that workers cannot import goes with what it refers to."""
    greeting = b"hello from a closure"

    async def greet(connection: Any) -> None:
        await connection.send(greeting)

    async def local(sockets: Sequence[socket.socket]) -> None:
        await serve_tcp(greet, sockets=sockets)

    def stop(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            assert sock.recv(100) == greeting
        os.kill(os.getpid(), signal.SIGTERM)

    assert serve_prefork(local, 0, host="127.0.0.1", workers=1, on_ready=stop) == 0


@pytest.mark.parametrize(
    "without",
    [
        "pidfd",
        pytest.param("filter", marks=pytest.mark.soak),
        pytest.param("queue", marks=pytest.mark.soak),
    ],
)
def test_an_older_system_will_do(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors of processes, without filters of sockets, without counts of the queue."""
    if without == "pidfd":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif without == "filter":
        monkeypatch.setattr("aioconc.servers._supervise.stop_newcomers", lambda _: False)
    else:
        monkeypatch.setattr("aioconc.servers._supervise.count_queued", lambda _: None)

    crashes = 0

    def hear(event: str, fields: dict[str, Any]) -> None:
        nonlocal crashes
        if event == "prefork.worker_ready" and not crashes:
            crashes += 1
            os.kill(fields["pid"], signal.SIGKILL)
        elif event == "prefork.worker_ready":
            os.kill(os.getpid(), signal.SIGTERM)

    unsubscribe = _hooks.subscribe(hear)
    try:
        assert serve_prefork(app, 0, host="127.0.0.1", workers=1) == 0
    finally:
        unsubscribe()
    assert crashes == 1
