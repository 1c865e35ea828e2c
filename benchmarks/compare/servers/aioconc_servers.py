"""serve_tcp with a task or a thread for each connection."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aioconc import TaskGroup
from aioconc.servers import Connection, serve_tcp


async def _echo(connection: Connection) -> None:
    async for data in connection:
        await connection.send(data)


def _echo_blocking(sock: socket.socket) -> None:
    while data := sock.recv(65_536):
        sock.sendall(data)


@asynccontextmanager
async def _serving(handler: Any, **options: Any) -> AsyncIterator[int]:
    async with TaskGroup() as group:
        server = await group.start(partial(serve_tcp, handler, 0, host="127.0.0.1", **options))
        yield server.port
        server.drain()


task = partial(_serving, _echo)
timed = partial(_serving, _echo, idle_timeout=60, timeout=600)
thread = partial(_serving, _echo_blocking, per_connection="thread", limit=64)
