"""The broker's locks, conditions and semaphores: who is next, and what the dead leave behind."""

import pytest

from aioconc.channels._manager._broker import Request, Thing
from aioconc.channels._manager._locks import ConditionThing, LockThing, SemaphoreThing
from aioconc.errors import ManagerClosed, OwnerDied
from tests.unit.channels.broker_clients import FakeClient, broker_with


def a_lock(on_owner_death: str = "raise") -> tuple[int, list[FakeClient]]:
    return broker_with(LockThing(on_owner_death), 4)  # type: ignore[arg-type]


def take(client: FakeClient, lock: int, recover: bool = False) -> int:
    return client.ask(lock, "acquire", recover)


def test_a_lock_is_handed_over_in_the_order_of_arrival() -> None:
    """One holder at a time, the oldest request next."""
    lock, (a, b, c, _) = a_lock()
    first, second, third = take(a, lock), take(b, lock), take(c, lock)
    assert a.has(first) and not b.answers and not c.answers
    a.tell(lock, "release", first, False)
    assert b.has(second) and not c.answers
    b.tell(lock, "release", second, False)
    assert c.has(third)


def test_a_release_by_another_process_does_nothing() -> None:
    """Only the grant that is named is released, and only by the process that has it."""
    lock, (a, b, c, _) = a_lock()
    first, second = take(a, lock), take(b, lock)
    c.tell(lock, "release", first, False)
    a.tell(lock, "release", first + 7, False)
    assert not b.answers
    a.tell(lock, "release", first, False)
    a.tell(lock, "release", first, False)
    assert b.has(second)
    assert a.value(a.ask(lock, "look")) == (0, "process 2", False)


def test_a_cancelled_request_leaves_the_queue() -> None:
    """Those behind it keep their places."""
    lock, (a, b, c, _) = a_lock()
    first, second, third = take(a, lock), take(b, lock), take(c, lock)
    b.cancel(second)
    a.tell(lock, "release", first, False)
    assert not b.answers and c.has(third)


def test_cancelled_after_the_grant_it_goes_to_the_next() -> None:
    """As when the client is cancelled in the tick in which the answer arrives."""
    lock, (a, b, c, _) = a_lock()
    first, second, third = take(a, lock), take(b, lock), take(c, lock)
    a.tell(lock, "release", first, False)
    assert b.has(second)
    b.cancel(second)
    assert c.has(third)


def test_cancel_and_release_cross_on_the_way() -> None:
    """Whichever comes first, the next one has the lock and nobody has it twice."""
    for order in (("cancel", "release"), ("release", "cancel")):
        lock, (a, b, c, _) = a_lock()
        first, second, third = take(a, lock), take(b, lock), take(c, lock)
        for step in order:
            if step == "cancel":
                b.cancel(second)
            else:
                a.tell(lock, "release", first, False)
        assert c.has(third)


def test_the_death_of_the_holder_is_told_to_all_who_want_it() -> None:
    """Who waits and who comes gets `OwnerDied`; nobody waits for the dead."""
    lock, (a, b, c, d) = a_lock()
    take(a, lock)
    second, third = take(b, lock), take(c, lock)
    a.die(-9)
    for client, number in ((b, second), (c, third), (d, take(d, lock))):
        error = client.error(number)
        assert isinstance(error, OwnerDied)
        assert (error.pid, error.exitcode) == (1, -9)
        assert "process 1 ended (exit status -9) while it held this lock" in str(error)


def test_who_recovers_a_lock_makes_it_good_for_all() -> None:
    """He holds it and is told; who comes meanwhile waits for what comes of it."""
    lock, (a, b, c, d) = a_lock()
    take(a, lock)
    a.die()
    recovers = take(b, lock, True)
    assert isinstance(b.value(recovers), OwnerDied)
    waits, also = take(c, lock), take(d, lock, True)
    assert not c.answers and not d.answers
    b.tell(lock, "release", recovers, True)
    assert c.value(waits) is None
    c.tell(lock, "release", waits, False)
    assert d.value(also) is None


def test_a_recovery_that_fails_leaves_the_lock_as_it_was() -> None:
    """Released without "recovered", or by another death: who waited is refused, next recovers."""
    for dies in (True, False):
        lock, (a, b, c, d) = a_lock()
        take(a, lock)
        a.die()
        recovers = take(b, lock, True)
        plain, again = take(c, lock), take(d, lock, True)
        if dies:
            b.die()
        else:
            b.tell(lock, "release", recovers, False)
        assert isinstance(c.error(plain), OwnerDied)
        assert isinstance(d.value(again), OwnerDied)
        assert d.value(again).pid == (2 if dies else 1)


def test_a_lock_made_to_be_handed_on_is() -> None:
    """With "release" the next one has it, and is told nothing."""
    lock, (a, b, _, _) = a_lock("release")
    take(a, lock)
    second = take(b, lock)
    a.die()
    assert b.value(second) is None


