"""`serve_tcp`: connections served by tasks, threads or processes, never more than the limit.

This module checks what it is asked for and opens the sockets; how the server lives is in `_server`,
how it accepts in `_accept`, and how a connection is served in `_in_task` and `_blocking`. Executors
are loaded only where they are needed: a worker process that serves with tasks starts faster.
"""

import asyncio
import inspect
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, Protocol, overload

from aioconc._internal import _hooks
from aioconc._internal._check import check_choice, check_count, check_limit, check_seconds
from aioconc.servers._connection import Connection
from aioconc.servers._in_task import InTask
from aioconc.servers._listen import (
    AddressInfo,
    check_callback,
    check_where,
    hosts_of,
    make_listen,
    open_listeners,
)
from aioconc.servers._ready import report_ready
from aioconc.servers._server import OnError, TcpServer, Way
from aioconc.tasks._scope import _current, raise_if_cancelled

PerConnection = Literal["task", "thread", "process"]

# Connections at a time, if nothing is said; for processes, one for each usable core.
_LIMIT = 1000


class Starting(Protocol):
    """What is told that the server has started, such as the `TaskStatus` of `TaskGroup.start`."""

    def started(self, value: TcpServer, /) -> object:
        """Called once, when connections are accepted."""
        ...


@overload
async def serve_tcp(
    handler: Callable[[Connection], Awaitable[object]],
    port: int | None = None,
    *,
    host: str | Sequence[str] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    limit: float | None = None,
    per_connection: Literal["task"] = "task",
    ssl: tls.SSLContext | None = None,
    backlog: int = 2048,
    reuse_port: bool = False,
    drain: float = 10.0,
    timeout: float | None = None,
    idle_timeout: float | None = None,
    handshake_timeout: float = 10.0,
    on_error: OnError | None = None,
    task_status: Starting | None = None,
) -> None: ...


@overload
async def serve_tcp(
    handler: Callable[[socket.socket], object],
    port: int | None = None,
    *,
    host: str | Sequence[str] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    limit: float | None = None,
    per_connection: Literal["thread", "process"],
    ssl: tls.SSLContext | None = None,
    backlog: int = 2048,
    reuse_port: bool = False,
    drain: float = 10.0,
    timeout: float | None = None,
    idle_timeout: float | None = None,
    handshake_timeout: float = 10.0,
    on_error: OnError | None = None,
    task_status: Starting | None = None,
) -> None: ...


async def serve_tcp(
    handler: Callable[[Any], Any],
    port: int | None = None,
    *,
    host: str | Sequence[str] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    limit: float | None = None,
    per_connection: PerConnection = "task",
    ssl: tls.SSLContext | None = None,
    backlog: int = 2048,
    reuse_port: bool = False,
    drain: float = 10.0,
    timeout: float | None = None,
    idle_timeout: float | None = None,
    handshake_timeout: float = 10.0,
    on_error: OnError | None = None,
    task_status: Starting | None = None,
) -> None:
    """Serve TCP connections until cancelled, never more than `limit` at a time.

    Equals `asyncio.start_server` and `serve_forever`, but who comes above the limit waits in the
    kernel and costs nothing, a handler that fails costs its own connection, and the end is in
    order: accept nothing more, let what runs finish, cut off what does not.

    Args:
        handler: called for each connection. An async function of a `Connection` for "task"; a plain
            function of a `socket.socket` for "thread" and "process". The server closes the
            connection in order when it returns, and resets it when it raises.
        port: 0 to 65535; 0 for one that is free. None only with `sockets`.
        host: name or address to listen on, or several; None for all addresses of this machine.
        sockets: listen on these instead, which stay open and belong to the caller: those of a
            supervisor, of systemd, or local ones. They do not block any more afterwards.
        limit: most connections at a time, int >= 1, or `math.inf` with "task". None: 1000, or with
            "process" the number of usable cores.
        per_connection: what serves a connection: a "task" in this loop, a "thread", or a worker
            "process", which is killed where a task is cancelled.
        ssl: for TLS; not with "process".
        backlog: connections, int >= 1, that the kernel queues while the limit is reached.
        reuse_port: let other sockets share the port.
        drain: seconds >= 0 that connections get to end once the server is cancelled.
        timeout: seconds > 0 that one connection may take in all; None for no limit.
        idle_timeout: seconds > 0 that a client may send nothing while it is waited for, or take
            nothing while it is sent to; the handler then gets a `TimeoutError`. None for no limit.
        handshake_timeout: seconds > 0 for a TLS handshake, which holds up nobody else; with "task"
            also for the good-bye of TLS.
        on_error: called with the exception of a handler that failed, and the client's address;
            None: it is logged.
        task_status: told of the `TcpServer` once it accepts: `await group.start(serve_tcp, ...)`
            returns it, and with it the port.

    Returns:
        None, after `server.drain()`.

    Raises:
        OSError: it cannot listen there, or one of the sockets has become unusable.
        TypeError, ValueError: an argument is out of range.

    Cancellation:
        Begins the drain. Nothing more is accepted, and connections that had queued are still
        served (of `sockets`, they stay queued for whoever accepts next). Handlers are told:
        `connection.draining` is set and blocks of `connection.until_drain()` end; for a blocking
        handler the client's data ends, after a second. What is left after `drain` seconds is
        cancelled and its connection reset. Then `CancelledError` is raised. A second cancellation
        cuts the drain short. A thread that does not end by itself is waited for.

    Example:
        >>> import anyio
        >>> from aioconc import TaskGroup
        >>> async def shout(connection):
        ...     async for data in connection:
        ...         await connection.send(data.upper())
        >>> async def main():
        ...     async with TaskGroup() as group:
        ...         server = await group.start(partial(serve_tcp, shout, 0, host="127.0.0.1"))
        ...         async with await anyio.connect_tcp("127.0.0.1", server.port) as client:
        ...             await client.send(b"hello")
        ...             print(await client.receive())
        ...         server.drain()
        >>> from functools import partial
        >>> asyncio.run(main())
        b'HELLO'
    """
    most = _check_limit(limit, per_connection)
    _check_handler(handler, per_connection)
    check_count("backlog", backlog)
    check_seconds("drain", drain, none="pass 0 to cut connections off at once")
    check_seconds("handshake_timeout", handshake_timeout, zero=False)
    for name, value in (("timeout", timeout), ("idle_timeout", idle_timeout)):
        if value is not None:
            check_seconds(name, value, zero=False, none="pass None for no limit")
    _check_tls(ssl, per_connection)
    if on_error is not None:
        check_callback("on_error", on_error, "(error, address)")
    given = check_where("serve_tcp", port=port, host=host, sockets=sockets, reuse_port=reuse_port)
    raise_if_cancelled()

    if given is not None:
        make_listen(given, backlog)
        listening = given
    else:
        assert port is not None
        infos = await _resolve(host, port)
        listening = open_listeners(infos, port, backlog=backlog, reuse_port=reuse_port)
    # Handlers are to finish while we are cancelled: the scopes around this call are not theirs.
    token = _current.set(None)
    way: Way | None = None
    try:
        # Also those of the caller, and of all processes that share them, which must agree anyway.
        for each in listening:
            each.setblocking(False)
        server = TcpServer(
            listening,
            limit=most,
            drain=float(drain),
            timeout=timeout,
            owned=given is None,
            on_error=on_error,
        )
        way = _way(handler, server, per_connection, most, ssl, idle_timeout, handshake_timeout)
        await server._run(way, partial(_started, task_status))
    finally:
        if given is None:
            for each in listening:
                each.close()
        try:
            if way is not None:
                await way.aclose()
        finally:
            _current.reset(token)


