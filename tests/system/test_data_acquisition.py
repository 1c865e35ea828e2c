"""The data-acquisition program: what channels are for, end to end, and again with a death in it."""

import asyncio
import math
import multiprocessing
import statistics
from typing import Any

import pytest

from aioconc.channels import Channel, PeerDied, open_channel
from aioconc.errors import WorkerCrashed
from aioconc.executors import ProcessExecutor
from tests.system.acquisition import acquire, analyse, reading
from tests.system.process_tools import kill

pytestmark = pytest.mark.slow

CAPACITY = 32


class Program:
    """The three parts, and the channels between them."""

    def __init__(self) -> None:
        self.watched, self.watcher = open_channel(capacity=CAPACITY)
        self.measured, self.analysed = open_channel(capacity=CAPACITY)
        self.results, self.reporter = open_channel(capacity=CAPACITY)

    async def watch(self, count: int | None, seconds: float | None) -> list[tuple[int, float]]:
        """Readings until there are so many, or so much time is over since the first; then stop, and take the rest."""
        seen: list[tuple[int, float]] = []
        loop = asyncio.get_running_loop()
        end = math.inf
        async for number, value in self.watched:
            seen.append((number, value))
            if len(seen) == 1 and seconds is not None:
                end = loop.time() + seconds
            if len(seen) == count or (len(seen) > 1 and loop.time() > end):
                await self.watched.close_send()
        return seen

    async def close(self) -> None:
        for each in (self.watched, self.results):
            await each.aclose()


def check(seen: list[tuple[int, float]], result: dict[str, Any], *, complete: bool) -> None:
    """All that was measured has arrived, in order, and the figures are right."""
    assert seen == [(number, reading(number)) for number in range(len(seen))]
    values = [reading(number) for number in range(result["count"])]
    assert result["complete"] is complete
    assert result["mean"] == pytest.approx(statistics.fmean(values))
    assert result["deviation"] == pytest.approx(statistics.stdev(values))


@pytest.mark.parametrize("stop", ["count", "time"])
async def test_an_acquisition_is_stopped_and_nothing_is_lost(stop: str) -> None:
    """After a count or a time; the analysis has what the parent has seen, to the last reading."""
    program = Program()
    async with ProcessExecutor(max_workers=2) as pool:
        work = [
            asyncio.ensure_future(pool.run(acquire, program.watcher, program.measured)),
            asyncio.ensure_future(pool.run(analyse, program.analysed, program.reporter)),
        ]
        limits = (2_000, None) if stop == "count" else (None, 0.2)
        seen = await program.watch(*limits)
        result = await program.results.receive()
        await asyncio.gather(*work)
    await program.close()
    # The device went on until it heard of the end: at most what may be on its way.
    if stop == "count":
        assert 2_000 <= len(seen) <= 2_000 + 2 * CAPACITY
    assert result["count"] == len(seen)
    check(seen, result, complete=True)


async def test_the_same_with_processes_of_multiprocessing() -> None:
    """Started by spawn, with their ends as arguments."""
    program = Program()
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=acquire, args=(program.watcher, program.measured)),
        context.Process(target=analyse, args=(program.analysed, program.reporter)),
    ]
    for each in processes:
        each.start()
    seen = await program.watch(500, None)
    result = await program.results.receive()
    for each in processes:
        await asyncio.to_thread(each.join)
        assert each.exitcode == 0
        each.close()
    await program.close()
    assert result["count"] == len(seen)
    check(seen, result, complete=True)


async def test_an_acquisition_that_is_killed_half_way_is_known_to_be_incomplete() -> None:
    """Both readers take what had arrived, and hear of the death instead of an end."""
    program = Program()
    seen: list[tuple[int, float]] = []

    async def watch(channel: Channel[Any], pid: int) -> PeerDied:
        with pytest.raises(PeerDied) as caught:
            async for each in channel:
                seen.append(each)
                if len(seen) == 500:
                    kill(pid)
        return caught.value

    async with ProcessExecutor(max_workers=2) as pool:
        acquiring = asyncio.ensure_future(pool.run(acquire, program.watcher, program.measured))
        analysing = asyncio.ensure_future(pool.run(analyse, program.analysed, program.reporter))
        seen.append(await program.watched.receive())
        pid = program.watched.statistics().peer
        assert pid is not None
        error = await watch(program.watched, pid)
        assert error.pid == pid
        result = await program.results.receive()
        with pytest.raises(WorkerCrashed):
            await acquiring
        await analysing
    await program.close()
    # One of the two may have got a reading that the other has not, and no more than that.
    assert len(seen) <= result["count"] <= len(seen) + 1
    check(seen, result, complete=False)
