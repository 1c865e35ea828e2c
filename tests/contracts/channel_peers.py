"""Whoever has the other end of a channel: a task, a thread, a worker, a process of its own.

A test tells the peer what to do with its end, and does not ask where that is.
"""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aioconc.channels import Channel, EndOfStream, open_channel
from aioconc.executors import ProcessExecutor

KINDS = ("task", "thread", "worker", "spawn")


class TaskPeer:
    """A task of the same loop."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel = channel

    async def do(self, name: str, *args: Any, **options: Any) -> Any:
        if name == "close":
            name = "aclose"
        if name == "drain":
            return [item async for item in self.channel]
        return await getattr(self.channel, name)(*args, **options)


class ThreadPeer(TaskPeer):
    """A thread."""

    async def do(self, name: str, *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(obey, self.channel, name, args, options)


class ProcessPeer:
    """Another process, which gets its orders through a channel too."""

    def __init__(self, orders: Channel[Any]) -> None:
        self.orders = orders
        self._turn = asyncio.Lock()

    async def do(self, name: str, *args: Any, **options: Any) -> Any:
        async with self._turn:
            await self.orders.send((name, args, options))
            error, result = await self.orders.receive()
        if error is not None:
            raise error
        return result


def obey(channel: Channel[Any], name: str, args: Any, options: Any) -> Any:
    """One order."""
    if name == "drain":
        return list(channel.sync)
    return getattr(channel.sync, name)(*args, **options)


def serve(channel: Channel[Any], orders: Channel[Any]) -> None:
    """In the other process: do what is told until there are no more orders."""
    with orders.sync as told:
        for name, args, options in told:
            try:
                result = obey(channel, name, args, options)
            except Exception as error:
                told.send((error, None))
            else:
                told.send((None, result))
    channel.sync.close()


@asynccontextmanager
async def peer_of(kind: str, channel: Channel[Any]) -> AsyncIterator[Any]:
    """Whoever has this end now; it is closed at the end."""
    if kind in ("task", "thread"):
        yield (TaskPeer if kind == "task" else ThreadPeer)(channel)
        await channel.aclose()
        return
    orders, theirs = open_channel()
    async with orders:
        if kind == "worker":
            async with ProcessExecutor(max_workers=1) as pool:
                work = asyncio.ensure_future(pool.run(serve, channel, theirs))
                yield ProcessPeer(orders)
                await orders.close_send()
                await work
            return
        process = multiprocessing.get_context(kind).Process(target=serve, args=(channel, theirs))
        process.start()
        yield ProcessPeer(orders)
        await orders.close_send()
        try:
            await orders.receive()
        except EndOfStream:
            pass
        await asyncio.to_thread(process.join)
        assert process.exitcode == 0
        process.close()


class Unloadable:
    """Can be pickled, and not unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("not today")
