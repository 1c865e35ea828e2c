"""What the workers of `serve_prefork` serve in the tests, importable by them."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from socket import socket

from aioconc.servers import Connection, ready, serve_tcp

# Seconds that a request takes, so that some are always under way.
WORK = 0.005


async def answer(connection: Connection) -> None:
    """Greets with its process id; then a line for each line, and says when it is the last one."""
    await connection.send(b"%d\n" % os.getpid())
    while True:
        with connection.until_drain() as wait:
            line = await connection.receive()
            while not line.endswith(b"\n"):
                line += await connection.receive()
        if wait.cancelled_caught:
            return
        await asyncio.sleep(WORK)
        last = connection.draining.is_set()
        await connection.send(line.strip() + (b" bye\n" if last else b" more\n"))
        if last:
            return


async def app(sockets: Sequence[socket]) -> None:
    """Serves with `answer`."""
    await serve_tcp(answer, sockets=sockets, drain=5)


async def slow_answer(connection: Connection) -> None:
    """Takes as long as its client wants."""
    await connection.receive()
    await connection.send(b"begun\n")
    await connection.receive()
    await connection.send(b"done\n")


async def slow(sockets: Sequence[socket]) -> None:
    """Serves with `slow_answer`."""
    await serve_tcp(slow_answer, sockets=sockets, drain=20)


async def compute(connection: Connection) -> None:
    """Answers with the process that computes."""
    from aioconc import offload_cpu

    await connection.receive()
    await connection.send(b"%d %d\n" % (os.getpid(), await offload_cpu(os.getpid)))


async def computing(sockets: Sequence[socket]) -> None:
    """Serves with `compute`."""
    await serve_tcp(compute, sockets=sockets)


async def broken(sockets: Sequence[socket]) -> None:
    """Fails before it serves."""
    raise LookupError("no such table")


async def returns(sockets: Sequence[socket]) -> None:
    """Ends by itself."""
    ready()


async def never_ready(sockets: Sequence[socket]) -> None:
    """Does not say that it serves."""
    await asyncio.sleep(3600)


async def stubborn(sockets: Sequence[socket]) -> None:
    """Will not end."""
    ready()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("asked to end", flush=True)


async def broken_once_replaced(sockets: Sequence[socket]) -> None:
    """Serves, but fails in every worker that starts once the file `broken` is in the folder."""
    if Path("broken").exists():
        raise LookupError("the new version does not work")
    await app(sockets)


async def talkative(sockets: Sequence[socket]) -> None:
    """Writes and logs."""
    import logging

    print("printed by a worker", flush=True)
    print("complained by a worker", file=sys.stderr, flush=True)
    logging.getLogger("app").warning("logged by %s", "a worker")
    await app(sockets)


async def web(sockets: Sequence[socket]) -> None:
    """An aiohttp application."""
    from aiohttp import web as aiohttp

    async def hello(request: aiohttp.Request) -> aiohttp.Response:
        await asyncio.sleep(WORK)
        return aiohttp.Response(text=str(os.getpid()))

    application = aiohttp.Application()
    application.router.add_get("/", hello)
    runner = aiohttp.AppRunner(application, handle_signals=False, access_log=None)
    await runner.setup()
    sites = [aiohttp.SockSite(runner, sock) for sock in sockets]
    try:
        for site in sites:
            await site.start()
        ready()
        await asyncio.Event().wait()
    finally:
        for site in sites:
            await site.stop()
        await asyncio.sleep(0.2)  # what has just been accepted gets to send its request
        await runner.cleanup()