def test_a_waiter_that_dies_is_no_owner() -> None:
    """It leaves the queue, and the lock stays good."""
    lock, (a, b, c, _) = a_lock()
    first, _, third = take(a, lock), take(b, lock), take(c, lock)
    b.die()
    a.tell(lock, "release", first, False)
    assert c.has(third)


def test_a_process_that_holds_and_waits_gets_nothing_as_it_dies() -> None:
    """First it leaves what it waits for, so what it holds goes to the living."""
    lock, (a, b, _, _) = a_lock("release")
    take(a, lock)
    take(a, lock)
    other = take(b, lock)
    a.die()
    assert b.has(other)
    assert len(a.answers) == 1


def test_a_call_that_ends_is_a_party_that_ends() -> None:
    """What it holds is released and told; what its process holds otherwise stays."""
    lock, (a, b, _, _) = a_lock()
    mine = a.ask(lock, "acquire", False, party=7)
    waits = a.ask(lock, "acquire", False, party=7)
    a.end_call(7)
    a.end_call(7)
    error = b.error(take(b, lock))
    assert isinstance(error, OwnerDied) and error.pid == 1 and error.exitcode is None
    assert a.has(mine) and waits not in a.answers
    recovers = take(a, lock, True)
    a.end_call(7)
    assert a.has(recovers)
    assert b.value(b.ask(lock, "look"))[1] == "process 1"


# ------------------------------------------------------------------ conditions


def a_condition(on_owner_death: str = "raise") -> tuple[int, int, list[FakeClient]]:
    lock_thing = LockThing(on_owner_death)  # type: ignore[arg-type]
    lock, clients = broker_with(lock_thing, 4)
    return lock, clients[0].broker.add(ConditionThing(lock_thing)), clients


def wait(client: FakeClient, lock: int, condition: int) -> int:
    return client.ask(condition, "wait", take(client, lock))


def test_a_notified_waiter_has_the_lock() -> None:
    """It is answered when it holds the lock again, in the order of the notifications."""
    lock, condition, (a, b, c, _) = a_condition()
    first, second = wait(a, lock, condition), wait(b, lock, condition)
    held = take(c, lock)
    c.tell(condition, "notify", 0)
    assert first not in a.answers
    c.tell(lock, "release", held, False)
    assert a.value(first) == (True, None) and second not in b.answers
    a.tell(lock, "release", first, False)
    assert b.value(second) == (True, None)


def test_waiting_without_the_lock_is_refused() -> None:
    """Another process may hold it: not this one."""
    lock, condition, (a, b, _, _) = a_condition()
    held = take(a, lock)
    assert isinstance(b.error(b.ask(condition, "wait", held)), RuntimeError)


@pytest.mark.parametrize("answered", [True, False])
def test_a_notification_of_one_that_gives_up_wakes_another(answered: bool) -> None:
    """Whether it had the lock already or still waited for it."""
    lock, condition, (a, b, c, _) = a_condition()
    first, second = wait(a, lock, condition), wait(b, lock, condition)
    held = take(c, lock)
    c.tell(condition, "notify", 1)
    if answered:
        c.tell(lock, "release", held, False)
        assert a.has(first)
    a.cancel(first)
    if not answered:
        c.tell(lock, "release", held, False)
    assert b.value(second) == (True, None)


def test_who_gave_up_before_it_was_told_takes_the_lock_in_its_own_place() -> None:
    """Before it had asked to wait, and after it was notified; others wait for their turn."""
    lock = LockThing()
    number, (a, b, _) = broker_with(lock)
    condition = a.broker.add(ConditionThing(lock))
    first = take(a, number)
    waiting = take(b, number)
    again = a.ask(number, "acquire", True, first)
    assert a.has(again) and not b.answers
    a.tell(number, "release", first, False)
    assert not b.answers, "that request holds it no more"
    wait = a.ask(condition, "wait", again)
    assert b.has(waiting) and not a.has(wait)
    b.tell(condition, "notify", 1)
    b.tell(number, "release", waiting, False)
    assert a.value(wait) == (True, None)
    once_more = a.ask(number, "acquire", True, again)
    assert a.has(once_more)
    a.cancel(wait)
    last = take(b, number)
    assert not b.has(last)
    a.tell(number, "release", once_more, False)
    assert b.has(last)
    stranger = a.ask(number, "acquire", True, last)
    assert not a.has(stranger), "numbers are of one process"


def test_a_dead_waiter_passes_its_notification_on() -> None:
    """As if it had given up."""
    lock, condition, (a, b, c, _) = a_condition()
    wait(a, lock, condition)
    second = wait(b, lock, condition)
    held = take(c, lock)
    c.tell(condition, "notify", 1)
    a.die()
    c.tell(lock, "release", held, False)
    assert b.value(second) == (True, None)


