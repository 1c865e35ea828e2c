"""Ends of channels go to processes and come back, and leave no copy behind."""

import asyncio
import multiprocessing
import threading
from typing import Any

import pytest

from aioconc.channels import Channel, ChannelClosed, PeerDied, open_channel
from aioconc.executors import ProcessExecutor
from tests.system import channel_victims as victims
from tests.system.process_tools import kill, until

pytestmark = [pytest.mark.slow, pytest.mark.loops("asyncio")]


def bounce(channel: Channel[Any]) -> Channel[Any]:
    """Use an end and give it back."""
    channel.sync.send("from there")
    return channel


def ends_of_here() -> Channel[Any]:
    """An end whose other end stays here, with a thread that answers."""
    left, right = open_channel()

    def answer() -> None:
        with right.sync as asked:
            for item in asked:
                asked.send(item + 1)

    threading.Thread(target=answer, daemon=True).start()
    return left


async def use_a_loop(channel: Channel[Any]) -> int:
    """In a loop of the worker."""
    total = 0
    async with channel:
        async for item in channel:
            total += item
        await channel.send(total)
    return total


@pytest.mark.parametrize(
    "method",
    [
        "spawn",
        pytest.param(
            "forkserver",
            marks=pytest.mark.may_leave(
                "children", "fds", reason="the fork server of multiprocessing stays"
            ),
        ),
    ],
)
async def test_a_killed_process_of_multiprocessing_is_a_death(method: str) -> None:
    """Although the end that was passed is still named here; its status is that of the process."""
    ours, theirs = open_channel()
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=victims.while_it_computes, args=(theirs,))
    process.start()
    pid = await ours.receive()
    assert pid == process.pid
    kill(pid)
    with pytest.raises(PeerDied) as caught:
        await ours.receive(timeout=10)
    assert (caught.value.pid, caught.value.exitcode) == (pid, -9)
    with pytest.raises(ChannelClosed, match="moved"):
        await theirs.receive()
    await asyncio.to_thread(process.join)
    process.close()
    await ours.aclose()


async def test_a_process_that_cannot_start_gives_nothing_away() -> None:
    """Another argument cannot be pickled: the end went nowhere, and the other end hears of it."""
    ours, theirs = open_channel()
    context: Any = multiprocessing.get_context("spawn")
    process = context.Process(target=victims.at_once, args=(theirs, threading.Lock()))
    with pytest.raises(TypeError):
        process.start()
    del process
    with pytest.raises(PeerDied, match="did not take it"):
        await ours.receive(timeout=10)
    await ours.aclose()


async def test_an_end_goes_to_a_worker_and_comes_back() -> None:
    """As an argument, and as the result."""
    ours, theirs = open_channel()
    async with ours, ProcessExecutor(max_workers=1) as pool:
        back = await pool.run(bounce, theirs)
        async with back:
            assert await ours.receive() == "from there"
            await ours.send("to here")
            assert await back.receive() == "to here"
            await until(lambda: theirs._end._sock.fileno() == -1)


async def test_a_worker_gives_an_end_away() -> None:
    """It made the channel; what stays there answers."""
    async with ProcessExecutor(max_workers=1) as pool:
        channel = await pool.run(ends_of_here)
        async with channel:
            for number in range(20):
                await channel.send(number)
                assert await channel.receive() == number + 1


async def test_an_async_function_of_a_worker_awaits_its_end() -> None:
    """Both ends are awaited, each in its own loop."""
    ours, theirs = open_channel(capacity=4)
    async with ours, ProcessExecutor(max_workers=1) as pool:
        work = asyncio.ensure_future(pool.run(use_a_loop, theirs))
        await ours.send_many(range(1_000))
        await ours.close_send()
        assert await ours.receive() == 499_500
        assert await work == 499_500


async def test_two_workers_talk_to_each_other() -> None:
    """Neither end is here any more, and nothing here holds them together."""
    left, right = open_channel()
    async with ProcessExecutor(max_workers=2) as pool:
        pouring = asyncio.ensure_future(pool.run(pour, left))
        assert await pool.run(drain, right) == 499_500
        await pouring


async def test_of_two_workers_that_talk_one_hears_of_the_others_death() -> None:
    """Though this process made the channel."""
    left, right = open_channel()
    async with ProcessExecutor(max_workers=2) as pool:
        dying = asyncio.ensure_future(pool.run(victims.after_items, left))
        assert await pool.run(drain_until_death, right) == [0, 1, 2, 3, 4]
        await asyncio.wait([dying])
        assert dying.exception() is not None


def pour(channel: Channel[Any]) -> None:
    with channel.sync as sender:
        sender.send_many(range(1_000))


def drain(channel: Channel[Any]) -> int:
    with channel.sync as items:
        return sum(items)


def drain_until_death(channel: Channel[Any]) -> list[int]:
    seen = []
    try:
        for item in channel.sync:
            seen.append(item)  # noqa: PERF402  # those before a death are kept
    except PeerDied:
        channel.sync.close()
    return seen
