"""The broker in any order of requests, cancels and deaths: nothing is lost, nobody is forgotten."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, strategies as st

from aioconc.channels._manager._broker import Broker
from aioconc.channels._manager._locks import ConditionThing, LockThing, SemaphoreThing
from aioconc.channels._manager._queues import LifoThing, PriorityThing, QueueThing
from aioconc.errors import OwnerDied
from tests.unit.channels.broker_clients import FakeClient

CLIENTS = 4

# Which client, what it does, and which of its requests that is about.
steps = st.lists(
    st.tuples(st.integers(0, CLIENTS - 1), st.integers(0, 99), st.integers(0, 3)), max_size=60
)


class Asker(FakeClient):
    """A process that knows which of its requests wait, which were granted, and which it holds."""

    def __init__(self, broker: Broker, pid: int) -> None:
        super().__init__(broker, pid)
        self.alive = True
        # Asked and not given up; what was granted is acted on, or given up, in a later step.
        self.open: list[int] = []
        self.held: list[int] = []

    def granted(self) -> list[int]:
        """Answers that it has not acted on yet."""
        return [each for each in self.open if each in self.answers]

    def give_up(self, index: int) -> None:
        """Cancel a request, answered or not."""
        if self.open:
            request = self.open.pop(index % len(self.open))
            if request not in self.answers or self.has(request):
                self.cancel(request)

    def accept(self) -> list[int]:
        """Go on with what was granted."""
        granted = [each for each in self.granted() if self.has(each)]
        self.open = [each for each in self.open if each not in self.answers]
        self.held += granted
        return granted

    def end(self) -> None:
        """Die."""
        self.alive = False
        self.die()


def clients_of(broker: Broker) -> list[Asker]:
    return [Asker(broker, pid) for pid in range(CLIENTS)]


@pytest.mark.parametrize("policy", ["raise", "release"])
@given(steps)
def test_a_lock_has_one_owner_and_forgets_nobody(policy: Any, plan: list[Any]) -> None:
    """At most one request is granted; in the end every live one is granted or told."""
    broker = Broker()
    thing = LockThing(policy)
    lock = broker.add(thing)
    condition = broker.add(ConditionThing(thing))
    clients = clients_of(broker)
    for who, what, which in plan:
        client = clients[who]
        if not client.alive:
            continue
        if what < 35:
            client.open.append(client.ask(lock, "acquire", which == 0))
        elif what < 50:
            client.give_up(which)
        elif what < 75:
            client.accept()
            for request in client.held:
                client.tell(lock, "release", request, which == 0)
            client.held.clear()
        elif what < 85:
            client.accept()
            if client.held:
                client.open.append(client.ask(condition, "wait", client.held.pop()))
        elif what < 95:
            client.tell(condition, "notify", which)
        else:
            client.end()
        owners = [
            request
            for each in clients
            if each.alive
            for request in [*each.held, *each.granted()]
            if each.has(request)
        ]
        assert len(owners) <= 1
        assert (thing.holder is None) == (not owners), "held by the living, or free"
        assert not thing.waiters or thing.holder is not None
    clients[0].tell(condition, "notify", 0)
    for _ in range(1_000):
        waiting = [each for each in clients if each.alive and (each.open or each.held)]
        if not waiting:
            break
        for each in waiting:
            each.accept()
            for request in each.held:
                each.tell(lock, "release", request, False)
            each.held.clear()
    else:
        raise AssertionError("somebody waits for ever")
    assert thing.holder is None and not thing.waiters
    for each in clients:
        for error, _ in each.answers.values():
            assert error is None or (policy == "raise" and isinstance(error, OwnerDied))


@given(steps, st.integers(0, 3))
def test_permits_are_conserved(plan: list[Any], value: int) -> None:
    """Free and held are as many as at the start; nobody waits while one is free."""
    broker = Broker()
    thing = SemaphoreThing(value, bounded=True)
    semaphore = broker.add(thing)
    clients = clients_of(broker)
    for who, what, which in plan:
        client = clients[who]
        if not client.alive:
            continue
        if what < 45:
            client.open.append(client.ask(semaphore, "acquire"))
        elif what < 65:
            client.give_up(which)
        elif what < 95:
            client.accept()
            if client.held:
                client.tell(semaphore, "release", [client.held.pop()], 0)
        else:
            client.end()
        held = sum(len(each.held) + len(each.granted()) for each in clients if each.alive)
        assert thing.value + held == value
        assert not (thing.value and thing.waiters)
    for client in clients:
        if client.alive:
            client.end()
    assert thing.value == value and not thing.waiters and not thing.taken


@pytest.mark.parametrize("kind", [QueueThing, LifoThing, PriorityThing])
@given(steps, st.integers(0, 3))
def test_items_are_conserved_within_the_bound(kind: Any, plan: list[Any], maxsize: int) -> None:
    """What was put was taken, or is in the queue: once. Nobody waits for what is there."""
    broker = Broker()
    thing = kind(maxsize)
    queue = broker.add(thing)
    clients = clients_of(broker)
    put: Counter[int] = Counter()
    taken: Counter[int] = Counter()
    number = 0
    puts: dict[tuple[int, int], int] = {}

    def settle(client: Asker) -> None:
        """The client goes on with what it was granted."""
        for request in client.accept():
            key = client.pid, request
            if key in puts:
                client.tell(queue, "commit", request, [])
                put[puts[key]] += 1
            else:
                client.tell(queue, "took", request)
                taken.update(int(data) for data in client.value(request))
        client.held.clear()

    for who, what, which in plan:
        client = clients[who]
        if not client.alive:
            continue
        if what < 35:
            number += 1
            request = client.ask(queue, "put", (str(number).encode(), number % 3), 0)
            puts[client.pid, request] = number
            client.open.append(request)
        elif what < 65:
            client.open.append(client.ask(queue, "get", 1 + which % 2))
        elif what < 80:
            client.give_up(which)
        elif what < 96:
            settle(client)
        else:
            client.end()
        assert maxsize == 0 or thing._used() <= maxsize
        assert not (thing._items and thing._getters)
        assert not (thing._putters and (maxsize == 0 or thing._used() < maxsize))
    reader = Asker(broker, 99)
    for client in clients:
        if client.alive:
            client.end()
    while thing._items:
        reader.open.append(reader.ask(queue, "get", 2))
        settle(reader)
    assert taken == put
    assert all(count == 1 for count in taken.values())
    assert not thing._giving and not thing._placed and not thing._getters and not thing._putters