def _started(task_status: Starting | None, server: TcpServer) -> None:
    if _hooks.listeners:
        _hooks.emit("server.started", server=server)
    report_ready()
    if task_status is not None:
        task_status.started(server)


def _way(
    handler: Callable[[Any], Any],
    server: TcpServer,
    per_connection: PerConnection,
    limit: float,
    ssl: tls.SSLContext | None,
    idle_timeout: float | None,
    handshake_timeout: float,
) -> Way:
    """What serves one connection."""
    if per_connection == "task":
        return InTask(
            handler,
            tls=ssl,
            idle_timeout=idle_timeout,
            handshake_timeout=handshake_timeout,
            draining=server.draining,
            loop=asyncio.get_running_loop(),
        )
    from aioconc.executors import ProcessExecutor, ThreadExecutor
    from aioconc.servers._blocking import Blocking

    workers = int(limit)
    return Blocking(
        handler,
        ThreadExecutor(workers) if per_connection == "thread" else ProcessExecutor(workers),
        by_descriptor=per_connection == "process",
        tls=ssl,
        idle_timeout=idle_timeout,
        handshake_timeout=handshake_timeout,
        draining=server.draining,
    )


# ------------------------------------------------------------------ checks


def _check_limit(limit: float | None, per_connection: PerConnection) -> float:
    check_choice("per_connection", per_connection, ("task", "thread", "process"))
    if limit is None:
        if per_connection != "process":
            return _LIMIT
        from aioconc.executors._base import usable_cores

        return usable_cores()
    if per_connection == "task":
        return check_limit("limit", limit)
    return check_count("limit", limit, remedy=f"each connection takes a {per_connection}")


def _check_handler(handler: Any, per_connection: PerConnection) -> None:
    name = getattr(handler, "__qualname__", "handler")
    if asyncio.iscoroutine(handler):
        handler.close()
        raise TypeError(
            f"serve_tcp expected a function, got a coroutine; did you mean serve_tcp({name}, ...) "
            "without calling it?"
        )
    if not callable(handler):
        raise TypeError(f"serve_tcp expected a function of a connection, got {handler!r}")
    if per_connection != "task":
        from aioconc.executors._callables import check_function

        check_function(handler, f"serve_tcp with per_connection={per_connection!r}")
    elif inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise TypeError(f"serve_tcp expected an async function, got the generator function {name}")


def _check_tls(ssl: Any, per_connection: PerConnection) -> None:
    if ssl is None:
        return
    if not isinstance(ssl, tls.SSLContext):
        raise TypeError(
            f"ssl must be an ssl.SSLContext, got {ssl!r}; make one with "
            "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) and load_cert_chain"
        )
    if ssl.protocol is tls.PROTOCOL_TLS_CLIENT:
        raise ValueError(
            "ssl is for clients, so that every handshake would fail; make it with "
            "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)"
        )
    if per_connection == "process":
        raise ValueError(
            'ssl cannot be used with per_connection="process": the keys would have to travel; wrap '
            "the socket in the handler, or use a thread"
        )


async def _resolve(host: Any, port: int) -> list[AddressInfo]:
    loop = asyncio.get_running_loop()
    found: list[AddressInfo] = []
    for each in hosts_of(host):
        found += await loop.getaddrinfo(
            each, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    return found
