"""asyncio's own: streams, and a protocol without a task."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def streams() -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0, backlog=2048) as server:
        yield server.sockets[0].getsockname()[1]


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]


@asynccontextmanager
async def protocol() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(_Echo, "127.0.0.1", 0, backlog=2048) as server:
        yield server.sockets[0].getsockname()[1]
