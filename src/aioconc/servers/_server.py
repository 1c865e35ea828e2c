"""The life of a server of connections: it serves, it drains, and what is left then is cut off.

`TcpServer` owns the listening sockets that were opened for it, the permits, and a task for each
connection, in one group. What a connection is served with (a task, a thread, a process) is a
`Way`; how the sockets came about is in `_tcp`.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Protocol

from aioconc._internal import _hooks
from aioconc.servers._accept import Acceptor
from aioconc.servers._listen import (
    end_waits,
    port_of,
    reset_at_close,
    say_address,
    stop_newcomers,
)
from aioconc.sync import Event
from aioconc.tasks import CancelScope, TaskGroup
from aioconc.tasks._join import join
from aioconc.tasks._scope import check_loop

OnError = Callable[[Exception, Any], object]

# Seconds. A handler that is still there so long after it was cancelled loses its connection under
# its feet, and is waited for.
STUBBORN = 0.1

_log = logging.getLogger("aioconc")


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """The state of a server, and what has become of its connections.

    Attributes:
        active: connections that are served now.
        accepted: connections that were accepted so far.
        crashed: those whose handler failed.
        lost: those that the client broke off, as far as the handler did not mind.
        timed_out: those that took longer than a time limit allows.
        refused: those that failed before the handler was called, most of them in a TLS handshake.
        cut_off: those that were cancelled, since they had not ended when the server had to.
        pauses: how often nothing could be accepted for want of descriptors.
    """

    active: int
    accepted: int
    crashed: int
    lost: int
    timed_out: int
    refused: int
    cut_off: int
    pauses: int


class Refused(Exception):
    """The connection failed before its handler was called."""


class Lost(Exception):
    """The client has broken the connection off, or stands still, and the handler left it at that."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Link:
    """One connection: its socket, until somebody else has taken it over, and how it is ended."""

    __slots__ = ("drain", "peer", "scope", "sock", "socket_below")

    def __init__(self, sock: socket.socket, peer: Any) -> None:
        # Closed by the server unless it is None.
        self.sock: socket.socket | None = sock
        # To end the connection with: a socket of the same connection that is open as long as this
        # link is in use. It is not closed through this.
        self.socket_below: Any = sock
        self.peer = peer
        # Around the handler.
        self.scope = CancelScope()
        # Tells the handler that the server drains.
        self.drain: Callable[[], object] | None = None


class Way(Protocol):
    """How connections are served."""

    async def serve(self, link: Link) -> None:
        """Serve one to its end; raises what the handler raises, `Refused` or `Lost`."""
        ...

    async def aclose(self) -> None:
        """End what serves, once nothing is served."""
        ...


