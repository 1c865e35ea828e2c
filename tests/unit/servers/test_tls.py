"""serve_tcp with TLS, for tasks and threads."""

import asyncio
import logging
import socket
import ssl
from typing import Any

import pytest
import trustme

from aioconc.servers import Connection
from tests.unit.servers.serving import ask, client, echo, echo_blocking, end_of, serving, until

# Eager tasks begin inside of what accepts.
pytestmark = pytest.mark.loops("all")

HANDLERS: dict[str, Any] = {"task": echo, "thread": echo_blocking}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("kind", HANDLERS)
async def test_tls_connections_are_served(
    kind: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """With a certificate that the client checks."""
    async with serving(HANDLERS[kind], ssl=server_tls, per_connection=kind) as server:
        assert await ask(server, ssl=client_tls) == b"hello"


async def test_a_handler_can_look_at_the_tls_connection(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """anyio's attributes are there."""
    from anyio.streams.tls import TLSAttribute

    async def handler(connection: Connection) -> None:
        await connection.send(connection.extra(TLSAttribute.tls_version).encode())

    async with (
        serving(handler, ssl=server_tls) as server,
        client(server, ssl=client_tls) as (reader, _),
    ):
        assert (await reader.read(100)).startswith(b"TLSv1.")


@pytest.mark.slow
@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("kind", HANDLERS)
async def test_a_handshake_holds_up_nobody_else_and_ends_by_its_deadline(
    kind: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A client that connects and says nothing is dropped; meanwhile others are served."""
    options: dict[str, Any] = {"ssl": server_tls, "per_connection": kind}
    async with serving(HANDLERS[kind], handshake_timeout=1, **options) as server:
        async with client(server) as (reader, _):
            await until(lambda: server.statistics().active == 1)
            assert await ask(server, ssl=client_tls) == b"hello"
            assert server.statistics().refused == 0
            assert await end_of(reader) in ("end", "reset")
        await until(lambda: server.statistics().refused == 1)


@pytest.mark.parametrize("kind", HANDLERS)
async def test_what_is_no_handshake_is_refused_without_a_log_line(
    kind: str, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A port scanner makes no noise, and is counted."""
    options: dict[str, Any] = {"ssl": server_tls, "per_connection": kind}
    async with serving(HANDLERS[kind], **options) as server:
        async with client(server) as (reader, writer):
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            await end_of(reader)
        await until(lambda: server.statistics().refused == 1)
        assert server.statistics().crashed == 0
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", HANDLERS)
async def test_the_end_is_told_as_tls_tells_it(
    kind: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A client that insists on a proper end gets one: the answer cannot have been cut off."""

    async def one_word(connection: Connection) -> None:
        await connection.send(b"word")

    def one_word_blocking(sock: socket.socket) -> None:
        sock.sendall(b"word")

    handler: Any = one_word if kind == "task" else one_word_blocking

    def read(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            client_tls.wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as sock,
        ):
            data = b""
            while piece := sock.recv(100):
                data += piece
            return data

    async with serving(handler, ssl=server_tls, per_connection=kind) as server:
        assert await asyncio.to_thread(read, server.port) == b"word"
