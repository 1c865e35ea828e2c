"""The broker's queues: no item is lost or doubled, whoever is cancelled or dies when."""

from typing import Any

import pytest

from aioconc.channels._manager._queues import LifoThing, PriorityThing, QueueThing
from aioconc.errors import OwnerDied
from aioconc.sync import QueueEmpty, QueueFull, QueueShutDown
from tests.unit.channels.broker_clients import FakeClient, broker_with

KINDS: dict[str, Any] = {"fifo": QueueThing, "lifo": LifoThing, "priority": PriorityThing}
# What comes out if 2, 3, 1 are put.
ORDERS = {"fifo": [2, 3, 1], "lifo": [1, 3, 2], "priority": [1, 2, 3]}


def a_queue(maxsize: int = 0, kind: str = "fifo") -> tuple[int, list[FakeClient]]:
    return broker_with(KINDS[kind](maxsize), 4)


def item(number: int) -> tuple[bytes, int]:
    return bytes([number]), number


def ask_put(client: FakeClient, queue: int, number: int, more: int = 0) -> int:
    return client.ask(queue, "put", item(number), more)


def put(client: FakeClient, queue: int, *numbers: int) -> None:
    for number in numbers:
        request = ask_put(client, queue, number)
        assert client.value(request) == 1
        client.tell(queue, "commit", request, [])


def ask_get(client: FakeClient, queue: int, most: int = 1) -> int:
    return client.ask(queue, "get", most)


def got(client: FakeClient, request: int) -> list[int]:
    return [data[0] for data in client.value(request)]


def get(client: FakeClient, queue: int, most: int = 1) -> list[int]:
    request = ask_get(client, queue, most)
    client.tell(queue, "took", request)
    return got(client, request)


def state(client: FakeClient, queue: int) -> tuple[int, ...]:
    found: tuple[int, ...] = client.value(client.ask(queue, "look"))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_items_come_in_the_order_of_the_queue(kind: str) -> None:
    """First, last or lowest; many at once too."""
    queue, (a, b, _, _) = a_queue(kind=kind)
    put(a, queue, 2, 3, 1)
    assert get(b, queue) + get(b, queue, 5) == ORDERS[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["cancel", "die"])
def test_items_that_were_not_taken_come_back_to_their_place(kind: str, how: str) -> None:
    """A getter that is cancelled or dies with the answer on its way has taken nothing."""
    queue, (a, b, c, _) = a_queue(kind=kind)
    put(a, queue, 2, 3, 1)
    request = ask_get(b, queue, 2)
    assert got(b, request) == ORDERS[kind][:2]
    if how == "cancel":
        b.cancel(request)
    else:
        b.die()
    assert get(c, queue, 9) == ORDERS[kind]
    assert state(c, queue)[-2] == 3  # not done


def test_an_item_that_comes_back_is_for_who_waits() -> None:
    """The next getter has it at once."""
    queue, (a, b, c, _) = a_queue()
    first, second = ask_get(b, queue), ask_get(c, queue)
    put(a, queue, 7)
    assert b.has(first) and not c.answers
    b.die()
    assert got(c, second) == [7]


def test_a_putter_that_goes_away_leaves_no_item() -> None:
    """While it waits, and with a place already its own."""
    queue, (a, b, c, d) = a_queue(1)
    put(a, queue, 1)
    waits, dies, last = (ask_put(each, queue, n) for each, n in ((b, 2), (c, 3), (d, 4)))
    b.cancel(waits)
    assert get(a, queue) == [1]
    assert c.has(dies) and last not in d.answers
    c.die()
    assert d.has(last)
    d.cancel(last)
    assert state(a, queue)[:2] == (0, 0)


def test_the_bound_counts_what_is_on_its_way() -> None:
    """Items that may come back, and places that are about to be filled."""
    queue, (a, b, c, _) = a_queue(2)
    put(a, queue, 1)
    request = ask_get(b, queue)
    placed = ask_put(a, queue, 2)
    assert a.has(placed)
    assert isinstance(c.error(c.ask(queue, "put_nowait", item(3))), QueueFull)
    b.tell(queue, "took", request)
    third = c.ask(queue, "put_nowait", item(3))
    a.tell(queue, "commit", placed, [])
    c.tell(queue, "commit", third, [])
    assert get(b, queue, 9) == [2, 3]


def test_many_are_put_into_the_places_there_are() -> None:
    """The answer says how many; those that are not filled are free again."""
    queue, (a, b, _, _) = a_queue(3)
    request = ask_put(a, queue, 1, more=8)
    assert a.value(request) == 3
    waits = ask_put(b, queue, 9)
    a.tell(queue, "commit", request, [item(2)])
    assert b.has(waits)
    b.tell(queue, "commit", waits, [])
    assert get(a, queue, 9) == [1, 2, 9]


def test_nothing_is_there_at_once() -> None:
    """`get_nowait` says so, and takes what is there."""
    queue, (a, b, _, _) = a_queue()
    assert isinstance(a.error(a.ask(queue, "get_nowait")), QueueEmpty)
    put(b, queue, 1)
    assert got(a, a.ask(queue, "get_nowait")) == [1]


