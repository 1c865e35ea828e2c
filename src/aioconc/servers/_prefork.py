"""`serve_prefork`: several worker processes at one port, replaced when they die.

This module checks what it is asked for and opens the sockets. The supervisor is in `_supervise`, a
worker as it sees it in `_member`, and what runs in a worker in `_worker`.
"""

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aioconc._internal._check import check_choice, check_count, check_seconds
from aioconc._wire._pickled import pickled
from aioconc.errors import SerializationError
from aioconc.runtime._run import LoopChoice
from aioconc.servers._listen import (
    check_callback,
    check_where,
    hosts_of,
    make_listen,
    open_listeners,
    port_of,
)


def serve_prefork(
    factory: Callable[[Sequence[socket.socket]], Awaitable[object]],
    port: int | None = None,
    *,
    host: str | Sequence[str] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    workers: int | None = None,
    backlog: int = 2048,
    reuse_port: bool = False,
    drain: float = 10.0,
    max_restarts: int = 5,
    restart_window: float = 60.0,
    start_timeout: float = 30.0,
    loop: LoopChoice = "auto",
    forward_logs: bool = True,
    on_ready: Callable[[int], object] | None = None,
) -> int:
    """Serve one port with several worker processes, until a signal ends it.

    This call is the whole program, as `run` is: `raise SystemExit(serve_prefork(app, 8000))`. Each
    worker is a fresh interpreter that runs `asyncio.run(factory(sockets))`. This process supervises
    them: it starts another for one that dies, and nothing is lost but the connections that one had.

    - SIGTERM and SIGINT drain: no newcomers, connections that have queued are still taken, then
      each worker's coroutine is cancelled, once more after `drain` seconds, and the process is
      killed a second later. A second signal skips the wait, a third one kills at once.
    - SIGHUP replaces the workers one after the other, each new one ready before the old one drains:
      a new version of the code, without a request lost.
    - SIGTERM to a single worker replaces it alike, and to all processes at once, as systemd sends
      it, drains. If this process dies, the workers do too.

    Args:
        factory: async function, called in each worker with its listening sockets. It serves until
            it is cancelled, then lets what runs finish, and calls `ready` once it serves
            (`serve_tcp` does both). Importable, or pickled by value where it is not: a function of
            the main module does not see new code at a reload.
        port: 0 to 65535; 0 for one that is free, which `on_ready` is told. None only with `sockets`.
        host: name or address to listen on, or several; None for all addresses of this machine.
        sockets: listen on these instead, which stay open and belong to the caller. They do not
            block any more afterwards.
        workers: processes, int >= 1; None: the usable cores.
        backlog: connections, int >= 1, that the kernel queues.
        reuse_port: a socket of its own for each worker, with SO_REUSEPORT, rather than one that all
            share: the kernel then shares connections out evenly, also to a worker that is busy. A
            worker's successor inherits its socket, and what has queued there.
        drain: seconds >= 0 that workers get to end.
        max_restarts: give up when more workers than these, int >= 0, have failed ...
        restart_window: ... within so many seconds > 0.
        start_timeout: seconds > 0 that a worker may take until it is ready.
        loop: the workers' event loop, as for `run`.
        forward_logs: whether log records of the workers go to the loggers of this process.
        on_ready: called with the port when all workers serve for the first time; this process does
            nothing else meanwhile, so it should be brief.

    Returns:
        The exit status: 0 after an orderly end; 1 if it gave up, or a worker had to be killed or
        failed when it was to end; 128 + the signal's number if a second signal hurried it.

    Raises:
        OSError: it cannot listen there.
        RuntimeError: not called in the main thread, or an event loop runs in it.
        SerializationError: the factory cannot be pickled.
        TypeError, ValueError: an argument is out of range.

    Example:
        >>> from aioconc.servers import serve_tcp
        >>> async def echo(connection):
        ...     async for data in connection:
        ...         await connection.send(data)
        >>> async def app(sockets):
        ...     await serve_tcp(echo, sockets=sockets)
        >>> import os, signal
        >>> def stop(port):
        ...     os.kill(os.getpid(), signal.SIGTERM)  # stands for the process manager
        >>> serve_prefork(app, 0, workers=1, on_ready=stop)
        0
    """
    _check_factory(factory)
    if workers is not None:
        check_count("workers", workers)
    check_count("backlog", backlog)
    check_seconds("drain", drain, none="pass 0 to cut connections off at once")
    check_count("max_restarts", max_restarts, least=0)
    check_seconds("restart_window", restart_window, zero=False)
    check_seconds("start_timeout", start_timeout, zero=False)
    if not callable(loop):
        check_choice("loop", loop, ("auto", "asyncio", "uvloop"))
    if on_ready is not None:
        check_callback("on_ready", on_ready, "the port")
    given = check_where(
        "serve_prefork", port=port, host=host, sockets=sockets, reuse_port=reuse_port
    )
    _check_place()

    # Not before: the workers load this module too, and have no use for these.
    from aioconc.executors._base import usable_cores
    from aioconc.executors.process._launch import surroundings
    from aioconc.executors.process._log_relay import levels
    from aioconc.servers._supervise import Plan, Supervising

    try:
        program, packed = pickled(_program()), pickled((factory, loop))
    except Exception as error:
        raise SerializationError(
            f"the factory of serve_prefork cannot be pickled: {type(error).__name__}: {error}",
            where="args",
            side="parent",
        ) from error

    count = workers or usable_cores()
    opened: list[list[socket.socket]] = []
    try:
        if given is not None:
            make_listen(given, backlog)
            shared = given
        else:
            assert port is not None
            infos = [
                info
                for each in hosts_of(host)
                for info in socket.getaddrinfo(
                    each, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
            ]
            shared = open_listeners(infos, port, backlog=backlog, reuse_port=reuse_port)
            opened.append(shared)
            while reuse_port and len(opened) < count:
                chosen = port_of(shared)
                opened.append(open_listeners(infos, chosen, backlog=backlog, reuse_port=True))
        for each in (sock for group in opened or [shared] for sock in group):
            each.setblocking(False)

        def setup() -> dict[str, Any]:
            return {
                **surroundings(),
                "program": program,
                "factory": packed,
                "levels": levels() if forward_logs else None,
            }

        plan = Plan(
            setup=setup,
            sockets=opened if reuse_port else [shared] * count,
            owned=given is None,
            drain=float(drain),
            max_restarts=max_restarts,
            restart_window=float(restart_window),
            start_timeout=float(start_timeout),
            on_ready=on_ready,
            port=port_of(shared),
        )
        return Supervising(plan).run()
    finally:
        for group in opened:
            for each in group:
                each.close()


def _program() -> Callable[..., Any]:
    from aioconc.servers._worker import main

    return main


def _check_factory(factory: Any) -> None:
    if asyncio.iscoroutine(factory):
        name = getattr(factory, "__qualname__", "factory")
        factory.close()
        raise TypeError(
            f"serve_prefork expected an async function of the sockets, got a coroutine; did you "
            f"mean serve_prefork({name}, ...) without calling it?"
        )
    if not callable(factory):
        raise TypeError(f"serve_prefork expected an async function of the sockets, got {factory!r}")


def _check_place() -> None:
    if sys.platform == "win32":  # pragma: no cover - the tests run on POSIX systems
        raise RuntimeError("serve_prefork needs a POSIX system")
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "serve_prefork blocks, and an event loop runs here; call it from plain code"
        )
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("serve_prefork treats signals, so it must run in the main thread")
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        raise RuntimeError(
            "this process ignores SIGCHLD, so it cannot learn how its workers end; "
            "call signal.signal(signal.SIGCHLD, signal.SIG_DFL)"
        )