def test_all_who_wait_hear_of_the_death_of_who_has_the_lock() -> None:
    """They may have waited for the dead; each holds the lock as it is told."""
    lock, condition, (a, b, c, d) = a_condition()
    first, second = wait(a, lock, condition), wait(b, lock, condition)
    take(c, lock)
    plain = take(d, lock)
    c.die()
    assert isinstance(d.error(plain), OwnerDied)
    notified, died = a.value(first)
    assert not notified and isinstance(died, OwnerDied)
    assert second not in b.answers
    a.tell(lock, "release", first, False)
    assert isinstance(b.value(second)[1], OwnerDied)


def test_they_are_woken_too_where_the_lock_is_handed_on() -> None:
    """As if they had been notified: they look, and wait again."""
    lock, condition, (a, _, c, _) = a_condition("release")
    first = wait(a, lock, condition)
    take(c, lock)
    c.die()
    assert a.value(first) == (True, None)


# ------------------------------------------------------------------ semaphores


def test_permits_of_the_dead_are_free() -> None:
    """All it took and did not give back, for those who wait, in their order."""
    semaphore, (a, b, c) = broker_with(SemaphoreThing(2, bounded=False))
    taken, _ = a.ask(semaphore, "acquire"), a.ask(semaphore, "acquire")
    first, second = b.ask(semaphore, "acquire"), c.ask(semaphore, "acquire")
    for _ in range(2):
        a.tell(semaphore, "release", [taken], 0)  # said twice, it is given back once
    assert b.has(first) and not c.answers
    a.die()
    assert c.has(second)
    b.die()
    c.die()
    other = FakeClient(a.broker, 9)
    assert other.value(other.ask(semaphore, "look")) == (0, 2)


def test_permits_are_added_by_who_took_none_unless_it_is_bounded() -> None:
    """A bounded one counts what its processes have."""
    for bounded, free in ((False, 3), (True, 1)):
        semaphore, (a, b, _) = broker_with(SemaphoreThing(1, bounded=bounded))
        b.tell(semaphore, "release", [], 2)
        a.tell(semaphore, "release", [a.ask(semaphore, "acquire")], 0)
        assert a.value(a.ask(semaphore, "look")) == (0, free)


def test_a_permit_that_is_not_wanted_any_more_goes_on() -> None:
    """Cancelled before the answer or after it."""
    semaphore, (a, b, c) = broker_with(SemaphoreThing(1, bounded=True))
    first, second, third = (each.ask(semaphore, "acquire") for each in (a, b, c))
    b.cancel(second)
    assert not c.answers
    a.cancel(first)
    assert c.has(third)
    a.cancel(first)
    assert c.value(c.ask(semaphore, "look")) == (0, 0)


# ------------------------------------------------------------------ the end of the manager


def test_a_cancel_of_what_was_refused_gives_no_permit_back() -> None:
    """The process has another one, which it keeps."""
    permits, (a, b, _) = broker_with(SemaphoreThing(1, bounded=False))
    taken = a.ask(permits, "acquire")
    refused = a.ask(permits, "!acquire")
    assert isinstance(a.error(refused), TimeoutError)
    a.cancel(refused)
    wanted = b.ask(permits, "acquire")
    assert not b.has(wanted)
    a.cancel(taken)
    a.cancel(taken)
    assert b.has(wanted)
    assert a.value(a.ask(permits, "look")) == (0, 0)


def test_who_waits_hears_of_the_end_and_who_comes() -> None:
    """Nobody hangs; what was held is nobody's business any more."""
    lock, (a, b, _, _) = a_lock()
    held, waits = take(a, lock), take(b, lock)
    a.broker.close()
    assert isinstance(b.error(waits), ManagerClosed)
    a.tell(lock, "release", held, False)
    b.cancel(waits)
    assert isinstance(b.error(take(b, lock)), ManagerClosed)
    a.die()
    with pytest.raises(ManagerClosed):
        a.broker.add(LockThing())


def test_what_makes_no_sense_is_refused() -> None:
    """A message that aioconc does not send raises, and the connection is not trusted."""
    lock, (a, _, _, _) = a_lock()
    for bad in ((1, 0, lock, "__init__"), (0, 0, lock, "acquire"), (1, 0, 99, "acquire")):
        with pytest.raises((ValueError, KeyError)):
            a.broker.handle(a.connection, bad)


def test_a_thing_that_fails_after_its_answer_is_not_answered_twice() -> None:
    """The connection is not trusted any more, as with what makes no sense."""

    class Failing(Thing):
        asks = frozenset({"go"})

        def go(self, request: Request) -> None:
            request.grant()
            raise ZeroDivisionError

    thing, (a, _, _) = broker_with(Failing())
    with pytest.raises(ZeroDivisionError):
        a.ask(thing, "go")
    assert len(a.answers) == 1