def test_shutdown_reaches_every_waiter() -> None:
    """Putters at once, getters when nothing is left that may still come."""
    queue, (a, b, c, d) = a_queue(1)
    put(a, queue, 1)
    waits = ask_put(b, queue, 2)
    given = ask_get(c, queue)
    assert waits not in b.answers
    getter = ask_get(d, queue)
    a.tell(queue, "shutdown", False)
    assert isinstance(b.error(waits), QueueShutDown)
    assert isinstance(b.error(ask_put(b, queue, 3)), QueueShutDown)
    assert isinstance(b.error(b.ask(queue, "put_nowait", item(3))), QueueShutDown)
    assert not d.answers, "the item on its way to c may come back"
    c.tell(queue, "took", given)
    assert isinstance(d.error(getter), QueueShutDown)
    assert isinstance(d.error(ask_get(d, queue)), QueueShutDown)
    assert isinstance(d.error(d.ask(queue, "get_nowait")), QueueShutDown)


def test_what_was_let_in_before_the_shutdown_is_put() -> None:
    """A producer that was granted a place goes on as if it had put its item, and it has."""
    queue, (a, b, _, _) = a_queue()
    placed = ask_put(a, queue, 5)
    getter = ask_get(b, queue)
    b.tell(queue, "shutdown", False)
    assert not b.answers
    a.tell(queue, "commit", placed, [])
    assert got(b, getter) == [5]


def test_an_immediate_shutdown_throws_away_all() -> None:
    """Also what comes back, or was about to be put; `join` counts it as done."""
    queue, (a, b, c, _) = a_queue()
    put(a, queue, 1, 2)
    given, placed = ask_get(b, queue), ask_put(a, queue, 3)
    joins = c.ask(queue, "join")
    getter = None
    a.tell(queue, "shutdown", True)
    assert joins not in c.answers
    getter = ask_get(c, queue)
    a.tell(queue, "commit", placed, [])
    b.cancel(given)
    assert c.has(joins)
    assert isinstance(c.error(getter), QueueShutDown)
    assert state(c, queue)[:2] == (0, 0)
    queue, (a, b, c, _) = a_queue()
    placed = a.ask(queue, "put", item(1), 0)
    a.tell(queue, "shutdown", True)
    a.cancel(placed)
    assert state(a, queue)[:2] == (0, 0)


def test_join_waits_until_all_is_done() -> None:
    """`task_done` of a process counts for the items that it took."""
    queue, (a, b, _, _) = a_queue()
    assert a.has(a.ask(queue, "join"))
    put(a, queue, 1, 2)
    joins = a.ask(queue, "join")
    get(b, queue, 2)
    a.tell(queue, "task_done")  # it took none: the handle refuses that
    b.tell(queue, "task_done")
    assert joins not in a.answers
    b.tell(queue, "task_done")
    assert a.has(joins)


@pytest.mark.parametrize("waits", [True, False])
def test_join_tells_of_items_that_died_with_a_process(waits: bool) -> None:
    """It never hangs on them, and says so once: to those who wait, or to who comes."""
    queue, (a, b, c, _) = a_queue()
    put(a, queue, 1, 2, 3)
    joins = a.ask(queue, "join") if waits else None
    get(b, queue, 2)
    b.tell(queue, "task_done")
    b.die(-9)
    assert joins not in a.answers
    get(c, queue)
    c.tell(queue, "task_done")
    error = a.error(a.ask(queue, "join") if joins is None else joins)
    assert isinstance(error, OwnerDied) and error.exitcode == -9
    assert "with 1 item of this queue that was not done" in str(error)
    assert a.has(a.ask(queue, "join"))


def test_a_call_that_ends_leaves_its_items_to_its_process() -> None:
    """It may have returned them to somebody who says that they are done."""
    queue, (a, b, _, _) = a_queue()
    put(a, queue, 1)
    request = b.ask(queue, "get", 1, party=3)
    b.tell(queue, "took", request, party=3)
    b.end_call(3)
    joins = a.ask(queue, "join")
    assert joins not in a.answers
    b.tell(queue, "task_done")
    assert a.has(joins)


def test_items_of_a_call_that_ended_are_lost_with_its_process() -> None:
    """They were left to the process, which dies later."""
    queue, (a, b, _, _) = a_queue()
    put(a, queue, 1)
    b.tell(queue, "took", b.ask(queue, "get", 1, party=3), party=3)
    b.end_call(3)
    joins = a.ask(queue, "join")
    b.die()
    assert isinstance(a.error(joins), OwnerDied)


def test_priorities_that_cannot_be_compared_are_refused_at_the_put() -> None:
    """In the producer, and the queue is as before; equal ones go in their order."""
    queue, (a, b, _, _) = a_queue(kind="priority")
    put(a, queue, 2)
    assert isinstance(a.error(a.ask(queue, "put", (b"x", "text"), 0)), TypeError)
    for data in (b"p", b"q"):
        request = a.ask(queue, "put", (data, 1), 0)
        a.tell(queue, "commit", request, [])
    assert b.value(ask_get(b, queue, 9)) == [b"p", b"q", b"\2"]


def test_priorities_that_fit_only_the_first_stay_in_the_queue() -> None:
    """Tuples that begin alike and cannot be compared further: all come out."""
    queue, (a, b, _, _) = a_queue(kind="priority")
    keys: list[Any] = [((0,),), ((0, "a"),), ((0, 2),), ((0, None),), ((0, "b"),), ((0, 3.0),)]
    for number, key in enumerate(keys):
        request = a.ask(queue, "put", (bytes([number]), key), 0)
        a.tell(queue, "commit", request, [])
    found = [b.value(ask_get(b, queue))[0][0] for _ in keys]
    assert found[0] == 0 and sorted(found) == [0, 1, 2, 3, 4, 5]
