"""The end of serve_tcp: what is accepted, told, waited for and cut off."""

import asyncio
import socket
import sys
import threading
from functools import partial
from typing import Any

import anyio
import pytest

from aioconc import CancelScope, TaskGroup, move_on_after
from aioconc.servers import Connection, TcpServer, serve_tcp
from aioconc.servers._listen import count_queued
from aioconc.tasks import effective_deadline
from tests.unit.servers.serving import ask, client, echo, end_of, serving, until

# Eager tasks begin inside of what accepts.
pytestmark = pytest.mark.loops("all")

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into TCP_INFO")


async def start(group: TaskGroup, handler: Any, **options: Any) -> TcpServer:
    return await group.start(partial(serve_tcp, handler, 0, host="127.0.0.1", **options))  # type: ignore[no-any-return]


async def test_a_request_under_way_is_finished_and_newcomers_are_refused() -> None:
    """The connection that is served gets its answer; one that comes later is not accepted."""
    go_on = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.receive()
        await go_on.wait()
        await connection.send(b"answer")

    async with serving(handler) as server, client(server) as (reader, writer):
        writer.write(b"request")
        await until(lambda: server.statistics().active == 1)
        server.drain()
        assert ", draining, 1/1000 active" in repr(server)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        go_on.set()
        assert await end_of(reader) == "end after b'answer'"
    assert server.statistics().cut_off == 0


@pytest.mark.slow
async def test_all_are_gone_by_the_deadline_idle_slow_and_active() -> None:
    """An idle client, one that reads nothing, and a handler that works: none outlives `drain`."""
    sizes = 50_000_000

    async def handler(connection: Connection) -> None:
        kind = await connection.receive()
        if kind == b"slow":
            await connection.send(b"x" * sizes)
        if kind == b"active":
            while True:
                await asyncio.sleep(0)
                await connection.send(b".")
        await connection.receive()

    loop = asyncio.get_running_loop()
    async with TaskGroup() as group:
        server = await start(group, handler, drain=0.1)
        async with (
            client(server) as (idle, idle_writer),
            client(server, limit=1) as (_, slow_writer),
            client(server) as (active, active_writer),
        ):
            idle_writer.write(b"idle")
            slow_writer.write(b"slow")
            active_writer.write(b"active")
            await active.readexactly(3)
            await until(lambda: server.statistics().active == 3)
            began = loop.time()
            server.drain()
            await until(lambda: server.statistics().active == 0)
            assert loop.time() - began >= 0.1
            assert await end_of(idle) == "reset"
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await active.readexactly(1_000_000_000)
    assert server.statistics().cut_off == 3


async def test_a_wait_for_the_next_request_ends_when_it_drains() -> None:
    """`until_drain` ends quietly, so that idle connections do not hold up the end."""
    ended = []

    async def handler(connection: Connection) -> None:
        while not connection.draining.is_set():
            with connection.until_drain() as wait:
                data = await connection.receive()
            if wait.cancelled_caught:
                ended.append(wait.reason)
                break
            await connection.send(data)

    async with TaskGroup() as group:
        server = await start(group, handler, drain=3600)
        async with client(server) as (reader, writer):
            writer.write(b"one")
            assert await reader.readexactly(3) == b"one"
            server.drain()
            assert await end_of(reader) == "end"
    assert ended == ["the server drains"]


async def test_what_the_client_has_sent_before_the_drain_is_received() -> None:
    """A request that has arrived when the drain begins is served, also if nobody has read it yet."""
    reached = asyncio.Event()
    go_on = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.receive()
        reached.set()
        await go_on.wait()
        with connection.until_drain():
            await connection.send(await connection.receive())

    async with serving(handler) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"first")
            await reached.wait()
            sock.sendall(b"second")
            server.drain()
            go_on.set()
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(sock, 100) == b"second"
            assert await loop.sock_recv(sock, 100) == b""


@linux
async def test_connections_that_have_queued_are_served_at_the_end() -> None:
    """Who is in the kernel's queue when the drain begins is accepted before it closes."""
    async with TaskGroup() as group:
        server = await start(group, echo)
        # Connected, but not accepted: the loop has not turned since.
        socks = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        assert count_queued(server.sockets[0]) == 3
        server.drain()
        for sock in socks:
            sock.sendall(b"hello")
            sock.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(sock, 5) == b"hello"
            sock.close()
    assert server.statistics().accepted == 3