# Server life:   serving -> draining -> cutting -> over
#                     \_________________/    (a second cancellation, or no time to drain)
# Rule 1: a connection is in `_links` from when it was accepted until its task has ended.
# Rule 2: `_over` is done iff the server drains or cuts, and `_links` is empty.
class TcpServer:
    """A server that runs: what `serve_tcp` gives to whoever started it.

    Attributes:
        sockets: the listening sockets.
        draining: set once the server has begun to drain.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        limit: float,
        drain: float,
        timeout: float | None,
        owned: bool,
        on_error: OnError | None,
    ) -> None:
        self.sockets = tuple(sockets)
        self.draining = Event()
        self._limit = limit
        self._drain_seconds = drain
        self._timeout = timeout
        self._owned = owned
        self._on_error = on_error
        self._addresses = [each.getsockname() for each in sockets]
        self._port = port_of(sockets)
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._group = TaskGroup(name="serve_tcp")
        self._acceptor: Acceptor | None = None
        self._links: dict[asyncio.Task[None], Link] = {}
        self._state = "new"
        self._failure: OSError | None = None
        self._outside: asyncio.CancelledError | None = None
        self._counts = dict.fromkeys(("crashed", "lost", "timed_out", "refused", "cut_off"), 0)

    @property
    def port(self) -> int:
        """The port that it listens on; 0 for local sockets."""
        return self._port

    def drain(self) -> None:
        """End in order: accept nothing more, tell the handlers, give them `drain` seconds.

        `serve_tcp` returns when that is over. Does nothing if the server drains already.

        Raises:
            RuntimeError: called from outside the server's event loop.
        """
        check_loop(self._loop, "a TcpServer", "server.drain")
        if self._state != "serving":
            return
        assert self._acceptor is not None
        self._state = "draining"
        # A socket of somebody else keeps its queue, for whoever accepts from it next.
        if self._owned:
            for each in self.sockets:
                stop_newcomers(each)
        self._acceptor.stop()
        if self._owned:
            self._acceptor.take_queued()
            for each in self.sockets:
                each.close()
        if _hooks.listeners:
            _hooks.emit("server.draining", server=self, connections=len(self._links))
        self.draining.set()
        for link in self._links.values():
            if link.drain is not None:
                link.drain()
        self._timer = self._loop.call_later(self._drain_seconds, self._cut)
        self._check_over()

    def _cut(self) -> None:
        """The time is up: cancel what is left."""
        if self._state == "serving":
            self.drain()
        if self._state != "draining":
            return
        self._state = "cutting"
        self._timer.cancel()
        if not self._links:
            return
        self._counts["cut_off"] += len(self._links)
        _log.warning(
            "%d connections had not ended %g s after the server began to drain, and are cut off",
            len(self._links),
            self._drain_seconds,
        )
        for link in self._links.values():
            reset_at_close(link.socket_below)
        self._loop.call_later(STUBBORN, self._cut_sockets)
        self._group.cancel("the server ends")

    def _cut_sockets(self) -> None:
        for link in self._links.values():
            end_waits(link.socket_below, socket.SHUT_RDWR)

    def statistics(self) -> ServerStatistics:
        """How many connections there are, and what became of the others."""
        acceptor = self._acceptor
        return ServerStatistics(
            active=len(self._links),
            accepted=acceptor.accepted if acceptor else 0,
            pauses=acceptor.pauses if acceptor else 0,
            **self._counts,
        )

    def __repr__(self) -> str:
        name = ", ".join(say_address(each) for each in self._addresses)
        full = ", full" if self._state == "serving" and len(self._links) >= self._limit else ""
        return (
            f"<TcpServer on {name}, {self._state}, {len(self._links)}/{self._limit} active{full}>"
        )

    # ------------------------------------------------------------------ the whole of it

    async def _run(self, way: Way, started: Callable[["TcpServer"], object]) -> None:
        """Serve until it is over; must begin in a context without a cancel scope.

        Args:
            way: what serves a connection.
            started: called once connections are accepted.
        """
        self._way = way
        try:
            async with self._group:
                self._context = copy_context()
                self._acceptor = Acceptor(
                    self.sockets, self._limit, self._context, self._take, self._fail
                )
                self._state = "serving"
                self._acceptor.start()
                try:
                    started(self)
                    # Outlasts its cancellation, which begins the drain.
                    await join(self._over, on_cancel=self._on_cancel)
                finally:
                    if self._state == "serving":  # whoever is told of the start has failed
                        self._drain_seconds = 0.0
                        self._cut()
            if self._failure is not None:
                raise self._failure
            if self._outside is not None:
                raise self._outside
        finally:
            self._state = "over"
            self._outside = self._failure = None
            if _hooks.listeners:
                _hooks.emit("server.closed", server=self)

    def _on_cancel(self, error: asyncio.CancelledError) -> None:
        if self._group.scope._is_mine(error):
            # From `_cut`; or a handler ends the program, and the group has cancelled the others.
            self._drain_seconds = 0.0
            self._cut()
            return
        if self._outside is None:
            self._outside = error
            self.drain()
        else:
            self._outside = error
            self._cut()

    def _fail(self, error: OSError) -> None:
        self._failure = error
        self.drain()

    def _check_over(self) -> None:
        if not self._links and self._state in ("draining", "cutting") and not self._over.done():
            self._timer.cancel()
            self._over.set_result(None)

    # ------------------------------------------------------------------ one connection

    def _take(self, sock: socket.socket, peer: Any) -> None:
        """Accepted just now, in a callback of the loop."""
        link = Link(sock, peer)
        try:
            task = self._group.create_task(
                self._serve(link),
                name=f"connection from {say_address(peer)}",
                context=self._context.copy(),
            )
        except RuntimeError:  # the group is being cancelled: a handler has ended the program
            sock.close()
            return
        self._links[task] = link
        task.add_done_callback(self._gone)

    def _gone(self, task: "asyncio.Task[None]") -> None:
        link = self._links.pop(task)
        if link.sock is not None:  # cancelled before its first step
            link.sock.close()
        assert self._acceptor is not None
        self._acceptor.give_back()
        self._check_over()

    async def _serve(self, link: Link) -> None:
        link.scope = scope = CancelScope(timeout=self._timeout)
        try:
            with scope:
                await self._way.serve(link)
            if scope.cancelled_caught:
                self._counts["timed_out"] += 1
                self._tell("server.connection_timed_out", link, None)
        except Refused as error:
            self._counts["refused"] += 1
            self._tell("server.connection_refused", link, error.__cause__)
        except Lost as lost:
            timed_out = isinstance(lost.error, TimeoutError)
            self._counts["timed_out" if timed_out else "lost"] += 1
            event = "server.connection_timed_out" if timed_out else "server.connection_lost"
            self._tell(event, link, lost.error)
        except Exception as error:
            self._counts["crashed"] += 1
            self._tell("server.connection_failed", link, error)
            self._report(error, link)

    def _tell(self, event: str, link: Link, error: BaseException | None) -> None:
        if _hooks.listeners:
            _hooks.emit(event, server=self, peer=link.peer, error=error)
        if event != "server.connection_failed":
            _log.debug("%s: %s: %r", event, say_address(link.peer), error)

    def _report(self, error: Exception, link: Link) -> None:
        if self._on_error is not None:
            try:
                self._on_error(error, link.peer)
                return
            except Exception:
                _log.exception("on_error failed on the failure of a connection")
        _log.error(
            "the handler of the connection from %s failed", say_address(link.peer), exc_info=error
        )


async def settled(aw: Awaitable[Any]) -> None:
    """Await what closes a connection; that it was broken by then is no news."""
    try:
        await aw
    except Exception as error:
        _log.debug("a connection was broken when it was closed: %r", error)
