"""Wrong uses that a type checker must refuse. Never run.

Each line that ends in `# error` is refused by mypy and by pyright, and no other line is.
"""

import asyncio
from collections.abc import AsyncIterator, Generator
from socket import socket

from aioconc import (
    Condition,
    Lock,
    ProcessExecutor,
    Queue,
    Semaphore,
    TaskGroup,
    ThreadExecutor,
    gather_limited,
    map_limited,
    offload_cpu,
    offload_io,
    race,
    run,
)
from aioconc.channels import Channel, Manager, SharedArray, SharedDict, SharedQueue, open_channel
from aioconc.executors import iterate_in_thread
from aioconc.executors.greenlets import GeventExecutor, await_, greenlet_run
from aioconc.generators import delegate, drive, feed, into, primed, safe_stream
from aioconc.runtime import Portal, graceful, iterate_blocking, open_signals, run_sync, watch_loop
from aioconc.servers import Connection, serve_prefork, serve_tcp
from aioconc.sync import Timer, every
from aioconc.testing import cancel_everywhere, no_blocking, no_leaks


async def fetch(url: str) -> bytes:
    raise NotImplementedError


def parse(html: str, depth: int = 1, *, strict: bool = False) -> list[int]:
    raise NotImplementedError


async def many() -> None:
    await gather_limited(fetch("a"), fetch("b"))  # error
    await gather_limited([fetch("a")])  # error
    await gather_limited([fetch], limit=2)  # error
    await gather_limited(fetch("a"), limit="2")  # error
    await map_limited(fetch, ["a"])  # error
    await map_limited(fetch, [1], limit=2)  # error
    await map_limited(parse, ["a"], limit=2)  # error
    await map_limited(fetch("a"), ["a"], limit=2)  # error
    await map_limited(fetch, ["a"], limit=2, on_error="ignore")  # error
    await map_limited(fetch, ["a"], limit=2, isolate=True)  # error
    await race(fetch("a"))  # error
    await race(lambda: parse("a"))  # error


async def offloads() -> None:
    await offload_cpu(parse)  # error
    await offload_cpu(parse, 1)  # error
    await offload_cpu(parse, "<p>", "2")  # error
    await offload_cpu(parse, "<p>", strickt=True)  # error
    await offload_cpu(parse("<p>"))  # error
    await offload_cpu(parse, "<p>", timeout=5)  # error
    await offload_cpu.options(timeout="5")(parse, "<p>")  # error
    await offload_cpu.options(time_out=5)(parse, "<p>")  # error
    await offload_io.options(on_cancel="maybe")(parse, "<p>")  # error
    wrong: str = await offload_io(parse, "<p>")  # error
    async with ThreadExecutor() as pool:
        await pool.run(parse, 1)  # error
        await pool.map(parse, [1])  # error
        await pool.map(parse, ["a"], on_error="ignore")  # error
        found: list[list[int]] = await pool.map(parse, ["a"], on_error="return")  # error
        pool.options(limit=3)  # error
    async with ProcessExecutor() as processes:
        await processes.run(fetch, 1)  # error
        number: int = await processes.run(fetch, "a")  # error
        processes.stream(parse("a"))  # error
    ProcessExecutor(start="fork")  # error


async def groups() -> None:
    async with TaskGroup(limit="3") as group:  # error
        group.start_soon(fetch, 1)  # error
        group.start_soon(fetch)  # error
        group.start_soon(fetch("a"))  # error
        group.start_soon(parse, "<p>")  # error
        await group.spawn(fetch, 1)  # error
        wrong: str = group.start_soon(fetch, "a").result()  # error


def programs() -> None:
    run(groups, 1)  # error
    run(groups, loop="trio")  # error
    run(parse)  # error


def sweeps() -> None:
    cancel_everywhere(groups())  # error
    cancel_everywhere(parse)  # error
    cancel_everywhere(groups, target="root task")  # error
    cancel_everywhere(groups, phases=["later"])  # error
    cancel_everywhere(groups, check=1)  # error


async def guards() -> None:
    async with no_leaks(files=False):  # error
        pass
    async with no_blocking():  # error
        pass


