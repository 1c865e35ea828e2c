"""An echo server in four ways: one client at a time, or a task, a thread or a process for each."""

import socket
import sys
from functools import partial
from typing import Any

from aioconc import TaskGroup, run
from aioconc.servers import Connection, serve_tcp


async def echo(connection: Connection) -> None:
    async for data in connection:
        await connection.send(data)


def echo_blocking(connection: socket.socket) -> None:
    while data := connection.recv(65_536):
        connection.sendall(data)


WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "iterate": (echo, {"limit": 1}),  # the others wait in the kernel
    "task": (echo, {"limit": 1000}),
    "thread": (echo_blocking, {"limit": 100, "per_connection": "thread"}),
    "process": (echo_blocking, {"limit": 4, "per_connection": "process"}),
}


async def main(way: str, port: int) -> None:
    handler, options = WAYS[way]
    serve = partial(serve_tcp, handler, port, host="127.0.0.1", drain=2.0, **options)
    async with TaskGroup() as group:
        server = await group.start(serve)
        print(f"{way}: listening on port {server.port}", flush=True)


if __name__ == "__main__":
    way = sys.argv[1] if len(sys.argv) > 1 else "task"
    run(main, way, int(sys.argv[2]) if len(sys.argv) > 2 else 7007)
