"""`safe_stream` and `feed` under many orders of their tasks' steps."""

import asyncio

from aioconc.generators import feed, into, primed, safe_stream
from aioconc.sync import Queue
from aioconc.tasks import TaskGroup, fail_after, move_on_after
from aioconc.testing import explore


def test_stream_whose_reader_gives_up_again_and_again_loses_nothing() -> None:
    """Whatever the order of a time limit and a delivery, each item is read once, in order."""

    @safe_stream
    async def numbers():  # type: ignore[no-untyped-def]
        for n in range(4):
            await asyncio.sleep(1)
            yield n

    async def main() -> None:
        got = []
        async with numbers() as items:
            while len(got) < 4:
                with move_on_after(1):  # strikes in the very tick of the delivery
                    got.append(await anext(items))
        assert got == [0, 1, 2, 3]

    explore(main, budget=60)


def test_time_limit_inside_a_stream_and_a_read_in_the_same_tick() -> None:
    """The limit strikes inside, whether or not an item is being asked for just then."""
    ended = 0

    @safe_stream
    async def numbers():  # type: ignore[no-untyped-def]
        nonlocal ended
        try:
            with move_on_after(2):
                n = 0
                while True:
                    yield (n := n + 1)
                    await asyncio.sleep(1)
            yield "over"
        finally:
            await asyncio.sleep(0)
            ended += 1

    async def main() -> None:
        nonlocal ended
        ended = 0
        async with numbers() as items, asyncio.timeout(60):
            got = []
            async for item in items:
                got.append(item)
                await asyncio.sleep(1)
            assert got[-1] == "over"
        assert ended == 1

    explore(main, budget=60)


def test_stream_left_while_its_item_is_made() -> None:
    """In any order of the end of the block and the item, the generator has ended with the block."""
    open_streams = 0

    @safe_stream
    async def numbers():  # type: ignore[no-untyped-def]
        nonlocal open_streams
        open_streams += 1
        try:
            while True:
                await asyncio.sleep(1)
                yield 1
        finally:
            await asyncio.sleep(0)
            open_streams -= 1

    async def main() -> None:
        for limit in (1, 2):
            with move_on_after(limit):
                async with numbers() as items:
                    async for _ in items:
                        await asyncio.sleep(0)
            assert open_streams == 0

    explore(main, budget=60)


def test_pipeline_into_a_queue_keeps_order_and_bound() -> None:
    """Each item arrives once, in order, and no more than the queue holds waits in it."""

    @primed
    def twice(target):  # type: ignore[no-untyped-def]
        try:
            while True:
                item = yield
                target.send(item)
                target.send(item)
        finally:
            target.close()

    async def main() -> None:
        queue: Queue[int] = Queue(maxsize=1)

        async def read() -> list[int]:
            got = []
            async for item in queue:
                assert queue.statistics().items <= 1
                got.append(item)
            return got

        async with TaskGroup() as group, asyncio.timeout(60):
            reader = group.start_soon(read)
            group.start_soon(feed, range(4), twice(into(queue)))
        assert reader.result() == [0, 0, 1, 1, 2, 2, 3, 3]

    explore(main, budget=60)


def test_cancelled_pipeline_ends_its_readers() -> None:
    """A limit that strikes anywhere leaves no reader waiting."""

    async def source():  # type: ignore[no-untyped-def]
        for n in range(10):
            await asyncio.sleep(1)
            yield n

    async def main() -> None:
        queue: Queue[int] = Queue(maxsize=1)

        async def read() -> list[int]:
            return [item async for item in queue]

        async with TaskGroup() as group:
            reader = group.start_soon(read)
            with move_on_after(3):
                await feed(source(), into(queue))
            with fail_after(1):
                got = await reader
            assert got == [*range(len(got))]

    explore(main, budget=60)
