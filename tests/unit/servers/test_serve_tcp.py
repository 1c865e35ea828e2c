"""serve_tcp with a task for each connection: what it takes, and what a handler's failure costs."""

import asyncio
import contextvars
import logging
import socket
import sys
from functools import partial
from typing import Any

import pytest
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

from aioconc import TaskGroup
from aioconc._internal import _hooks
from aioconc.servers import Connection, TcpServer, serve_tcp
from aioconc.servers._listen import count_queued
from tests.unit.servers.serving import ask, client, echo, end_of, serving, until

# Eager tasks begin inside of what accepts.
pytestmark = pytest.mark.loops("all")

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into TCP_INFO")


async def test_start_returns_once_it_accepts_and_tells_the_port() -> None:
    """`TaskGroup.start` gives the server, whose port can be connected to at once."""
    async with serving(echo) as server:
        assert server.port == server.sockets[0].getsockname()[1]
        assert await ask(server, b"one") == b"one"
        assert await ask(server, b"two") == b"two"
        await until(lambda: server.statistics().active == 0)
        assert server.statistics().accepted == 2
        assert repr(server) == (f"<TcpServer on 127.0.0.1:{server.port}, serving, 0/1000 active>")
    assert ", over, " in repr(server)


async def test_all_addresses_have_one_port() -> None:
    """Without a host it listens on IPv4 and IPv6, if there is any, with the same free port."""
    async with serving(echo, host=None) as server:
        assert len({each.getsockname()[1] for each in server.sockets}) == 1
        for each in server.sockets:
            local = "127.0.0.1" if each.family == socket.AF_INET else "::1"
            reader, writer = await asyncio.open_connection(local, server.port)
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            writer.transport.abort()


@linux
async def test_who_comes_above_the_limit_waits_in_the_kernel() -> None:
    """With every permit taken nothing is accepted; the next one is when a connection ends."""
    greeted = []

    async def greet(connection: Connection) -> None:
        greeted.append(connection.peer)
        await connection.receive()

    async with serving(greet, limit=2) as server:
        clients = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        await until(lambda: len(greeted) == 2)
        assert "2/2 active, full" in repr(server)
        await until(lambda: count_queued(server.sockets[0]) == 3)
        assert server.statistics().accepted == 2
        for number, (_, writer) in enumerate(clients):
            writer.write(b"bye")
            await until(partial(_accepted, server, min(number + 3, 5)))
            assert server.statistics().active <= 2
        for _, writer in clients:
            writer.transport.abort()
    assert len(greeted) == 5


def _accepted(server: TcpServer, count: int) -> bool:
    return server.statistics().accepted == count


async def test_a_failing_handler_costs_its_connection_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its client sees a reset, not an orderly end; the others go on; it is counted and logged."""

    async def handler(connection: Connection) -> None:
        async for data in connection:
            if data == b"crash":
                raise LookupError("no such table")
            await connection.send(data)

    events = []
    unsubscribe = _hooks.subscribe(lambda event, fields: events.append((event, fields)))
    try:
        async with serving(handler) as server, client(server) as (reader, writer):
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            async with client(server) as (other_reader, other_writer):
                other_writer.write(b"crash")
                assert await end_of(other_reader) == "reset"
            await until(lambda: server.statistics().crashed == 1)
            writer.write(b"after")
            assert await reader.readexactly(5) == b"after"
    finally:
        unsubscribe()
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "the handler of the connection from 127.0.0.1:" in record.getMessage()
    assert record.exc_info is not None and "no such table" in str(record.exc_info[1])
    failed = [fields for event, fields in events if event == "server.connection_failed"]
    assert len(failed) == 1 and isinstance(failed[0]["error"], LookupError)


async def test_on_error_is_told_instead_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It gets the exception and the client's address; if it fails itself, both are logged."""
    told: list[tuple[Exception, Any]] = []

    async def handler(connection: Connection) -> None:
        raise LookupError(str(connection.peer[1]))

    def on_error(error: Exception, peer: Any) -> None:
        told.append((error, peer))
        if len(told) == 2:
            raise RuntimeError("a bug in on_error")

    async with serving(handler, on_error=on_error) as server:
        async with client(server) as (reader, _):
            assert await end_of(reader) == "reset"
        error, peer = told[0]
        assert isinstance(error, LookupError) and str(error) == str(peer[1])
        assert not caplog.records
        async with client(server) as (reader, _):
            assert await end_of(reader) == "reset"
    assert [each.levelname for each in caplog.records] == ["ERROR", "ERROR"]


