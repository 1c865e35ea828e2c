"""`serve_tcp` as a real program: signals, a shortage of descriptors, cancellation at every await."""

import asyncio
import random
import signal
import socket
import ssl
import sys
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest
import trustme

from aioconc import TaskGroup
from aioconc.servers import Connection, serve_tcp
from aioconc.testing import cancel_everywhere
from tests.conftest import loop_variants
from tests.system.serve_load import Program, program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into TCP_INFO"),
]

PRELUDE = """
import asyncio, resource, socket, time
from functools import partial
from aioconc import TaskGroup, run
from aioconc.servers import serve_tcp
class Status:
    def started(self, server):
        globals()["server"] = server
        say(server.port)
"""


def connect(started: Program) -> socket.socket:
    return socket.create_connection(("127.0.0.1", started.port), timeout=30)


def end_of(sock: socket.socket) -> str:
    """How the connection ends for its client."""
    try:
        while sock.recv(1_000_000):
            pass
    except ConnectionResetError:
        return "reset"
    return "end"


@pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=pytest.mark.soak)])
def test_sigterm_ends_idle_slow_and_active_clients_by_the_deadline(loop: str) -> None:
    """Trap 24: one that says nothing, one that reads nothing, one that is served all the time."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    text = f"""
async def handler(connection):
    kind = await connection.receive()
    if kind == b"slow":
        await connection.send(bytes(50_000_000))
    while kind == b"active":
        await connection.send(b".")
        await asyncio.sleep(0.001)
    await connection.receive()

async def main():
    await serve_tcp(handler, 0, host="127.0.0.1", drain=0.5, task_status=Status())

try:
    run(main, loop={loop!r}, grace=30)
finally:
    now = server.statistics()
    say(now.active, now.accepted, now.cut_off, now.crashed)
"""
    with program(PRELUDE + text) as server:
        socks = {kind: connect(server) for kind in ("silent", "idle", "slow", "active")}
        for kind, sock in socks.items():
            if kind != "silent":
                sock.sendall(kind.encode())
        assert socks["active"].recv(1)
        assert socks["slow"].recv(1)
        began = time.monotonic()
        server.send(signal.SIGTERM)
        status, err = server.finish()
        took = time.monotonic() - began
        ends = {kind: end_of(sock) for kind, sock in socks.items()}
        for sock in socks.values():
            sock.close()
    assert status == 128 + signal.SIGTERM
    assert server.said[-1] == "0 4 4 0", err
    assert ends == dict.fromkeys(socks, "reset")
    assert took >= 0.5


def test_sigterm_lets_a_request_under_way_finish() -> None:
    """And one that has connected, but was not accepted when the signal came."""
    text = """
async def handler(connection):
    await connection.receive()
    await connection.send(b"begun")
    await connection.draining.wait()
    await asyncio.sleep(0.1)
    await connection.send(b"answer")

async def main():
    await serve_tcp(handler, 0, host="127.0.0.1", limit=1, task_status=Status())

run(main)
"""
    with program(PRELUDE + text) as server:
        with connect(server) as under_way, connect(server) as queued:
            under_way.sendall(b"request")
            queued.sendall(b"request")
            assert under_way.recv(100) == b"begun"
            server.send(signal.SIGTERM)
            assert under_way.recv(100) == b"answer"
            # There was no permit for it, and there is no server any more to wait for one.
            assert end_of(queued) == "reset"
        assert server.finish() == (128 + signal.SIGTERM, "")


def test_a_shortage_of_descriptors_is_waited_out() -> None:
    """Without one for another connection nothing is lost or spins: clients wait, and are served."""
    text = """
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

async def handler(connection):
    await connection.send(await connection.receive())

async def main():
    async with TaskGroup() as group:
        server = await group.start(partial(serve_tcp, handler, 0, host="127.0.0.1"))
        say(server.port)
        began = time.process_time()
        while not server.statistics().pauses:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        say("paused", server.statistics().pauses < 10, time.process_time() - began < 0.9)
        while server.statistics().accepted < 60 or server.statistics().active:
            await asyncio.sleep(0.01)
        say(server.statistics().crashed, server.statistics().refused)
        server.drain()

run(main)
"""
    with program(PRELUDE + text) as server:
        socks = [connect(server) for _ in range(60)]
        assert server.process.stdout is not None
        assert server.process.stdout.readline() == "paused True True\n"
        for sock in socks:
            sock.sendall(b"hello")
        # Those that were accepted first are served first, and make room for the others.
        assert [sock.recv(100) for sock in socks] == [b"hello"] * 60
        for sock in socks:
            sock.close()
        status, err = server.finish()
    assert (status, server.said[-1]) == (0, "0 0")
    assert err.count("no connection can be accepted for now") >= 1
    assert "raise the limit (ulimit -n), or lower limit= of the server" in err


def test_a_handler_that_exits_ends_the_program() -> None:
    """SystemExit is not swallowed: it leaves serve_tcp, as it leaves any task group."""
    text = """
async def handler(connection):
    raise SystemExit(3)

