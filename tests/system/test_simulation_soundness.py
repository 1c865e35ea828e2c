"""Real work under simulation: no order and no jump of the clock may raise a false alarm.

Each program is right, with time limits far below what its real work takes. It runs under the
usual order, random orders and random priorities; an error that only asyncio hears of counts too.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import anyio.to_thread
import pytest
from aiohttp import ClientSession, web

from aioconc import gather_limited, offload_cpu, offload_io
from aioconc.errors import DeadlockError
from aioconc.testing import Schedule, explore, run

Program = Callable[[], Coroutine[Any, Any, None]]


async def queue_hands_over_everything() -> None:
    """Two producers and two consumers over a small queue."""
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    seen: list[int] = []

    async def produce(start: int) -> None:
        for number in range(start, start + 5):
            await queue.put(number)
            await asyncio.sleep(1)

    async def consume() -> None:
        for _ in range(5):
            item = await asyncio.wait_for(queue.get(), 60)
            seen.append(item)

    await asyncio.gather(produce(0), produce(5), consume(), consume())
    assert sorted(seen) == list(range(10))


async def callbacks_keep_their_order() -> None:
    """`call_soon` is documented to be first in, first out, also beside tasks."""
    loop = asyncio.get_running_loop()
    order: list[int] = []

    async def bystander() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(bystander())
        group.create_task(bystander())
        await asyncio.sleep(0)
        for number in range(4):
            loop.call_soon(order.append, number)
        await asyncio.sleep(1)
    assert order == [0, 1, 2, 3]


async def streams_echo() -> None:
    """A loopback server and two clients, with a time limit on every answer."""
    handlers: list[asyncio.Task[Any] | None] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def ask(port: int, words: list[bytes]) -> None:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for word in words:
                writer.write(word)
                assert await reader.readline() == word
                await asyncio.sleep(0.1)
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(ask(port, [b"a\n", b"b\n"]), ask(port, [b"c\n", b"d\n"]))
    await asyncio.gather(*filter(None, handlers))


@contextlib.asynccontextmanager
async def web_server() -> AsyncIterator[str]:
    async def hello(request: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response(text=request.match_info["name"])

    app = web.Application()
    app.router.add_get("/{name}", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def aiohttp_answers() -> None:
    """A real aiohttp server and client, whose default time-outs are long in virtual time only."""
    async with web_server() as url, ClientSession() as session:

        async def fetch(name: str) -> str:
            async with session.get(f"{url}/{name}") as response:
                return await response.text()

        texts = await gather_limited((fetch(name) for name in "abc"), limit=2)
        assert texts == ["a", "b", "c"]


async def thread_beats_the_timeout() -> None:
    """The clock stands still while asyncio's own executor works."""
    async with asyncio.timeout(0.001):
        await asyncio.to_thread(time.sleep, 0.003)


async def anyio_thread_beats_the_timeout() -> None:
    """Neither anyio's busy threads nor its idle ones are taken for anything else."""
    with anyio.fail_after(0.001):
        await anyio.to_thread.run_sync(time.sleep, 0.003)
    await asyncio.sleep(3600)
    with anyio.fail_after(0.001):
        await anyio.to_thread.run_sync(time.sleep, 0.003)


async def own_thread_beats_the_timeout() -> None:
    """The clock stands still while a thread of aioconc works, and not for its idle ones."""
    async with asyncio.timeout(0.001):
        await offload_io(time.sleep, 0.003)
    await asyncio.sleep(3600)


async def own_process_beats_the_timeout() -> None:
    """The clock stands still while a worker process computes; its pool serves loop after loop."""
    async with asyncio.timeout(0.001):
        await offload_cpu(time.sleep, 0.003)
    await asyncio.sleep(3600)


async def subprocess_beats_the_timeout() -> None:
    """The clock stands still until a subprocess has ended and its output is read."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "sleep 0.005; echo done", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 0.001)
    assert output == b"done\n"
    assert process.returncode == 0


PROGRAMS = [
    queue_hands_over_everything,
    callbacks_keep_their_order,
    streams_echo,
    aiohttp_answers,
    thread_beats_the_timeout,
    anyio_thread_beats_the_timeout,
    own_thread_beats_the_timeout,
    pytest.param(
        own_process_beats_the_timeout,
        marks=pytest.mark.may_leave(
            "threads", "children", "fds", reason="the default pool stays until the interpreter ends"
        ),
    ),
    subprocess_beats_the_timeout,
]


@pytest.mark.may_leave(
    "threads", "children", "fds", reason="the default pool stays until the interpreter ends"
)
def test_an_idle_worker_process_does_not_hold_back_a_verdict() -> None:
    """What waits for nothing after a call has ended is a deadlock, and is told at once."""

    async def main() -> None:
        await offload_cpu(abs, -1)
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run(main)


def check_seeds(program: Program, seeds: int) -> None:
    for seed in range(seeds):
        kind = Schedule(random=seed) if seed & 1 else Schedule(pct=seed)
        explore(program, schedule=kind)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.__name__)
def test_right_programs_pass_under_any_order(program: Program) -> None:
    """No seed of a few makes a right program fail, nor asyncio complain."""
    explore(program, budget=12, bound=1)
    check_seeds(program, 12)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.__name__)
def test_a_thousand_orders_raise_no_false_alarm(program: Program) -> None:
    """The same for a thousand seeds."""
    check_seeds(program, 1_000)