def consumer(scale: float) -> Generator[None, int, str]:
    raise NotImplementedError


async def numbers(n: int) -> AsyncIterator[int]:
    yield n


async def generators(queue: Queue[int]) -> None:
    await drive(fetch("a"))  # error
    drive(consumer)  # error
    delegate([1])  # error
    primed(consumer)("1")  # error
    primed(numbers)  # error
    safe_stream(fetch)  # error
    safe_stream(numbers)("1")  # error
    async for _ in safe_stream(numbers)(1):  # error
        pass
    await feed(["a"], consumer(1.0))  # error
    await feed([1], queue)  # error
    into([1])  # error


async def runtime() -> None:
    run_sync(fetch, 1)  # error
    run_sync(parse, "a")  # error
    run_sync(fetch, "a", loop="trio")  # error
    async for _ in open_signals(1):  # error
        pass
    open_signals("SIGHUP")  # error
    graceful(drain="5")  # error
    with graceful():  # error
        pass
    with watch_loop(0.1, lambda: None):  # error
        pass


async def primitives(queue: Queue[int], lock: Lock) -> None:
    await queue.put("1")  # error
    await queue.put_many(["1"])  # error
    queue.sync.put(1, 5)  # error
    wrong: str = await queue.get()  # error
    lock.sync.acquire(5)  # error
    with lock:  # error
        pass
    Semaphore("2")  # error
    Condition(3)  # error
    Timer(1, len)  # error
    Timer("1", print)  # error
    await every(1, fetch, 2)  # error


async def greenlets() -> None:
    await greenlet_run(parse, 1)  # error
    await greenlet_run(parse, "a", deep=2)  # error
    wrong: str = await greenlet_run(parse, "a")  # error
    await_(parse("a"))  # error
    await GeventExecutor("10").run(parse, "a")  # error
    await GeventExecutor().run(parse, 1)  # error


async def bridges(portal: Portal, texts: AsyncIterator[str]) -> None:
    portal.call(fetch, 1)  # error
    portal.call(parse("<p>"))  # error
    wrong: str = portal.call(fetch, "a")  # error
    iterate_blocking([1], portal)  # error
    iterate_blocking(texts, None)  # error
    iterate_in_thread(texts)  # error
    iterate_in_thread([1], on_cancel="kill")  # error


async def answer(connection: Connection) -> None:
    raise NotImplementedError


def answer_blocking(sock: socket) -> None:
    raise NotImplementedError


async def servers() -> None:
    await serve_tcp(answer_blocking, 0)  # error
    await serve_tcp(answer, 0, per_connection="thread")  # error
    await serve_tcp(answer_blocking, 0, per_connection="fiber")  # error
    await serve_tcp(answer, "8000")  # error
    serve_prefork(answer, 0)  # error
    serve_prefork(servers(), 0)  # error


async def shared_arrays(shared: SharedArray) -> None:
    SharedArray("2")  # error
    SharedArray(2, lock=None)  # error
    shared[0] = 1  # error
    with shared.lock:  # error
        pass
    shared.lock.sync.acquire(5)  # error


async def managers(manager: Manager, items: SharedQueue[int], table: SharedDict[str, int]) -> None:
    manager.Lock(on_owner_death="ignore")  # error
    manager.Condition(asyncio.Lock())  # error
    await items.put("a")  # error
    wrong: str = await items.get()  # error
    count: int = items.qsize()  # error
    await table.set("a", "b")  # error
    table.sync["a"] = "b"  # error
    _ = [*table]  # error
    _ = "a" in manager.list("ab")  # error
    with manager.Lock():  # error
        pass
    async with manager.Lock().sync:  # error
        pass


async def channels(typed: Channel[int]) -> None:
    open_channel(64)  # error
    await typed.send("a")  # error
    await typed.send(1, 5)  # error
    await typed.send_many(["a"])  # error
    await typed.receive_many()  # error
    wrong: str = await typed.receive()  # error
    with typed:  # error
        pass
    async with typed.sync:  # error
        pass