@linux
async def test_the_queue_of_an_inherited_socket_is_left_as_it_is() -> None:
    """Connections that nobody has accepted wait for whoever accepts from the socket next."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        async with TaskGroup() as group:
            server = await group.start(partial(serve_tcp, echo, sockets=[sock]))
            queued = socket.create_connection(sock.getsockname())
            server.drain()
        assert count_queued(sock) == 1
        queued.sendall(b"still here")
        async with TaskGroup() as group:
            server = await group.start(partial(serve_tcp, echo, sockets=[sock]))
            queued.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(queued, 50) == b"still here"
            queued.close()
            server.drain()


async def test_a_cancellation_drains_and_is_raised_at_the_end() -> None:
    """The first one lets what runs finish."""
    go_on = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.receive()
        await go_on.wait()
        await connection.send(b"answer")

    ready: asyncio.Future[TcpServer] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_tcp(handler, 0, host="127.0.0.1", task_status=_Status(ready)))
    server = await ready
    async with client(server) as (reader, writer):
        writer.write(b"request")
        await until(lambda: server.statistics().active == 1)
        task.cancel("please")
        await until(server.draining.is_set)
        assert not task.done()
        go_on.set()
        assert await end_of(reader) == "end after b'answer'"
    with pytest.raises(asyncio.CancelledError, match="please"):
        await task


async def test_a_second_cancellation_cuts_the_drain_short() -> None:
    """It cancels the handlers, and waits for their clean-up."""
    cleaned = []

    async def handler(connection: Connection) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleaned.append(connection.peer)

    ready: asyncio.Future[TcpServer] = asyncio.get_running_loop().create_future()
    status = _Status(ready)
    task = asyncio.create_task(
        serve_tcp(handler, 0, host="127.0.0.1", drain=3600, task_status=status)
    )
    server = await ready
    async with client(server) as (reader, _):
        await until(lambda: server.statistics().active == 1)
        task.cancel()
        await until(server.draining.is_set)
        task.cancel()
        assert await end_of(reader) == "reset"
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(cleaned) == 1


@pytest.mark.loops("asyncio", "uvloop")  # the scopes of anyio do not go with eager tasks
@pytest.mark.parametrize("kind", ["task", "thread"])
async def test_a_server_in_a_scope_of_anyio_drains_when_that_is_cancelled(kind: Any) -> None:
    """Although anyio cancels it again and again."""
    go_on = threading.Event()

    async def in_task(connection: Connection) -> None:
        await connection.draining.wait()
        await asyncio.sleep(0.01)
        await connection.send(b"good-bye")

    def in_thread(sock: socket.socket) -> None:
        go_on.wait(20)
        sock.sendall(b"good-bye")

    ready: asyncio.Future[TcpServer] = asyncio.get_running_loop().create_future()
    handler: Any = in_task if kind == "task" else in_thread
    serve = partial(
        serve_tcp, handler, 0, host="127.0.0.1", per_connection=kind, task_status=_Status(ready)
    )
    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        server = await ready
        async with client(server) as (reader, _):
            await until(lambda: server.statistics().active == 1)
            asyncio.get_running_loop().call_later(0.05, go_on.set)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                assert await end_of(reader) == "end after b'good-bye'"
    assert server.statistics().cut_off == 0
    assert ", over, " in repr(server)


class _Status:
    def __init__(self, ready: "asyncio.Future[TcpServer]") -> None:
        self._ready = ready

    def started(self, value: TcpServer) -> None:
        self._ready.set_result(value)


async def test_scopes_around_the_server_do_not_disturb_the_drain() -> None:
    """A handler that finishes is not in the cancelled scope of the server: its awaits work."""
    deadlines = []

    async def handler(connection: Connection) -> None:
        await connection.draining.wait()
        deadlines.append(effective_deadline())
        async with TaskGroup() as group:
            group.start_soon(connection.send, b"good-bye")

    with CancelScope() as scope:
        async with TaskGroup() as group:
            server = await start(group, handler)
            async with client(server) as (reader, _):
                await until(lambda: server.statistics().active == 1)
                group.cancel()
                scope.cancel()
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass
                assert await end_of(reader) == "end after b'good-bye'"
    assert deadlines == [float("inf")]


async def test_a_drain_without_time_cuts_off_at_once() -> None:
    """With `drain=0` a cancelled server ends as fast as its handlers do."""
    with move_on_after(10) as scope:
        async with TaskGroup() as group:
            server = await start(group, echo, drain=0)
            async with client(server) as (reader, writer):
                writer.write(b"x")
                await reader.readexactly(1)
                server.drain()
                assert await end_of(reader) == "reset"
    assert not scope.cancelled_caught


async def test_a_handler_that_will_not_end_loses_its_connection_and_is_waited_for() -> None:
    """Its client is gone by the deadline; the server returns when the handler does."""
    swallowed = asyncio.Event()
    go_on = asyncio.Event()

    async def handler(connection: Connection) -> None:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                swallowed.set()

    async with TaskGroup() as group:
        server = await start(group, handler, drain=0.01)
        async with client(server) as (reader, _):
            await until(lambda: server.statistics().active == 1)
            server.drain()
            await swallowed.wait()
            assert await end_of(reader) in ("end", "reset")
            assert server.statistics().active == 1
            go_on.set()


async def test_drain_is_for_the_loop_of_the_server() -> None:
    """From a thread it is refused, with the call to make instead; twice does nothing."""
    async with serving(echo) as server:
        problems: list[BaseException] = []

        def from_thread() -> None:
            try:
                server.drain()
            except RuntimeError as error:
                problems.append(error)

        thread = threading.Thread(target=from_thread)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert "call_soon_threadsafe(server.drain, ...)" in str(problems[0])
        assert await ask(server) == b"hello"
        server.drain()
        server.drain()


async def test_a_caller_that_fails_when_it_is_told_of_the_start_ends_the_server() -> None:
    """Nothing is left of a server whose start was not taken note of."""

    class Failing:
        def started(self, value: TcpServer) -> None:
            raise LookupError("not wanted")

    with pytest.raises(ExceptionGroup) as caught:
        await serve_tcp(echo, 0, host="127.0.0.1", task_status=Failing())
    assert caught.group_contains(LookupError)
