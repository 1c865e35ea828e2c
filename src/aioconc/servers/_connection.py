"""What a handler in the loop gets: a stream of bytes that knows its limits.

It is an anyio `ByteStream`, plain or TLS, so that everything made for those works on it. A client
that stands still is noticed here; that the server wants to end is told here. Opening and closing
the connection is left to the server.
"""

import asyncio
import select
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute

from aioconc.servers._idle import Failures, IdleClock
from aioconc.sync import Event
from aioconc.tasks import CancelScope

T = TypeVar("T")

# Bytes that are sent in one piece: a client that takes one has not stood still.
_PIECE = 262_144

# Errors that are remembered: as many may come together in one group, sending and receiving.
_FAILURES = 8

# Seconds. A client that has sent nothing yet has perhaps only just connected when the server begins
# to drain: it gets so long to say what it wants.
FIRST_WORD = 1.0

# Seconds. One that is between two requests has perhaps just sent the next: what comes so soon is
# served, rather than to cross with the end of the connection.
QUIET = 0.1


class Connection(ByteStream):
    """One client, for a handler that runs as a task.

    `receive`, `send`, `send_eof` and `aclose` are those of an anyio stream, as are the attributes
    (`connection.extra(TLSAttribute.peer_certificate)`). The server closes it when the handler
    returns, and resets it when the handler fails.

    Attributes:
        peer: the client's address, as `socket.getpeername` gives it.
        draining: set once the server ends; a handler that is asked for a new piece of work then may
            tell its client to go elsewhere.

    Example:
        >>> import anyio
        >>> async def echo(connection: Connection) -> None:
        ...     async for data in connection:
        ...         await connection.send(data)
    """

    def __init__(
        self,
        stream: ByteStream,
        peer: Any,
        draining: Event,
        idle_timeout: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._stream = stream
        self._loop = loop
        self._closed = False
        self._has_received = False
        # Blocks of `until_drain` that are open now.
        self._waits: set[CancelScope] = set()
        # What tells of the client's end rather than of a fault of the handler: the newest errors, since
        # a handler may outlive any number of them.
        self._failures: Failures = deque(maxlen=_FAILURES)
        self._receiving = self._sending = None
        if idle_timeout is not None:
            self._receiving = IdleClock(idle_timeout, "sent nothing", self._failures)
            self._sending = IdleClock(idle_timeout, "took nothing", self._failures)
        self.peer = peer
        self.draining = draining

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """The next bytes from the client, one at least.

        Args:
            max_bytes: int >= 1.

        Raises:
            anyio.EndOfStream: the client sends no more.
            anyio.BrokenResourceError: the connection is lost.
            TimeoutError: nothing has come for `idle_timeout` seconds.

        Cancellation:
            Nothing is lost.
        """
        if self._receiving is None:
            data = await self._noting(self._stream.receive(max_bytes))
        else:
            with self._receiving:
                data = await self._noting(self._stream.receive(max_bytes))
        self._has_received = True
        return data

    async def send(self, item: bytes) -> None:
        """Send all of `item`.

        Raises:
            anyio.BrokenResourceError: the connection is lost.
            TimeoutError: the client has taken nothing for `idle_timeout` seconds.

        Cancellation:
            A part of it may have been sent.
        """
        if self._sending is None:
            await self._noting(self._stream.send(item))
            return
        for at in range(0, len(item), _PIECE):
            piece = item if len(item) <= _PIECE else item[at : at + _PIECE]
            with self._sending:
                await self._noting(self._stream.send(piece))

    async def send_eof(self) -> None:
        """Tell the client that nothing more will be sent; receiving goes on."""
        await self._noting(self._stream.send_eof())

    async def aclose(self) -> None:
        """Close the connection; the server does so when the handler returns."""
        if not self._closed:
            self._closed = True
            await self._stream.aclose()

    @contextmanager
    def until_drain(self) -> Iterator[CancelScope]:
        """A block that ends quietly when the server drains.

        For the wait for the next piece of work, where nothing is lost if it does not come.

        What the client has just sent is still received: the block ends after a tenth of a second,
        or after one for a client that has not sent anything yet.

        Returns:
            A `CancelScope`; `cancelled_caught` tells afterwards whether the block was ended.

        Example:
            >>> async def handler(connection: Connection) -> None:
            ...     while not connection.draining.is_set():
            ...         with connection.until_drain() as wait:
            ...             request = await connection.receive()
            ...         if wait.cancelled_caught:
            ...             break
            ...         await connection.send(request.upper())
        """
        with CancelScope(name="until drain") as scope:
            self._waits.add(scope)
            if self.draining.is_set():
                self._end_wait(scope)
            try:
                yield scope
            finally:
                self._waits.discard(scope)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the stream below, such as `SocketAttribute.remote_address`."""
        return self._stream.extra_attributes

    def _drain(self) -> None:
        """The server has begun to drain."""
        for scope in [*self._waits]:
            self._end_wait(scope)

    def _end_wait(self, scope: CancelScope) -> None:
        """Cancel a block of `until_drain` soon, or later if the client may be about to say more."""
        delay = QUIET if self._has_received and not self._has_more() else FIRST_WORD
        self._loop.call_later(delay, scope.cancel, "the server drains")

    def _has_more(self) -> bool:
        """Whether there is something from the client that was not received yet."""
        sock = self._stream.extra(SocketAttribute.raw_socket, None)
        if sock is None or sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    async def _noting(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except (anyio.EndOfStream, anyio.BrokenResourceError, OSError) as error:
            self._failures.append(error)
            raise

    def _stop_clocks(self) -> None:
        """Nothing is received or sent any more."""
        self._failures.clear()  # they refer to this connection
        for clock in (self._receiving, self._sending):
            if clock is not None:
                clock.close()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ", draining" if self.draining.is_set() else ""
        return f"<Connection from {self.peer}{state}>"
