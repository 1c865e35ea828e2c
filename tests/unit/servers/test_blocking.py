"""serve_tcp with a thread or a worker process for each connection."""

import asyncio
import os
import socket
import threading
import time
from typing import Any

import pytest

from tests.unit.servers.serving import ask, client, echo_blocking, end_of, serving, until

pytestmark = pytest.mark.loops("asyncio")

KINDS = ["thread", pytest.param("process", marks=pytest.mark.slow)]

# Where the server, not the worker, does what is tested.
KINDS_ALIKE = ["thread", pytest.param("process", marks=[pytest.mark.slow, pytest.mark.soak])]


def say_who(sock: socket.socket) -> None:
    sock.sendall(b"%d %d" % (os.getpid(), threading.get_ident()))


def crash(sock: socket.socket) -> None:
    sock.recv(1)
    raise LookupError("no such table")


def exit_hard(sock: socket.socket) -> None:
    sock.recv(1)
    sock.sendall(b"half")
    os._exit(3)


def hold(sock: socket.socket) -> None:
    sock.sendall(b"ready")
    while sock.recv(1) != b"":
        pass
    sock.sendall(b"good-bye")


def sleep(sock: socket.socket) -> None:
    sock.sendall(b"ready")
    time.sleep(3600)


@pytest.mark.parametrize("kind", KINDS)
async def test_connections_are_served_elsewhere(kind: Any) -> None:
    """In other threads or processes than the loop's, several at a time."""
    async with serving(echo_blocking, per_connection=kind, limit=2) as server:
        assert await asyncio.gather(ask(server, b"one"), ask(server, b"two")) == [b"one", b"two"]
    async with (
        serving(say_who, per_connection=kind, limit=2) as server,
        client(server) as (reader, _),
    ):
        pid, ident = map(int, (await reader.read()).split())
    assert (pid == os.getpid()) == (kind == "thread")
    assert ident != threading.get_ident() or kind == "process"


@pytest.mark.parametrize("kind", KINDS_ALIKE)
async def test_no_more_connections_than_the_limit_are_taken(kind: Any) -> None:
    """The one above it is served when a place is free."""
    async with (
        serving(echo_blocking, per_connection=kind, limit=1) as server,
        client(server) as (reader, writer),
    ):
        writer.write(b"x")
        await reader.readexactly(1)
        async with client(server) as (second, second_writer):
            second_writer.write(b"y")
            writer.write(b"z")
            assert await reader.readexactly(1) == b"z"
            assert server.statistics().accepted == 1
            writer.write_eof()
            assert await second.readexactly(1) == b"y"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failing_handler_costs_its_connection_alone(kind: Any) -> None:
    """Its error arrives, its client sees a reset, and the next one is served."""
    told: list[Exception] = []
    options: dict[str, Any] = {"per_connection": kind, "limit": 1}
    async with serving(crash, on_error=lambda error, _: told.append(error), **options) as server:
        for count in (1, 2):
            async with client(server) as (reader, writer):
                writer.write(b"x")
                assert await end_of(reader) == "reset"
            await until(lambda count=count: len(told) == count)  # type: ignore[misc]
    assert all(isinstance(each, LookupError) for each in told)


