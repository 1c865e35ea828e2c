"""Connections served by tasks: the handler gets a `Connection`, plain or TLS."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

from anyio import aclose_forcefully
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSStream

from aioconc.servers._connection import Connection
from aioconc.servers._idle import Failures
from aioconc.servers._listen import reset_at_close
from aioconc.servers._server import Link, Lost, Refused, settled
from aioconc.sync import Event
from aioconc.tasks import fail_after, move_on_after
from aioconc.tasks._child import called

TaskHandler = Callable[[Connection], Awaitable[object]]


class InTask:
    """Serves each connection in its own task.

    Args:
        handler: of the user.
        tls: None: the connections are plain.
        idle_timeout: seconds; None for no limit.
        handshake_timeout: seconds, for the TLS handshakes at both ends of a connection.
        draining: of the server.
        loop: that they run in.
    """

    def __init__(
        self,
        handler: TaskHandler,
        *,
        tls: ssl.SSLContext | None,
        idle_timeout: float | None,
        handshake_timeout: float,
        draining: Event,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._handler = handler
        self._tls = tls
        self._idle_timeout = idle_timeout
        self._handshake_timeout = handshake_timeout
        self._draining = draining
        self._loop = loop

    async def serve(self, link: Link) -> None:
        """Make a stream of the connection, and call the handler with it."""
        stream = await self._open(link)
        connection = Connection(stream, link.peer, self._draining, self._idle_timeout, self._loop)
        link.drain = connection._drain
        orderly = False
        try:
            await called(self._handler, (connection,))
            orderly = True
        except Exception as error:
            if told_by(error, connection._failures):
                raise Lost(error) from None
            raise
        finally:
            link.drain = None
            connection._stop_clocks()
            await self._close(connection, link, orderly)

    async def _open(self, link: Link) -> ByteStream:
        sock = link.sock
        assert sock is not None
        plain: SocketStream | None = None
        try:
            sock.setblocking(False)
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain = await SocketStream.from_socket(sock)
            link.sock = None
            if self._tls is None:
                return plain
            secured: ByteStream = plain
            with fail_after(self._handshake_timeout):
                secured = await TLSStream.wrap(plain, server_side=True, ssl_context=self._tls)
            return secured
        except BaseException as error:
            if plain is not None:
                await settled(aclose_forcefully(plain))
            if isinstance(error, Exception):
                raise Refused("the connection could not be opened") from error
            raise

    async def _close(self, connection: Connection, link: Link, orderly: bool) -> None:
        """End the connection: in order, or so that the client sees that it was not."""
        if connection._closed:
            return
        if not orderly:
            reset_at_close(link.socket_below)
            stream = connection._stream
            stream = getattr(stream, "transport_stream", stream)
            # Older versions of anyio send the end of the data before they close.
            if (transport := getattr(stream, "_transport", None)) is not None:
                transport.abort()
            await settled(aclose_forcefully(stream))
            return
        # TLS says good-bye and waits for the answer.
        with move_on_after(self._handshake_timeout):
            await settled(connection.aclose())

    async def aclose(self) -> None:
        """Nothing is kept."""


def told_by(error: BaseException, failures: Failures) -> bool:
    """Whether the error, or all in the group, came from the connection itself."""
    if isinstance(error, BaseExceptionGroup):
        return all(told_by(each, failures) for each in error.exceptions)
    return any(error is each for each in failures)
