"""What the tests of `serve_tcp` share: a server for a block, and clients of it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aioconc import TaskGroup
from aioconc.servers import Connection, TcpServer, serve_tcp


@asynccontextmanager
async def serving(handler: Callable[[Any], Any], **options: Any) -> AsyncIterator[TcpServer]:
    """A server on the loopback, which has drained when the block is over."""
    async with TaskGroup() as group:
        options = {"host": "127.0.0.1", "drain": 5} | options
        server = await group.start(partial(serve_tcp, handler, 0, **options))
        yield server
        server.drain()


@asynccontextmanager
async def client(
    server: TcpServer, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **options)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], timeout: float = 20) -> None:
    """Wait until something has become true."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.001)


async def echo(connection: Connection) -> None:
    """Send back what comes."""
    async for data in connection:
        await connection.send(data)


def echo_blocking(sock: socket.socket) -> None:
    """The same, in a thread or process."""
    while data := sock.recv(65_536):
        sock.sendall(data)


async def ask(server: TcpServer, text: bytes = b"hello", **options: Any) -> bytes:
    """One exchange, on a connection of its own."""
    async with client(server, **options) as (reader, writer):
        writer.write(text)
        return await reader.readexactly(len(text))


async def end_of(reader: asyncio.StreamReader) -> str:
    """How the connection ends, as its client sees it."""
    try:
        async with asyncio.timeout(20):
            rest = await reader.read()
    except ConnectionResetError:
        return "reset"
    return f"end after {rest!r}" if rest else "end"
