"""`no_leaks` finds nothing in programs that end what they begin, however often they are run."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import anyio
import anyio.to_thread
import pytest
from aiohttp import web

from aioconc import TaskGroup, gather_limited, map_limited, offload_cpu, offload_io
from aioconc.executors import ThreadExecutor
from aioconc.testing import no_leaks

Block = Callable[[], Awaitable[object]]

BLOCKS: dict[str, Block] = {}


def innocent(block: Block) -> Block:
    BLOCKS[block.__name__] = block
    return block


async def soon(value: int = 1) -> int:
    await asyncio.sleep(0)
    return value


async def three() -> AsyncIterator[int]:
    for each in range(3):
        yield each


@innocent
async def tasks_gathered() -> None:
    await asyncio.gather(*(soon(n) for n in range(10)))


@innocent
async def tasks_in_groups() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(soon())
    async with TaskGroup() as ours:
        ours.start_soon(soon)
    await gather_limited(*(soon() for _ in range(5)), limit=2)
    await map_limited(soon, range(5), limit=2)


@innocent
async def task_cancelled_at_the_end() -> None:
    asyncio.create_task(asyncio.sleep(60)).cancel()


@innocent
async def failure_retrieved() -> None:
    async def fail() -> None:
        raise LookupError

    await asyncio.gather(fail(), soon(), return_exceptions=True)
    with contextlib.suppress(LookupError):
        await asyncio.create_task(fail())


@innocent
async def timeouts() -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(60), 0.001)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)


@innocent
async def generator_exhausted() -> None:
    assert [each async for each in three()] == [0, 1, 2]


@innocent
async def generator_left_early() -> None:
    async for _ in three():
        break


@innocent
async def generator_closed() -> None:
    async with contextlib.aclosing(three()) as numbers:
        await anext(numbers)


@innocent
async def threads_of_the_loop() -> None:
    await asyncio.to_thread(sum, [1, 2])
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


@innocent
async def threads_of_anyio() -> None:
    await anyio.to_thread.run_sync(sum, [1, 2])


@innocent
async def threads_of_aioconc() -> None:
    await offload_io(sum, [1, 2])
    async with ThreadExecutor(2) as pool:
        await pool.run(sum, [1, 2])


@innocent
async def threads_of_a_kept_pool() -> None:
    await asyncio.get_running_loop().run_in_executor(_kept_pool(), sum, [1, 2])


@functools.cache
def _kept_pool() -> concurrent.futures.Executor:
    return concurrent.futures.ThreadPoolExecutor(1)


@innocent
async def thread_joined() -> None:
    thread = threading.Thread(target=os.getpid)
    thread.start()
    await asyncio.to_thread(thread.join)


@innocent
async def thread_that_is_about_to_end() -> None:
    threading.Thread(target=os.stat, args=("/",)).start()


@innocent
async def processes_of_aioconc() -> None:
    await offload_cpu(sum, [1, 2])


@innocent
async def subprocess_waited_for() -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()


@innocent
async def subprocess_talked_to() -> None:
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert await process.communicate(b"hello") == (b"hello", None)


@innocent
async def subprocess_of_the_standard_library() -> None:
    await asyncio.to_thread(subprocess.run, ["true"], check=True)


@innocent
async def streams() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\n")
    assert await reader.read() == b"hello\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@innocent
async def http() -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with (
        aiohttp.ClientSession() as session,
        session.get("http://{}:{}/".format(*runner.addresses[0])) as response,
    ):
        assert await response.text() == "hello"
    await runner.cleanup()


@innocent
async def files_and_sockets_closed() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


@pytest.mark.slow
@pytest.mark.loops("all")
@pytest.mark.parametrize("name", BLOCKS)
async def test_innocent_block_is_never_accused(name: str) -> None:
    """Fifty times in a row, each block leaves nothing that would be reported."""
    gc.collect()
    for _ in range(50):
        async with no_leaks():
            await BLOCKS[name]()
    if name == "threads_of_a_kept_pool":
        _kept_pool().shutdown()
        _kept_pool.cache_clear()
