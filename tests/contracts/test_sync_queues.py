"""What queues promise, to tasks, to threads, and mixed; in each order of their items."""

import asyncio
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aioconc import sync
from tests.contracts.sync_actors import GAVE_UP, Cast, cast, until, wait_for_waiters, waiting

pytestmark = pytest.mark.loops("all")

QUEUES: dict[str, Any] = {
    "Queue": sync.Queue,
    "LifoQueue": sync.LifoQueue,
    "PriorityQueue": sync.PriorityQueue,
}
# What comes out if 2, 3, 1 are put.
ORDERS = {"Queue": [2, 3, 1], "LifoQueue": [1, 3, 2], "PriorityQueue": [1, 2, 3]}


@pytest.fixture(params=["task", "thread", "mixed"])
async def actor(request: pytest.FixtureRequest) -> AsyncIterator[Cast]:
    async with cast(request.param) as make:
        yield make


@pytest.fixture(params=QUEUES)
def kind(request: pytest.FixtureRequest) -> Any:
    return QUEUES[request.param]


async def test_items_come_in_the_order_of_the_queue(actor: Cast, kind: Any) -> None:
    """First, last or lowest; one by one, many at once, or as an iteration."""
    for take in ("get", "get_many", "iterate"):
        items, who = kind(), actor()
        await who.do(items, "put", 2)
        await who.do(items, "put_many", [3, 1])
        assert (items.qsize(), items.empty(), items.full()) == (3, False, False)
        if take == "get":
            found = [await who.do(items, "get") for _ in range(3)]
        elif take == "get_many":
            found = await who.do(items, "get_many", 2) + await who.do(items, "get_many", 2)
        else:
            items.shutdown()
            found = [item async for item in items]
        assert found == ORDERS[kind.__name__]
        assert items.empty()


async def test_get_waits_for_an_item(actor: Cast, kind: Any) -> None:
    """Those who wait are served in the order of arrival."""
    items = kind()
    waits = []
    for count in range(3):
        waits.append(actor().do(items, "get"))
        await wait_for_waiters(items, count + 1)
    assert items.statistics().getters_waiting == 3
    giver = actor()
    for number in range(3):
        await giver.do(items, "put", number)
        assert await waits[number] == number


async def test_put_waits_for_room(actor: Cast, kind: Any) -> None:
    """The bound is never exceeded; those who wait are let in in the order of arrival."""
    items = kind(1)
    items.put_nowait(0)
    waits = []
    for number in range(1, 3):
        waits.append(actor().do(items, "put", number))
        await wait_for_waiters(items, number)
    assert items.full() and items.statistics().putters_waiting == 2
    with pytest.raises(asyncio.QueueFull):
        items.put_nowait(3)
    taker = actor()
    for number in range(3):
        assert await taker.do(items, "get") == number
        assert items.qsize() <= 1
    await asyncio.gather(*waits)
    with pytest.raises(queue.Empty):
        items.get_nowait()


async def test_who_gives_up_leaves_items_and_places_to_others(actor: Cast, kind: Any) -> None:
    """A getter who gives up takes no item, a putter who gives up leaves none."""
    items = kind(1)
    assert await actor().give_up(items, "get") == GAVE_UP
    waits = actor().do(items, "get")
    await wait_for_waiters(items, 1)
    items.put_nowait(1)
    assert await waits == 1
    items.put_nowait(2)
    assert await actor().give_up(items, "put", 3) == GAVE_UP
    waits = actor().do(items, "put", 4)
    await wait_for_waiters(items, 1)
    assert [items.get_nowait(), await actor().do(items, "get")] == [2, 4]
    await waits
    assert items.statistics().unfinished == 3


async def test_put_many_waits_for_room_and_nothing_is_lost(actor: Cast) -> None:
    """More items than there is room for go through, in their order; so does no item at all."""
    items: sync.Queue[int] = sync.Queue(3)
    await actor().do(items, "put_many", [])
    waits = actor().do(items, "put_many", iter(range(10)))
    taker = actor()
    found: list[int] = []
    while len(found) < 10:
        found += await taker.do(items, "get_many", 4)
        assert items.qsize() <= 3
    await waits
    assert found == list(range(10))
    full: sync.Queue[int] = sync.Queue(1)
    await actor().do(full, "put_many", [1])  # does not wait for room that it needs not
    await actor().do(full, "put_many", [])
    assert await actor().give_up(full, "put_many", [2, 3]) == GAVE_UP
    assert full.qsize() == 1


