"""Connections served by blocking code: in a thread, or in a worker process.

The handler gets a `socket.socket`. Nothing can stop a thread that waits for its socket but the end
of that socket, so the server keeps one of its own for each connection. With that it says that it
drains (the client's data ends) and ends the wait of a handler whose connection is cut off.
"""

import asyncio
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aioconc._wire._passing import Passed, pass_on
from aioconc.executors import Executor
from aioconc.servers._connection import FIRST_WORD
from aioconc.servers._listen import end_waits, reset_at_close
from aioconc.servers._server import STUBBORN, Link, Lost, Refused
from aioconc.sync import Event
from aioconc.tasks._join import join

BlockingHandler = Callable[[socket.socket], object]

# linux/tcp.h: the state of a connection that nobody has ended.
_ESTABLISHED = 1

# Of the idle timeout: the clock of the kernel is not that of Python.
_NEARLY = 0.9

# Seconds for the client's answer when TLS says good-bye.
_GOODBYE = 1.0


class Blocking:
    """Serves each connection with one call of an executor.

    Args:
        handler: of the user; for processes, one that can be pickled.
        executor: where it runs; has as many workers as there are permits.
        by_descriptor: whether the socket must travel to another process.
        tls: None: the connections are plain.
        idle_timeout: seconds; None for no limit.
        handshake_timeout: seconds.
        draining: of the server.
    """

    def __init__(
        self,
        handler: BlockingHandler,
        executor: Any,
        *,
        by_descriptor: bool,
        tls: ssl.SSLContext | None,
        idle_timeout: float | None,
        handshake_timeout: float,
        draining: Event,
    ) -> None:
        self._handler = handler
        self._executor: Executor = executor
        self._by_descriptor = by_descriptor
        self._tls = tls
        self._idle_timeout = idle_timeout
        self._handshake_timeout = handshake_timeout
        self._draining = draining

    async def serve(self, link: Link) -> None:
        """Call the handler in a worker; a cancellation ends its socket first."""
        sock = link.sock
        assert sock is not None
        loop = asyncio.get_running_loop()
        try:
            # Blocking calls on it are the handler's; this one is for ending them.
            link.socket_below = own = sock.dup()
        except OSError as error:
            raise Refused("no descriptor is left") from error

        def drain() -> None:
            # Not at once: what the client is just sending is to be read.
            timers.append(loop.call_later(FIRST_WORD, end_waits, own, socket.SHUT_RD))

        timers: list[asyncio.TimerHandle] = []
        link.drain = drain
        if self._draining.is_set():  # it had queued until then
            drain()
        orderly = False
        given = _Sent(sock) if self._by_descriptor else sock
        call = asyncio.ensure_future(
            self._executor.run(
                serve_blocking,
                self._handler,
                given,
                self._tls,
                self._idle_timeout,
                self._handshake_timeout,
            )
        )

        def end(_: object) -> None:
            reset_at_close(own)
            # A handler that receives goes on at once, and its client sees the reset; one that sends
            # goes on when both directions have ended, which looks to its client like an end.
            end_waits(own, socket.SHUT_RD)
            timers.append(loop.call_later(STUBBORN, end_waits, own, socket.SHUT_RDWR))
            call.cancel()

        try:
            cancelled = await join(call, on_cancel=end)
            if cancelled is not None:
                if not call.cancelled():
                    call.exception()  # it failed as its socket was ended
                raise cancelled
            await call
            orderly = True
        except TimeoutError as error:
            if self._idle_timeout is None or not stood_still(own, self._idle_timeout):
                raise  # it was something else that took too long
            raise Lost(error) from None
        except ConnectionError as error:
            if not is_broken(own):
                raise  # it was another connection
            raise Lost(error) from None
        finally:
            link.drain = None
            for timer in timers:
                timer.cancel()
            if not orderly:  # a process that has died could not say so itself
                reset_at_close(own)
            sock.close()
            link.sock = None
            own.close()
            cancelled = None

    async def aclose(self) -> None:
        """End the workers."""
        await self._executor.aclose()


def is_broken(sock: socket.socket) -> bool:
    """Whether the connection has ended, rather than something else that the handler talks to."""
    info = _tcp_info(sock)
    return info is None or info[0] != _ESTABLISHED


def stood_still(sock: socket.socket, seconds: float) -> bool:
    """Whether the client has sent nothing for so long, or has not taken what was sent."""
    info = _tcp_info(sock)
    if info is None:
        return True
    return info[1] >= _NEARLY * seconds or _count_unsent(sock) > 0


def _count_unsent(sock: socket.socket) -> int:
    """Bytes that the client's system has not taken."""
    import fcntl
    import termios

    count: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return count


def _tcp_info(sock: socket.socket) -> tuple[int, float] | None:
    """State, and seconds since data came; None where it is not told."""
    if not sys.platform.startswith("linux") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)
    except OSError:
        return None
    state, milliseconds = struct.unpack("B51xI4x", info)
    return state, milliseconds / 1000


# ------------------------------------------------------------------ in the worker


def serve_blocking(
    handler: BlockingHandler,
    given: Any,
    tls: ssl.SSLContext | None,
    idle_timeout: float | None,
    handshake_timeout: float,
) -> None:
    """Call the handler with the socket, and close that in order, or not."""
    sock: socket.socket = given
    try:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock.settimeout(handshake_timeout)
            try:
                sock = tls.wrap_socket(sock, server_side=True)
            except OSError as error:  # SSLError and TimeoutError are
                raise Refused("the TLS handshake failed") from error
        sock.settimeout(idle_timeout)
        handler(sock)
        if isinstance(sock, ssl.SSLSocket):
            with suppress(OSError, ValueError):
                sock.settimeout(_GOODBYE)
                sock.unwrap()
    except BaseException:
        reset_at_close(sock)
        raise
    finally:
        sock.close()


class _Sent:
    """A socket that becomes one of the worker's own when it is unpickled there."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __reduce__(self) -> Any:
        return _received, (pass_on(self._sock.fileno(), owner=self),)


def _received(passed: Passed) -> socket.socket:
    sock = socket.socket(fileno=passed.take())
    sock.setblocking(True)
    return sock
