"""anyio's listener and streams."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream


async def _echo(stream: SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


@asynccontextmanager
async def listener() -> AsyncIterator[int]:
    opened = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=2048)
    async with opened, anyio.create_task_group() as group:
        group.start_soon(opened.serve, _echo)
        yield opened.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()
