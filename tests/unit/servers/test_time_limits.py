"""Clients that stand still, dribble, or never end: what becomes of their connections."""

import asyncio
import time

import pytest

from aioconc import CancelScope, move_on_after
from aioconc.servers import Connection
from tests.unit.servers.serving import ask, client, echo, end_of, serving, until

# Eager tasks begin inside of what accepts.
pytestmark = pytest.mark.loops("all")


async def test_a_client_that_sends_nothing_is_gone_after_the_idle_timeout() -> None:
    """Its handler gets a TimeoutError, which is no failure; others are not disturbed."""
    async with serving(echo, idle_timeout=0.05) as server:
        async with client(server) as (reader, writer):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            assert await end_of(reader) == "reset"
        assert await ask(server) == b"hello"
        await until(lambda: server.statistics().active == 0)
        now = server.statistics()
        assert (now.timed_out, now.crashed, now.lost) == (1, 0, 0)


async def test_a_client_that_reads_nothing_is_gone_after_the_idle_timeout() -> None:
    """A handler that sends more than the client takes gets the TimeoutError too."""
    errors = []

    async def handler(connection: Connection) -> None:
        try:
            await connection.send(b"x" * 100_000_000)
        except TimeoutError as error:
            errors.append(str(error))
            raise

    async with serving(handler, idle_timeout=0.05) as server, client(server, limit=1):
        await until(lambda: server.statistics().timed_out == 1)
    assert errors == ["the client took nothing for 0.05 s"]


async def test_a_loop_that_was_held_up_is_not_taken_for_a_client_that_stood_still() -> None:
    """What has come meanwhile is received, though the time is over."""
    async with (
        serving(echo, idle_timeout=0.1) as server,
        client(server) as (reader, writer),
    ):
        await until(lambda: server.statistics().active)
        writer.write(b"x")
        time.sleep(0.15)
        assert await reader.readexactly(1) == b"x"


async def test_a_handler_may_answer_a_time_out() -> None:
    """It is an ordinary exception, and what is sent then arrives."""

    async def handler(connection: Connection) -> None:
        try:
            await connection.receive()
        except TimeoutError:
            await connection.send(b"408")

    async with serving(handler, idle_timeout=0.02) as server, client(server) as (reader, _):
        assert await end_of(reader) == "end after b'408'"
    assert server.statistics().timed_out == 0


async def test_a_handler_may_answer_any_number_of_time_outs() -> None:
    """What is remembered of them does not grow, and nothing of them is kept at the end."""
    remembered: list[int] = []
    connections: list[Connection] = []

    async def handler(connection: Connection) -> None:
        connections.append(connection)
        for _ in range(12):
            with pytest.raises(TimeoutError):
                await connection.receive()
            remembered.append(len(connection._failures))

    async with serving(handler, idle_timeout=0.001) as server, client(server) as (reader, _):
        assert await end_of(reader) == "end"
    assert remembered == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8]
    assert not connections[0]._failures


async def test_a_client_that_dribbles_is_gone_after_the_timeout() -> None:
    """One byte now and then is not idle, but `timeout` counts for the connection as a whole."""

    async def read_request(connection: Connection) -> None:
        request = b""
        while not request.endswith(b"\n"):
            request += await connection.receive()

    async with serving(read_request, idle_timeout=20, timeout=0.2) as server:
        async with client(server) as (reader, writer):

            async def dribble() -> None:
                while True:
                    writer.write(b"x")
                    await asyncio.sleep(0.005)

            task = asyncio.create_task(dribble())
            assert await end_of(reader) == "reset"
            task.cancel()
            await asyncio.wait([task])
        assert server.statistics().timed_out == 1


async def test_a_handler_that_works_is_not_idle() -> None:
    """The idle timeout counts only while the client is waited for."""

    async def handler(connection: Connection) -> None:
        await connection.receive()
        await asyncio.sleep(0.1)
        await connection.send(b"done")

    async with serving(handler, idle_timeout=0.05) as server, client(server) as (reader, writer):
        writer.write(b"work")
        assert await end_of(reader) == "end after b'done'"


@pytest.mark.parametrize("idle_timeout", [None, 20])
async def test_a_cancelled_receive_loses_nothing(idle_timeout: float | None) -> None:
    """What arrives after it is there for the next one."""
    waiting = asyncio.Event()

    async def handler(connection: Connection) -> None:
        with move_on_after(0) as scope:
            await connection.receive()
        assert scope.cancelled_caught
        waiting.set()
        await connection.send(await connection.receive())

    async with (
        serving(handler, idle_timeout=idle_timeout) as server,
        client(server) as (reader, writer),
    ):
        await waiting.wait()
        writer.write(b"x")
        assert await end_of(reader) == "end after b'x'"


async def test_a_cancellation_in_the_tick_of_the_time_out_is_not_swallowed() -> None:
    """The scope around it ends; the idle timeout does not take its cancellation away."""
    ended = []

    async def handler(connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        clock = connection._receiving
        assert clock is not None
        with CancelScope() as scope:
            # Both in one callback, so that neither has struck before the other.
            def both() -> None:
                clock._since -= 3600
                assert clock._timer is not None
                clock._timer.cancel()
                clock._look(0)
                scope.cancel()

            loop.call_soon(both)
            await connection.receive()
        ended.append((scope.cancelled_caught, task.cancelling()))
        await connection.send(b"still here")

    async with serving(handler, idle_timeout=3600) as server, client(server) as (reader, _):
        assert await end_of(reader) == "end after b'still here'"
    assert ended == [(True, 0)]


async def test_data_that_comes_with_the_time_out_is_kept() -> None:
    """The operation raises, and the next one gets what has arrived in the same tick."""

    async def handler(connection: Connection) -> None:
        clock = connection._receiving
        assert clock is not None
        receive = asyncio.ensure_future(connection.receive())
        await asyncio.sleep(0)

        def strike() -> None:
            clock._since -= 3600
            assert clock._timer is not None
            clock._timer.cancel()
            clock._look(0)

        await connection.send(b"go")
        protocol = connection._stream._protocol  # type: ignore[attr-defined]
        while not protocol.read_queue:
            await asyncio.sleep(0)
            if protocol.read_queue and not receive.done():
                strike()
        try:
            data = await receive
        except TimeoutError:
            data = await connection.receive()
        await connection.send(data)

    async with serving(handler, idle_timeout=3600) as server, client(server) as (reader, writer):
        assert await reader.readexactly(2) == b"go"
        writer.write(b"data")
        assert await end_of(reader) == "end after b'data'"
