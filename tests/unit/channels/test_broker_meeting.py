"""The broker's events, barriers, dicts and lists."""

import pytest

from aioconc.channels._manager._meeting import BarrierThing, EventThing
from aioconc.channels._manager._tables import DictThing, ListThing
from aioconc.sync import BarrierBroken
from tests.unit.channels.broker_clients import FakeClient, broker_with


def test_an_event_lets_all_go() -> None:
    """Who waited goes on, also if it is cleared at once; who comes later waits, or leaves."""
    event, (a, b, c) = broker_with(EventThing())
    first, second, gone = a.ask(event, "wait"), b.ask(event, "wait"), c.ask(event, "wait")
    c.cancel(gone)
    a.tell(event, "set")
    assert a.has(first) and b.has(second) and gone not in c.answers
    assert a.has(a.ask(event, "wait"))
    a.tell(event, "clear")
    c.ask(event, "wait")
    c.die()
    assert b.value(b.ask(event, "look")) == (0, False)


def test_a_barrier_lets_a_party_through() -> None:
    """Each has a number of its own; one that leaves is replaced."""
    barrier, (a, b, c) = broker_with(BarrierThing(2))
    a.cancel(a.ask(barrier, "wait"))
    first, second = b.ask(barrier, "wait"), c.ask(barrier, "wait")
    assert (b.value(first), c.value(second)) == (0, 1)
    assert a.value(a.ask(barrier, "look")) == (0, 2, False)


def test_who_dies_at_a_barrier_breaks_it() -> None:
    """Nobody will come in its place; after a reset it is as new."""
    barrier, (a, b, c) = broker_with(BarrierThing(4))
    a.ask(barrier, "wait")
    a.ask(barrier, "wait")
    waits = b.ask(barrier, "wait")
    a.die()
    assert isinstance(b.error(waits), BarrierBroken)
    assert "process 1 ended while it waited" in str(b.error(waits))
    assert isinstance(c.error(c.ask(barrier, "wait")), BarrierBroken)
    c.tell(barrier, "reset")
    again = b.ask(barrier, "wait")
    c.tell(barrier, "reset")
    assert "reset while" in str(b.error(again))
    again = b.ask(barrier, "wait")
    c.tell(barrier, "abort")
    assert "reset it first" in str(b.error(again))


def test_a_dict_is_changed_in_steps_that_no_other_comes_between() -> None:
    """What was read may be set again only if it is still the same."""
    table, (a, b, _) = broker_with(DictThing({"k": b"0"}))

    def look(key: object) -> object:
        return a.value(a.ask(table, "get", key))

    data, version = a.value(a.ask(table, "get", "k"))
    assert data == b"0"
    assert b.value(b.ask(table, "set_if", "k", b"1", version)) is True
    assert a.value(a.ask(table, "set_if", "k", b"2", version)) is False
    assert a.value(a.ask(table, "set_if", "new", b"2", None)) is True
    assert a.value(a.ask(table, "set_if", "new", b"3", None)) is False
    assert a.value(a.ask(table, "setdefault", "k", b"9")) == b"1"
    assert a.value(a.ask(table, "setdefault", "d", b"9")) == b"9"
    a.ask(table, "update", {"u": b"7"})
    assert a.value(a.ask(table, "keys")) == (["k", "new", "d", "u"], None, 5)
    assert a.value(a.ask(table, "items"))[0][0] == ("k", b"1")
    assert a.value(a.ask(table, "popitem")) == ("u", b"7")
    assert a.value(a.ask(table, "pop", "d")) == b"9"
    assert a.value(a.ask(table, "pop", "d")) is None
    assert a.value(a.ask(table, "contains", "k")) and not a.value(a.ask(table, "contains", 1))
    _, version = a.value(a.ask(table, "get", "new"))
    assert a.value(a.ask(table, "set_if", "new", None, version)) is True
    assert a.value(a.ask(table, "set_if", "new", None, None)) is True
    assert look("new") is None
    assert a.value(a.ask(table, "size")) == 1
    a.ask(table, "clear")
    assert a.value(a.ask(table, "popitem")) is None


def test_a_version_never_comes_again() -> None:
    """A key that was taken out and set again is not what it was."""
    table, (a, _, _) = broker_with(DictThing({"k": b"0"}))
    _, version = a.value(a.ask(table, "get", "k"))
    a.ask(table, "pop", "k")
    a.ask(table, "update", {"k": b"0"})
    assert a.value(a.ask(table, "set_if", "k", b"1", version)) is False


def test_a_list_is_changed_in_steps_that_no_other_comes_between() -> None:
    """As a list; all of it is replaced only if nothing has changed."""
    items, (a, b, _) = broker_with(ListThing([b"0"]))
    changes = [
        ("extend", [b"1", b"2"]),
        ("insert", 0, b"i"),
        ("set", 1, b"s"),
        ("delete", slice(2, 3)),
    ]
    for what, *args in changes:
        before = a.value(a.ask(items, "items"))
        b.ask(items, what, *args)
        assert a.value(a.ask(items, "replace_if", before[0], before[2])) is False
    data, _, version = a.value(a.ask(items, "items"))
    assert data == [b"i", b"s", b"2"]
    assert a.value(a.ask(items, "replace_if", [b"x", b"y"], version)) is True
    assert a.value(a.ask(items, "get", 0)) == b"x"
    assert a.value(a.ask(items, "get", slice(0, 9))) == [b"x", b"y"]
    assert a.value(a.ask(items, "pop", -1)) == b"y"
    assert a.value(a.ask(items, "size")) == 1
    assert isinstance(a.error(a.ask(items, "get", 5)), IndexError)
    a.ask(items, "replace_if", [], None)
    with pytest.raises(IndexError):
        raise a.error(a.ask(items, "pop", 0))


def test_what_is_long_is_answered_in_pages_of_one_moment() -> None:
    """All pages are of what there was at the first; whoever goes away leaves nothing behind."""
    thing = DictThing({key: b"%d" % key for key in range(2_500)})
    table, (a, b, c) = broker_with(thing)

    def rest(client: FakeClient, request: int) -> list[tuple[int, bytes]]:
        page, following, _ = client.value(request)
        found: list[tuple[int, bytes]] = page
        while following is not None:
            page, following, _ = client.value(client.ask(table, "more", following))
            found += page
        return found

    first = a.ask(table, "items")
    assert len(a.value(first)[0]) == 1_000
    b.ask(table, "clear")
    assert rest(a, first) == [(key, b"%d" % key) for key in range(2_500)]
    b.ask(table, "update", dict.fromkeys(range(8), b"x" * 40000))
    pages = b.ask(table, "items")
    assert len(b.value(pages)[0]) == 2
    b.cancel(pages)
    c.ask(table, "items")
    c.end_call(0)
    assert len(thing._rest) == 1
    c.die()
    assert not thing._rest
