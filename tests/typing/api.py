"""What type checkers infer for users. Checked by mypy and pyright, never run.

Every `assert_type` is exact: an `Any` that slips into a signature makes it fail.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import Executor as StandardExecutor, Future
from socket import socket
from typing import Any, Literal, assert_type

import aioconc
from aioconc import (
    Barrier,
    CancelScope,
    Condition,
    Event,
    Lock,
    Queue,
    RateLimiter,
    Semaphore,
    TaskGroup,
    TaskHandle,
    ThreadExecutor,
    backoff,
    fail_after,
    gather_limited,
    map_limited,
    move_on_after,
    offload_cpu,
    offload_io,
    race,
    run,
    shielded,
    use,
)
from aioconc.channels import (
    Channel,
    ChannelStatistics,
    Manager,
    SharedArray,
    SharedCondition,
    SharedDict,
    SharedList,
    SharedLock,
    SharedLockStatistics,
    SharedQueue,
    SharedQueueStatistics,
    SharedRLock,
    SharedSemaphore,
    SyncChannel,
    open_channel,
    open_manager,
)
from aioconc.errors import OwnerDied
from aioconc.executors import Executor, FuturesExecutor, ProcessExecutor, iterate_in_thread
from aioconc.executors.greenlets import GeventExecutor, await_, greenlet_run
from aioconc.flow import MapRun
from aioconc.generators import Step, delegate, drive, feed, into, primed, safe_stream
from aioconc.runtime import (
    LoopStall,
    Portal,
    Shutdown,
    WatchStatistics,
    graceful,
    iterate_blocking,
    open_portal,
    open_signals,
    run_sync,
    watch_loop,
)
from aioconc.servers import Connection, ServerStatistics, TcpServer, ready, serve_prefork, serve_tcp
from aioconc.sync import LockStatistics, PriorityQueue, QueueStatistics, Timer, every
from aioconc.testing import (
    BlockReport,
    CancelPoint,
    CancelReport,
    Leak,
    LeakReport,
    Stall,
    cancel_everywhere,
    no_blocking,
    no_leaks,
)


class Page:
    url: str


async def fetch(url: str) -> Page:
    raise NotImplementedError


def parse(html: str, depth: int = 1, *, strict: bool = False) -> list[int]:
    raise NotImplementedError


async def later_pages(n: int) -> AsyncIterator[Page]:
    yield await fetch(str(n))


def pages(n: int) -> Iterator[Page]:
    raise NotImplementedError


async def urls() -> AsyncIterator[str]:
    yield ""


async def check_gather_limited() -> None:
    assert_type(await gather_limited(fetch("a"), fetch("b"), limit=2), list[Page])
    assert_type(await gather_limited((fetch(u) for u in ["a"]), limit=2), list[Page])
    assert_type(await gather_limited([fetch("a")], limit=2), list[Page])
    assert_type(await gather_limited((fetch(u) async for u in urls()), limit=2), list[Page])
    assert_type(
        await gather_limited(fetch("a"), fetch("b"), limit=2, return_exceptions=True),
        list[Page | BaseException],
    )
    assert_type(
        await gather_limited([fetch("a")], limit=2, return_exceptions=True),
        list[Page | BaseException],
    )


async def check_map_limited() -> None:
    assert_type(map_limited(fetch, ["a"], limit=3), MapRun[Page])
    assert_type(await map_limited(fetch, ["a"], limit=3), list[Page])
    assert_type(await map_limited(fetch, ["a"], limit=3, on_error="return"), list[Page | Exception])
    assert_type(await map_limited(fetch, urls(), limit=3, ordered=False), list[Page])
    async with map_limited(fetch, urls(), limit=3) as results:
        async for page in results:
            assert_type(page, Page)
    await map_limited(
        fetch,
        ["a"],
        limit=3,
        on_error="skip",
        timeout=1.5,
        retry=backoff(3, on=OSError),
        rate=RateLimiter(10, burst=3),
        key=lambda url: url.split("/")[2],
        limit_per_key=2,
        buffer=10,
    )
    run_of_it = map_limited(fetch, ["a"], limit=3)
    run_of_it.limit = 5


async def check_race() -> None:
    assert_type(await race(lambda: fetch("a"), lambda: fetch("b")), list[Page])
    assert_type(await race(lambda: fetch("a"), lambda: fetch("b"), want=2), list[Page])


async def check_offload() -> None:
    assert_type(await offload_cpu(parse, "<p>"), list[int])
    assert_type(await offload_cpu(parse, "<p>", 2, strict=True), list[int])
    assert_type(await offload_io(parse, "<p>", depth=2), list[int])
    assert_type(await offload_io(lambda: 7), int)
    assert_type(await offload_cpu.options(timeout=5)(parse, "<p>"), list[int])
    assert_type(
        await offload_io.options(on_cancel="abandon", name="parse")(parse, "<p>", strict=True),
        list[int],
    )


async def check_executors(standard: StandardExecutor) -> None:
    async with ThreadExecutor(max_workers=3) as pool:
        assert_type(pool, ThreadExecutor)
        assert_type(pool.options(timeout=1), ThreadExecutor)
        assert_type(await pool.run(parse, "<p>", strict=True), list[int])
        assert_type(pool.map(parse, ["<p>"]), MapRun[list[int]])
        assert_type(await pool.map(parse, ["<p>"]), list[list[int]])
        assert_type(await pool.map(parse, urls(), on_error="skip"), list[list[int]])
        assert_type(await pool.map(parse, ["<p>"], on_error="return"), list[list[int] | Exception])
        async with pool.map(parse, ["<p>"], on_error="return") as found:
            async for each in found:
                assert_type(each, list[int] | Exception)
        assert_type(pool.futures, StandardExecutor)
        async with pool.stream(pages, 3) as stream:
            async for page in stream:
                assert_type(page, Page)
    async with use(FuturesExecutor(standard)) as other:
        assert_type(other, FuturesExecutor)
    async with ProcessExecutor(2, start="forkserver", preload=["numpy"]) as forked:
        assert_type(await forked.run(parse, "<p>"), list[int])
    async with ProcessExecutor(2, context=[]) as processes:
        assert_type(await processes.run(parse, "<p>", strict=True), list[int])
        assert_type(await processes.run(fetch, "a"), Page)
        assert_type(await processes.options(timeout=1).run(fetch, "a"), Page)
        async with processes.stream(pages, 3) as stream:
            assert_type(await anext(stream), Page)
        async with processes.stream(later_pages, 3) as stream:
            assert_type(await anext(stream), Page)
    anything: Executor = pool
    assert_type(await anything.run(parse, "<p>"), list[int])


async def check_groups() -> None:
    async with TaskGroup(limit=3, timeout=5, name="pages") as group:
        assert_type(group, TaskGroup)
        assert_type(group.start_soon(fetch, "a"), TaskHandle[Page])
        assert_type(await group.spawn(fetch, "a"), TaskHandle[Page])
        assert_type(group.start_background(fetch, "a"), TaskHandle[Page])
        assert_type(await group.start_soon(fetch, "a"), Page)
        assert_type(group.start_soon(fetch, "a").result(), Page)
        assert_type(await group.create_task(fetch("a")), Page)
        assert_type(group.scope, CancelScope)


async def check_scopes() -> None:
    with move_on_after(1) as scope:
        assert_type(scope, CancelScope)
    with fail_after(1.5) as scope:
        assert_type(scope.deadline, float)
        assert_type(scope.cancel_called, bool)
    assert_type(await shielded(fetch("a"), grace=1), Page)


async def check_sync(queue: Queue[int], lock: Lock, event: Event) -> None:
    assert_type(await queue.get(), int)
    assert_type(await queue.get_many(3), list[int])
    assert_type(queue.sync.get(timeout=1), int)
    assert_type(queue.get_nowait(), int)
    assert_type([item async for item in queue], list[int])
    for item in queue.sync:
        assert_type(item, int)
    assert_type(queue.statistics(), QueueStatistics)
    await queue.put_many(range(3))
    by_length: PriorityQueue[str] = PriorityQueue(key=len)
    assert_type(await by_length.get(), str)
    assert_type(lock.sync.acquire(timeout=1.5), bool)
    assert_type(lock.statistics(), LockStatistics)
    async with lock, Semaphore(2), Condition(lock) as nothing:
        assert_type(nothing, None)
    async with Barrier(2) as number:
        assert_type(number, int)
    assert_type(await event.wait(), Literal[True])
    assert_type(event.sync.wait(1), bool)
    assert_type(await Condition().wait_for(lambda: [1]), list[int])
    async with Timer(1, pages, 3) as timer:
        assert_type(timer.cancel(), bool)
    await every(1, fetch, "a")


async def check_guards() -> None:
    async with no_leaks(threads=False, patience=2) as left:
        assert_type(left, LeakReport)
        assert_type(left.now(), list[Leak])
        assert_type(left.leaks, tuple[Leak, ...])
    with no_leaks() as left, no_blocking(0.1) as blocked:
        assert_type(blocked, BlockReport)
        assert_type(blocked.stalls, list[Stall])


async def main() -> int:
    return 0


async def check_generators(queue: Queue[int], numbers: list[int]) -> None:
    def old(url: str) -> Generator[object, Any, Page]:
        raise NotImplementedError

    def consumer(scale: float) -> Generator[None, int, str]:
        raise NotImplementedError

    async def echo() -> AsyncGenerator[bytes, int]:
        yield b""

    assert_type(await drive(old("a")), Page)
    async with delegate(consumer(1.0)) as steps:
        async for step in steps:
            assert_type(step, Step[None, int])
            assert_type(step.sent, int | None)
        assert_type(steps.result, str)
    async with delegate(echo()) as others:
        async for other in others:
            assert_type(other.value, bytes)
        assert_type(others.result, None)
    async with safe_stream(later_pages)(3) as stream:
        assert_type(stream, AsyncIterator[Page])
    assert_type(primed(consumer)(1.0), Generator[None, int, str])
    assert_type(await feed(numbers, consumer(1.0)), str | None)
    assert_type(into(queue), Generator[None, int, None])
    assert_type(into(queue.sync), Generator[None, int, None])
    await feed(numbers, into(queue))


def check_run() -> None:
    assert_type(run(main), int)
    assert_type(run(lambda: fetch("a")), Page)


async def check_runtime() -> None:
    assert_type(run(fetch, "a", eager_tasks=True), Page)
    assert_type(run_sync(fetch, "a"), Page)
    assert_type(run_sync(fetch("a"), loop="asyncio"), Page)
    async with open_signals(signal.SIGHUP) as arriving:
        assert_type(arriving, AsyncIterator[signal.Signals])
    async with graceful(signal.SIGTERM, drain=None) as shutdown:
        assert_type(shutdown, Shutdown)
        assert_type(shutdown.signal, signal.Signals | None)
        assert_type(shutdown.requested, Event)

    def tell(stall: LoopStall) -> str:
        return stall.where

    with watch_loop(0.1, tell) as watch:
        assert_type(watch.statistics(), WatchStatistics)


def check_cancel_everywhere() -> None:
    assert_type(cancel_everywhere(main), CancelReport)
    report = cancel_everywhere(
        lambda: fetch("a"),
        target=lambda task: task.get_name() == "a",
        phases={"ready"},
        check=main,
        loop_factory=asyncio.new_event_loop,
    )
    assert_type(report.failures, tuple[CancelPoint, ...])
    assert_type(report.points[0].delays, tuple[str, ...])
    cancel_everywhere(main, target="children", check=lambda: None)


async def check_greenlets() -> None:
    assert_type(await greenlet_run(parse, "<p>", 2, strict=True), list[int])
    assert_type(await_(fetch("a")), Page)
    assert_type(await_(asyncio.ensure_future(fetch("a"))), Page)
    async with GeventExecutor(10).options(timeout=1) as pool:
        assert_type(pool, GeventExecutor)
        assert_type(await pool.run(parse, "<p>"), list[int])


async def answer(connection: Connection) -> None:
    assert_type(await connection.receive(), bytes)
    assert_type([data async for data in connection], list[bytes])
    with connection.until_drain() as wait:
        assert_type(wait, CancelScope)


def answer_blocking(sock: socket) -> int:
    raise NotImplementedError


async def check_servers(server: TcpServer, sockets: Sequence[socket]) -> None:
    assert_type(await serve_tcp(answer, 0, limit=10), None)
    await serve_tcp(answer_blocking, sockets=sockets, per_connection="thread")
    await serve_tcp(answer_blocking, 0, per_connection="process", on_error=print)
    assert_type(server.port, int)
    assert_type(server.drain(), None)
    assert_type(server.statistics(), ServerStatistics)
    assert_type(ready(), None)


async def app(sockets: Sequence[socket]) -> None:
    raise NotImplementedError


def check_prefork() -> None:
    assert_type(serve_prefork(app, 8000, workers=2), int)


def check_errors(error: aioconc.WorkerCrashed, other: aioconc.SerializationError) -> None:
    assert_type(error.pid, int | None)
    assert_type(error.signal, int | None)
    assert_type(error.attempt, int)
    caught: aioconc.AioconcError = other
    assert isinstance(caught, Exception)


async def check_bridges() -> None:
    async with open_portal() as portal:
        assert_type(portal, Portal)
        assert_type(portal.call(fetch, "a"), Page)
        assert_type(portal.call(parse, "<p>", strict=True), list[int])
        assert_type(portal.start_task_soon(fetch, "a"), Future[Page])
        assert_type(portal.start_task_soon(parse, "<p>"), Future[list[int]])
        for page in iterate_blocking(later_pages(1), portal):
            assert_type(page, Page)
    with iterate_blocking(urls(), asyncio.get_running_loop(), buffer=2) as texts:
        assert_type([*texts], list[str])
    async with iterate_in_thread(pages(1)) as found:
        assert_type(await anext(found), Page)
    async with iterate_in_thread(lambda: [1], on_cancel="abandon") as numbers:
        assert_type([number async for number in numbers], list[int])


async def check_shared_arrays() -> None:
    with SharedArray((2, 3), "float32", lock=True) as shared:
        assert_type(shared, SharedArray)
        assert_type(shared.view, memoryview)
        assert_type(shared.shape, tuple[int, ...])
        async with shared.lock:
            pass
        async with shared.lock.recover() as died:
            assert_type(died, OwnerDied | None)
        assert_type(shared.lock.sync.acquire(timeout=1), bool)
        assert_type(await offload_cpu(give_back, shared), SharedArray)


def give_back(shared: SharedArray) -> SharedArray:
    return shared


async def check_managers() -> None:
    async with open_manager() as manager:
        assert_type(manager, Manager)
        lock = manager.Lock(on_owner_death="release")
        assert_type(lock, SharedLock)
        assert_type(manager.RLock(), SharedRLock)
        assert_type(manager.Semaphore(2), SharedSemaphore)
        assert_type(manager.Condition(lock), SharedCondition)
        async with lock:
            assert_type(await lock.locked(), bool)
            assert_type(await lock.statistics(), SharedLockStatistics)
        async with lock.recover() as died:
            assert_type(died, OwnerDied | None)
        assert_type(await manager.Barrier(1).wait(), int)
        assert_type(await manager.Event().is_set(), bool)
        items: SharedQueue[str] = manager.Queue(10)
        await items.put("a")
        assert_type(await items.get(), str)
        assert_type(await items.get_many(2), list[str])
        assert_type(await items.get_nowait(), str)
        assert_type([item async for item in items], list[str])
        assert_type(await items.statistics(), SharedQueueStatistics)
        table = manager.dict({"a": 1})
        assert_type(table, SharedDict[str, int])
        assert_type(await table.get("a"), int | None)
        assert_type(await table.get("a", ""), int | str)
        assert_type(await table["a"], int)
        assert_type(await table.update_item("a", lambda n: 2), int)
        assert_type(await table.items(), list[tuple[str, int]])
        found = manager.list(["a"])
        assert_type(found, SharedList[str])
        assert_type(await found[0], str)
        assert_type(await found[1:], list[str])
        assert_type(await found.copy(), list[str])


def check_managers_in_workers(
    lock: SharedLock, items: SharedQueue[int], table: SharedDict[str, int], found: SharedList[int]
) -> None:
    with lock.sync, lock.sync.recover() as died:
        assert_type(died, OwnerDied | None)
    assert_type(lock.sync.acquire(timeout=1), bool)
    assert_type(items.sync.get(timeout=1), int)
    for item in items.sync:
        assert_type(item, int)
    table.sync["a"] = 1
    assert_type(table.sync["a"], int)
    assert_type(found.sync[0], int)


async def check_channels(typed: Channel[int]) -> None:
    assert_type(open_channel(capacity=1), tuple[Channel[Any], Channel[Any]])
    assert_type(await typed.receive(timeout=1), int)
    assert_type(await typed.receive_many(3), list[int])
    assert_type(await typed.receive_bytes(), bytes)
    await typed.send(1, timeout=None)
    await typed.send_many(range(3))
    async for item in typed:
        assert_type(item, int)
    async with typed as same:
        assert_type(same, Channel[int])
    assert_type(typed.sync, SyncChannel[int])
    assert_type(typed.sync.receive(), int)
    assert_type(list(typed.sync), list[int])
    with typed.sync as blocking:
        assert_type(blocking, SyncChannel[int])
    assert_type(typed.statistics(), ChannelStatistics)
    left, right = open_channel()
    numbers: Channel[int] = left
    texts: Channel[str] = right
    await numbers.send(1)
    await texts.send("a")