async def main():
    await serve_tcp(handler, 0, host="127.0.0.1", task_status=Status())

run(main)
"""
    with program(PRELUDE + text) as server, connect(server):
        assert server.finish()[0] == 3


# ------------------------------------------------------------------ clients of every kind at once


async def moody(connection: Connection) -> None:
    """Does what its client asks for."""
    wish = await connection.receive()
    if wish == b"fail":
        raise LookupError("as asked")
    if wish == b"wait":
        await connection.receive()
    if wish == b"flood":
        await connection.send(bytes(20_000_000))
    await connection.send(wish)


async def one_client(port: int, wish: bytes, rng: random.Random) -> str:
    """How it ended for a client that wishes so; it goes without a word now and then."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_000)
    except OSError:
        return "not connected"
    try:
        if rng.random() < 0.1:
            writer.transport.abort()
            return "gone"
        writer.write(wish)
        if rng.random() < 0.2:
            await asyncio.sleep(rng.random() * 0.02)
            return "gone"
        answer = await reader.readexactly(len(wish))
        return "answered" if answer == wish else "flooded"
    except (ConnectionError, asyncio.IncompleteReadError):
        return "broken"
    finally:
        writer.transport.abort()


@pytest.mark.loops("all")
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
async def test_every_connection_is_counted_once_and_the_limit_holds(seed: int) -> None:
    """Clients that ask, break off, wait, flood and crash handlers, and a drain in the middle."""
    rng = random.Random(seed)
    most = 0
    ends: Counter[str] = Counter()
    async with TaskGroup() as group:
        serve = partial(
            serve_tcp,
            moody,
            0,
            host="127.0.0.1",
            limit=7,
            drain=0.05,
            idle_timeout=0.05,
            on_error=lambda *_: None,
        )
        server = await group.start(serve)

        async def clients() -> None:
            nonlocal most
            for _ in range(40):
                most = max(most, server.statistics().active)
                wish = rng.choice([b"echo", b"echo", b"fail", b"wait", b"flood"])
                end = await one_client(server.port, wish, rng)
                ends[end] += 1

        async with TaskGroup() as crowd:
            for _ in range(12):
                crowd.start_soon(clients)
            while sum(ends.values()) < 240:
                await asyncio.sleep(0.005)
                most = max(most, server.statistics().active)
            server.drain()
    now = server.statistics()
    assert most == 7
    assert now.active == 0
    assert ends["answered"] and ends["not connected"] and ends["broken"]
    failed = now.crashed + now.lost + now.timed_out + now.refused + now.cut_off
    assert now.crashed and now.lost and now.timed_out
    # The others have ended in order; that is at least those who got an answer.
    assert ends["answered"] <= now.accepted - failed


# ------------------------------------------------------------------ cancelled at every await


@pytest.fixture(params=loop_variants())
def loop_factory(request: pytest.FixtureRequest) -> Any:
    return loop_variants()[request.param]


def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def echo_blocking(sock: socket.socket) -> None:
    while data := sock.recv(100):
        sock.sendall(data)


async def echo(connection: Connection) -> None:
    with connection.until_drain():
        while True:
            await connection.send(await connection.receive())


async def one_exchange(handler: Any, options: dict[str, Any], client: dict[str, Any]) -> None:
    """A server, a client of it, and the drain."""
    async with TaskGroup() as group:
        serve = partial(serve_tcp, handler, 0, host="127.0.0.1", drain=0.02, **options)
        try:
            server = await group.start(serve, name="server")
        except RuntimeError as error:  # somebody has cancelled it before it was ready
            assert "without calling task_status.started()" in str(error)
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, **client)
        try:
            writer.write(b"hello")
            await reader.read(5)
        finally:
            writer.transport.abort()
        server.drain()


@pytest.mark.parametrize(
    "kind", ["plain", pytest.param("timed", marks=pytest.mark.soak), "tls", "thread"]
)
@pytest.mark.parametrize("target", ["root", "server", "connection"])
def test_cancelled_at_any_await_nothing_is_left(target: str, kind: str, loop_factory: Any) -> None:
    """The caller, the server's own task, or a connection's: no task, socket or callback remains."""
    handler: Any = echo
    options: dict[str, Any] = {}
    client: dict[str, Any] = {}
    if kind == "timed":
        options = {"idle_timeout": 5, "timeout": 5}
    elif kind == "tls":
        options["ssl"], client["ssl"] = tls()
    elif kind == "thread":
        handler = echo_blocking
        options = {"per_connection": "thread"}
    chosen: Any = target
    if target != "root":

        def chosen(task: "asyncio.Task[Any]") -> bool:
            # Not by its name, which an eager task does not have yet when it begins.
            name: str = task.get_coro().__qualname__  # type: ignore[union-attr]
            return name == {"server": "called", "connection": "TcpServer._serve"}[target]

    report = cancel_everywhere(
        partial(one_exchange, handler, options, client), target=chosen, loop_factory=loop_factory
    )
    assert report.points
    assert not report.failures