async def test_a_client_that_breaks_off_is_no_failure_of_the_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error of the connection that the handler lets pass is counted as lost, also in a group."""

    async def in_group(connection: Connection) -> None:
        async with TaskGroup() as group:
            group.start_soon(connection.receive)

    for handler in (Connection.receive, in_group):
        async with serving(handler) as server:
            async with client(server) as (_, writer):
                await until(lambda: server.statistics().active == 1)
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await until(lambda: server.statistics().lost == 1)
            assert server.statistics().crashed == 0
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_an_error_like_that_of_something_else_is_a_failure() -> None:
    """A broken connection to a database, say, is not taken for the client's."""

    async def handler(connection: Connection) -> None:
        raise ConnectionResetError("the database has gone")

    async with serving(handler, on_error=lambda *_: None) as server:
        async with client(server) as (reader, _):
            await end_of(reader)
        await until(lambda: server.statistics().crashed == 1)


async def test_what_the_handler_returns_from_is_closed_in_order() -> None:
    """All that was sent arrives, then the end."""
    size = 3_000_000

    async def handler(connection: Connection) -> None:
        await connection.send(b"x" * size)

    async with serving(handler, idle_timeout=20) as server, client(server) as (reader, _):
        assert len(await reader.read(-1)) == size


async def test_a_handler_that_is_not_async_is_told() -> None:
    """A function that returns nothing awaitable fails its connections with the reason."""
    told: list[str] = []
    async with serving(lambda _: 3, on_error=lambda error, _: told.append(str(error))) as server:
        async with client(server) as (reader, _):
            await end_of(reader)
        await until(lambda: told)
    assert "returned 3, which cannot be awaited" in told[0]


async def test_handlers_see_the_context_of_the_caller_and_not_one_another() -> None:
    """Context variables are those of the call; what a handler sets, others do not see."""
    variable = contextvars.ContextVar("variable", default="nothing")
    seen = []

    async def handler(connection: Connection) -> None:
        seen.append(variable.get())
        variable.set("the handler's")

    variable.set("the caller's")
    async with serving(handler, limit=1) as server:
        for _ in range(3):
            async with client(server) as (reader, _):
                await end_of(reader)
    assert seen == ["the caller's"] * 3


async def test_sockets_of_the_caller_stay_open() -> None:
    """They are served, made to listen if they do not yet, and belong to the caller afterwards."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        async with TaskGroup() as group:
            server = await group.start(partial(serve_tcp, echo, sockets=[sock]))
            assert server.port == sock.getsockname()[1]
            assert await ask(server) == b"hello"
            server.drain()
        assert sock.fileno() >= 0
        async with TaskGroup() as group:
            server = await group.start(partial(serve_tcp, echo, sockets=[sock]))
            assert await ask(server) == b"hello"
            server.drain()


async def test_local_sockets_are_served(tmp_path: Any) -> None:
    """A socket in the file system has no port, and clients without an address."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        async with TaskGroup() as group:
            server = await group.start(partial(serve_tcp, echo, sockets=[sock]))
            assert server.port == 0
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            writer.transport.abort()
            server.drain()


async def test_a_port_in_use_is_an_error_before_anything_is_served() -> None:
    """The caller of `start` gets the OSError with the address, and the group goes on."""
    async with serving(echo) as server:
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {server.port}"):
            await serve_tcp(echo, server.port, host="127.0.0.1")


async def test_reuse_port_lets_another_server_have_the_same_port() -> None:
    """Both serve there."""
    async with serving(echo, reuse_port=True) as server, TaskGroup() as group:
        start = partial(serve_tcp, echo, server.port, host="127.0.0.1", reuse_port=True)
        other = await group.start(start)
        assert other.port == server.port
        other.drain()


async def test_a_socket_that_becomes_unusable_ends_the_server() -> None:
    """It raises the OSError, rather than to look at a dead socket for ever."""
    sock = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as group:
            await group.start(partial(serve_tcp, echo, sockets=[sock]))
            # What `accept` then says is that the socket does not listen.
            sock.shutdown(socket.SHUT_RDWR)
    assert caught.group_contains(OSError)
    sock.close()


async def test_what_anyio_has_for_streams_works_on_a_connection() -> None:
    """Lines and lengths are read with its buffered stream."""

    async def handler(connection: Connection) -> None:
        buffered = BufferedByteReceiveStream(connection)
        length = int(await buffered.receive_until(b"\n", 10))
        await connection.send(await buffered.receive_exactly(length))
        assert connection.extra(SocketAttribute.remote_port) == connection.peer[1]
        assert repr(connection) == f"<Connection from {connection.peer}>"
        await connection.send_eof()

    async with serving(handler, idle_timeout=20) as server, client(server) as (reader, writer):
        writer.write(b"5\nhelloand more")
        assert await end_of(reader) == "end after b'hello'"
    assert server.statistics().crashed == 0