async def test_shutdown_lets_take_what_is_left(actor: Cast, kind: Any) -> None:
    """Nothing more goes in; what is in comes out, then all hear of the end."""
    items = kind(2)
    await actor().do(items, "put_many", [1, 1])
    putter = actor().do(items, "put", 3)
    await wait_for_waiters(items, 1)
    await actor().do(items, "shutdown")
    with pytest.raises(sync.QueueShutDown, match="takes nothing more"):
        await putter
    for name, arguments in (("put", (4,)), ("put_many", ([4],)), ("put_nowait", (4,))):
        with pytest.raises(sync.QueueShutDown):
            await actor().do(items, name, *arguments)
    assert await actor().do(items, "get_many", 3) == [1, 1]
    for name in ("get", "get_nowait"):
        with pytest.raises(sync.QueueShutDown, match="nothing is left"):
            await actor().do(items, name)
    if sys.version_info >= (3, 13):
        with pytest.raises(asyncio.QueueShutDown):
            items.get_nowait()
        with pytest.raises(queue.ShutDown):
            items.get_nowait()


async def test_shutdown_reaches_every_consumer(actor: Cast, kind: Any) -> None:
    """One call ends any number of them, in every order of items: no pill for each."""
    items = kind()
    waits = [actor().do(items, "get") for _ in range(4)]
    await wait_for_waiters(items, 4)
    items.put_nowait(1)
    items.shutdown()
    outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert outcomes.count(1) == 1
    assert sum(isinstance(each, sync.QueueShutDown) for each in outcomes) == 3


async def test_immediate_shutdown_throws_away_what_is_left(actor: Cast, kind: Any) -> None:
    """Items are gone and count as done, so `join` ends."""
    items = kind()
    items.put_nowait(1)
    items.put_nowait(2)
    joined = actor().do(items, "join")
    await wait_for_waiters(items, 1)
    items.shutdown(immediate=True)
    await joined
    assert items.empty() and items.statistics().shut_down
    with pytest.raises(sync.QueueShutDown):
        await actor().do(items, "get")


async def test_join_waits_until_all_is_done(actor: Cast, kind: Any) -> None:
    """`task_done` once for each item, and not once more."""
    items, who = kind(), actor()
    await who.do(items, "join")
    items.put_nowait(1)
    items.put_nowait(2)
    assert await actor().give_up(items, "join") == GAVE_UP
    joined = actor().do(items, "join")
    await wait_for_waiters(items, 1)
    items.get_nowait()
    await who.do(items, "task_done")
    assert not joined.done()
    await who.do(items, "task_done")
    await joined
    with pytest.raises(ValueError, match="too many times"):
        await who.do(items, "task_done")


async def test_the_faces_agree(kind: Any) -> None:
    """`sync` shows what the queue shows, and iterates too."""
    items = kind(3)
    face = items.sync
    face.put_nowait(2)
    items.put_nowait(1)
    assert (face.qsize(), face.empty(), face.full(), face.maxsize) == (2, False, False, 3)
    assert repr(face) == f"<{kind.__name__} 2/3 items, 0 getters and 0 putters waiting>.sync"
    face.get_nowait()
    face.shutdown()
    assert repr(items).endswith("waiting, shut down>")
    assert len(await asyncio.to_thread(lambda: list(face))) == 1
    assert items.statistics() == sync.QueueStatistics(0, 0, 0, 3, 0, 0, 2, True)


async def test_get_many_takes_most_and_not_less_than_one() -> None:
    """A number below 1 is refused."""
    items: sync.Queue[int] = sync.Queue()
    with pytest.raises(ValueError, match="max_items must be an int >= 1, got 0"):
        await items.get_many(0)
    waits = asyncio.ensure_future(items.get_many(5))
    await until(lambda: waiting(items) == 1)
    items.put_nowait(1)
    items.put_nowait(2)
    assert await waits == [1, 2]