@pytest.mark.slow
async def test_a_worker_process_that_dies_costs_its_connection_alone() -> None:
    """The failure says so, half an answer does not look whole, and another process serves the next."""
    told: list[Exception] = []
    options: dict[str, Any] = {"per_connection": "process", "limit": 1}
    async with serving(exit_hard, on_error=lambda e, _: told.append(e), **options) as server:
        for _ in range(2):
            async with client(server) as (reader, writer):
                writer.write(b"x")
                assert await end_of(reader) == "reset"
    assert [type(each).__name__ for each in told] == ["WorkerCrashed"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_a_drain_is_told_by_the_end_of_the_data(kind: Any) -> None:
    """A handler that waits for its client sees the end, and can still say good-bye."""
    async with (
        serving(hold, per_connection=kind, limit=1, drain=30) as server,
        client(server) as (reader, _),
    ):
        assert await reader.readexactly(5) == b"ready"
        server.drain()
        assert await end_of(reader) == "end after b'good-bye'"
    assert server.statistics().cut_off == 0


@pytest.mark.slow
async def test_who_had_queued_when_the_drain_began_is_told_of_it_too() -> None:
    """Its handler begins after that, and would else wait for its client until the deadline."""
    async with serving(hold, per_connection="thread", limit=1, drain=30) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            server.drain()  # no callback of the loop has come in between
            assert server.statistics().active == 1
            assert await asyncio.to_thread(sock.recv, 5, socket.MSG_WAITALL) == b"ready"
            assert await asyncio.to_thread(sock.recv, 8, socket.MSG_WAITALL) == b"good-bye"
    assert server.statistics().cut_off == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_the_deadline_ends_a_handler_that_waits_for_its_client(kind: Any) -> None:
    """A thread sees the end of its socket, a process is killed."""
    async with (
        serving(hold, per_connection=kind, limit=1, drain=0.05) as server,
        client(server) as (reader, _),
    ):
        assert await reader.readexactly(5) == b"ready"
        server.drain()
        assert (await end_of(reader)).startswith(("end", "reset"))
    assert server.statistics().cut_off == 1


@pytest.mark.slow
async def test_the_deadline_kills_a_process_that_will_not_end() -> None:
    """Although it never looks at its socket."""
    async with (
        serving(sleep, per_connection="process", limit=1, drain=0.05) as server,
        client(server) as (reader, _),
    ):
        assert await reader.readexactly(5) == b"ready"
        server.drain()
        assert await end_of(reader) in ("end", "reset")


@pytest.mark.parametrize("kind", KINDS_ALIKE)
async def test_a_client_that_stands_still_is_gone_after_the_idle_timeout(kind: Any) -> None:
    """The socket has that timeout, and its TimeoutError is no failure."""
    options: dict[str, Any] = {"per_connection": kind, "limit": 1, "idle_timeout": 0.05}
    async with serving(echo_blocking, **options) as server, client(server) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        assert await end_of(reader) == "reset"
        await until(lambda: server.statistics().timed_out == 1)


@pytest.mark.parametrize("kind", KINDS_ALIKE)
async def test_the_timeout_ends_a_connection_as_a_whole(kind: Any) -> None:
    """However much the client sends."""
    options: dict[str, Any] = {"per_connection": kind, "limit": 1, "timeout": 0.2}
    async with serving(hold, **options) as server, client(server) as (reader, writer):
        writer.write(b"x" * 10)
        assert await end_of(reader) == "reset"
        await until(lambda: server.statistics().timed_out == 1)
    assert server.statistics().crashed == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_breaks_off_is_lost_not_a_failure(kind: Any) -> None:
    """The handler's ConnectionResetError came from the connection that it served."""
    options: dict[str, Any] = {"per_connection": kind, "limit": 1}
    async with serving(hold, **options) as server:
        async with client(server) as (reader, writer):
            await reader.readexactly(5)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await until(lambda: server.statistics().active == 0)
        now = server.statistics()
        assert (now.lost, now.crashed) == (1, 0)


def send_much(sock: socket.socket) -> None:
    sock.sendall(bytes(100_000_000))


async def test_a_client_that_reads_nothing_is_gone_after_the_idle_timeout() -> None:
    """A `sendall` has that timeout too."""
    options: dict[str, Any] = {"per_connection": "thread", "idle_timeout": 0.05}
    async with serving(send_much, **options) as server, client(server, limit=1) as (_, writer):
        while server.statistics().timed_out == 0:
            writer.write(b"and it says something now and then")
            await asyncio.sleep(0.01)
    assert server.statistics().crashed == 0


def meet_a_slow_database(sock: socket.socket) -> None:
    sock.recv(100)
    raise TimeoutError("the database does not answer")


def meet_a_broken_database(sock: socket.socket) -> None:
    sock.recv(100)
    raise ConnectionResetError("the database has gone")


@pytest.mark.parametrize("handler", [meet_a_slow_database, meet_a_broken_database])
async def test_an_error_like_that_of_something_else_is_a_failure(handler: Any) -> None:
    """It is not taken for the client's, and told."""
    told: list[Exception] = []
    options: dict[str, Any] = {"per_connection": "thread", "idle_timeout": 3600}
    async with serving(handler, on_error=lambda error, _: told.append(error), **options) as server:
        async with client(server) as (reader, writer):
            writer.write(b"x")
            assert await end_of(reader) == "reset"
        await until(lambda: told)
    assert "the database" in str(told[0])


async def test_the_deadline_ends_a_thread_that_sends() -> None:
    """Although nobody reads what it sends."""
    options: dict[str, Any] = {"per_connection": "thread", "drain": 0.01}
    async with serving(send_much, **options) as server, client(server, limit=1) as (reader, _):
        await reader.readexactly(1)
        server.drain()
        await until(lambda: server.statistics().active == 0)
    assert server.statistics().cut_off == 1
