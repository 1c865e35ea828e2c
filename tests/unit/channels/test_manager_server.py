"""The connections of a manager: half frames, strangers, slow readers, closed loops."""

import asyncio
import enum
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from _pickle import dumps
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from aioconc._wire import _frames as wire
from aioconc._wire._body import Laden
from aioconc._wire._descriptors import Descriptor
from aioconc.channels import Manager, SharedLock, open_manager
from aioconc.channels._manager import _shared
from aioconc.channels._manager._broker import Broker
from aioconc.channels._manager._remote_client import RemoteClient
from aioconc.channels._manager._server import ADOPT, HELLO, MESSAGE, Server, exitcode_of
from aioconc.errors import ManagerClosed, OwnerDied
from aioconc.sync._home import Home
from aioconc.worker._place import at_end, set_link


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    async with open_manager() as found:
        yield found


class Elsewhere:
    """A client over a socket, as another process has one; here it is in this process."""

    def __init__(self, manager: Manager) -> None:
        self.client = RemoteClient(manager._client.new_end(), manager._client.token)

    def has(self, shared: Any) -> Any:
        """The object as that process has it."""
        return type(shared)(self.client, shared._number, *shared._options())

    def end(self) -> None:
        """As when that process ends."""
        with self.client._mutex:
            woken = self.client._close()
        self.client._wake(woken)


@pytest.fixture
async def elsewhere(manager: Manager) -> AsyncIterator[Elsewhere]:
    found = Elsewhere(manager)
    yield found
    found.end()


def frame(*message: Any) -> bytes:
    return b"".join(wire.encode(MESSAGE, 0, dumps(message, 5)))


async def no_lines(manager: Manager) -> None:
    """Until no other process is connected, and what they had is given back."""
    async with asyncio.timeout(5):
        while manager._client.server.lines or len(manager._client.broker.connections) > 1:
            await asyncio.sleep(0.001)


# ------------------------------------------------------------------ other ends


async def test_numbers_of_other_classes_are_sent_as_numbers(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """The process of the manager may not know the class, and would trust nobody who sends it."""

    class Place(enum.IntEnum):  # which cannot even be pickled
        LAST = 1

    items = elsewhere.has(manager.list("ab"))
    assert await items[Place.LAST] == "b" and await items[: Place.LAST] == ["a"]
    await items.set(Place.LAST, "c")
    await items.insert(Place.LAST, "d")
    await items.delete(slice(Place.LAST, None, Place.LAST))
    await items.extend("xy")
    assert await items.pop(Place.LAST) == "x"
    await items.delete(Place.LAST)
    assert await items.copy() == ["a"]
    permits, condition = elsewhere.has(manager.Semaphore(0)), elsewhere.has(manager.Condition())
    permits.release(Place.LAST)
    assert await permits.acquire()
    async with condition:
        condition.notify(Place.LAST)
    queue = elsewhere.has(manager.Queue())
    await queue.put("item")
    assert await queue.get_many(Place.LAST) == ["item"]


async def test_a_message_that_was_cut_off_is_none(manager: Manager) -> None:
    """A process that dies in the middle of one has not sent it; what it sent before counts."""
    lock, items = manager.Lock(), manager.Queue()
    for end_of_message in (1, 20, -1):
        end = manager._client.new_end()
        end.sendall(frame(0, 0, 0, HELLO, 0))
        end.sendall(frame(1, 0, lock._number, "acquire", False))
        end.sendall(frame(2, 0, items._number, "put", (b"x" * 50_000, None), 0)[:end_of_message])
        while not await lock.locked():
            await asyncio.sleep(0.001)
        end.close()
        await no_lines(manager)
        with pytest.raises(OwnerDied):
            await lock.acquire()
        async with lock.recover():
            pass
        assert (await items.statistics()).used == 0


async def test_a_death_with_unread_answers_is_heard(manager: Manager) -> None:
    """Also together with a last message, of which libuv tells once and never again."""
    lock, event = manager.Lock(), manager.Event()
    end = manager._client.new_end()
    end.sendall(frame(0, 0, 0, HELLO, 0))
    end.sendall(frame(1, 0, lock._number, "acquire", False))
    while not await lock.locked():
        await asyncio.sleep(0.001)
    end.sendall(frame(0, 0, event._number, "set"))
    end.close()
    await no_lines(manager)
    assert await event.is_set()
    async with lock.recover() as died:
        assert died is not None


async def test_a_manager_that_dies_with_unread_messages_is_heard() -> None:
    """By a task of another process, also together with a last answer."""
    ours, theirs = socket.socketpair()
    client = RemoteClient(ours, b"of no manager here")
    answered = asyncio.create_task(SharedLock(client, 1).acquire())
    waits = asyncio.create_task(SharedLock(client, 2).acquire())
    await asyncio.sleep(0.001)
    theirs.send(b"".join(wire.encode(MESSAGE, 0, dumps((1, None, None), 5))))
    theirs.close()
    async with asyncio.timeout(5):
        assert await answered
        with pytest.raises(ManagerClosed):
            await waits


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n" * 4,
        frame(1, 0, 1, "acquire", False),
        frame(0, 0, 0, HELLO, 0) + frame(1, 0, 99, "acquire"),
        frame(0, 0, 0, HELLO, 0) + frame(0, 0, 1, "__init__"),
        b"".join(wire.encode(MESSAGE, 0, b"no pickle")),
    ],
)
async def test_who_makes_no_sense_is_shown_the_door(
    manager: Manager, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The others do not notice; what it held is given back."""
    lock = manager.Lock()
    with manager._client.new_end() as end:
        end.setblocking(False)
        end.send(said)
        if b"HTTP" in said:
            end.shutdown(socket.SHUT_WR)
        await no_lines(manager)
    assert ("its connection is closed" in caplog.text) != (b"HTTP" in said)
    async with lock:
        pass


async def test_a_connection_that_did_not_arrive_costs_no_other(
    manager: Manager, elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the manager's process has too many open files: who handed it on is served still."""
    lock = elsewhere.has(manager.Lock())
    async with lock:
        ours, theirs = socket.socketpair()
        laden = Laden(b"")
        laden.lease = None
        laden.descriptors = [Descriptor(ours.detach())]
        # Without the descriptor.
        elsewhere.client._sock.send(b"".join(wire.encode(ADOPT, 0, laden, laden=laden)))
        assert await lock.locked()
        theirs.close()
    assert "no more open files" in caplog.text


async def test_a_connection_that_is_not_used_is_nobody(manager: Manager) -> None:
    """As with one that came with an object that the process had already."""
    manager._client.new_end().close()
    await no_lines(manager)


async def test_large_values_travel_whole(manager: Manager, elsewhere: Elsewhere) -> None:
    """Several megabytes, in pieces, both ways, and the loop turns meanwhile."""
    items, large = manager.Queue(1), os.urandom(1 << 22)
    far = elsewhere.has(items)
    for _ in range(2):
        putting = asyncio.create_task(far.put(large))
        assert await items.get() == large
        await putting
        await items.put(large)
        assert await far.get() == large


async def test_a_process_that_does_not_read_holds_nobody_up(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """Its answers wait for it; those of others come."""
    items, lock = manager.list([os.urandom(1 << 20)]), manager.Lock()
    end = manager._client.new_end()
    end.sendall(frame(0, 0, 0, HELLO, 0))
    end.sendall(b"".join(frame(each, 0, items._number, "items") for each in range(1, 9)))
    while not (full := [each for each in manager._client.server.lines if each._out]):
        await asyncio.sleep(0.001)
    (line,) = full
    async with elsewhere.has(lock):
        pass
    data = bytearray()
    end.setblocking(False)
    while len(data) < 8 << 20:
        data += await asyncio.get_running_loop().sock_recv(end, 1 << 20)
    while line._out:
        await asyncio.sleep(0.001)
    end.close()
    while len(manager._client.server.lines) > 1:
        await asyncio.sleep(0.001)


async def test_the_loop_turns_while_others_ask_without_end(manager: Manager) -> None:
    """A thread with a connection of its own asks as fast as it can; a heartbeat goes on."""
    far = Elsewhere(manager)
    table, over = manager.dict(), threading.Event()

    def ask() -> int:
        calls = 0
        theirs = far.has(table).sync
        event = far.has(manager_event)
        while not over.is_set():
            theirs["k"] = calls
            for _ in range(20):
                event.set()
            calls += 1
        return calls

    manager_event = manager.Event()
    asking = asyncio.ensure_future(asyncio.to_thread(ask))
    while not await table.size():
        await asyncio.sleep(0)
    turns = 0
    before = await table["k"]
    while await table["k"] < before + 50:
        await asyncio.sleep(0)
        turns += 1
    over.set()
    assert await asking > 50
    # Some hundred messages are read at once at most: the loop turns many times between them.
    assert turns > 10
    far.end()


async def test_an_answer_that_nobody_waits_for_is_taken_back(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """Of a loop that was closed while its task waited: the lock goes to the next."""
    lock = manager.Lock()
    for shared in (lock, elsewhere.has(lock)):
        await lock.acquire()

        def wait_and_leave(shared: Any = shared) -> None:
            loop = asyncio.new_event_loop()
            task = loop.create_task(shared.acquire())
            loop.run_until_complete(asyncio.sleep(0.001))
            while not waits():
                loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()
            task._log_destroy_pending = False  # type: ignore[attr-defined]

        def waits() -> bool:
            thing: Any = manager._client.broker.thing(lock._number)
            return bool(thing.waiters)

        await asyncio.to_thread(wait_and_leave)
        lock.release()
        async with asyncio.timeout(5), lock:
            pass
        gc.collect()


# ------------------------------------------------------------------ one connection, many users


async def test_a_thread_that_waits_alone_serves_those_who_come(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """Threads and tasks of the same process ask meanwhile, and get their answers and it its own."""
    lock, table, event = manager.Lock(), manager.dict({"k": 1}), manager.Event()
    await lock.acquire()
    far_lock, far_table, far_event = (elsewhere.has(each) for each in (lock, table, event))
    first = asyncio.ensure_future(asyncio.to_thread(far_lock.sync.acquire))
    while not (await lock.statistics()).waiting:
        await asyncio.sleep(0.001)
    waits = [asyncio.ensure_future(asyncio.to_thread(far_event.sync.wait)) for _ in range(2)]
    while (await event.statistics()).waiting < 2:
        await asyncio.sleep(0.001)
    assert await asyncio.to_thread(lambda: far_table.sync["k"]) == 1
    assert await far_table["k"] == 1
    lock.release()
    async with asyncio.timeout(5):
        assert await first
    event.set()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waits) == [True, True]
    assert await asyncio.to_thread(lambda: far_table.sync["k"]) == 1
    far_lock.release()
    async with asyncio.timeout(5), lock:
        pass


async def test_a_thread_whose_time_is_up_or_that_is_interrupted_has_nothing(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """Its place among those who wait is gone, and what was granted goes to others."""
    lock, event = manager.Lock(), manager.Event()
    far = elsewhere.has(lock)
    await lock.acquire()
    for timeout in (0, 0.001):
        assert not await asyncio.to_thread(
            lambda timeout=timeout: far.sync.acquire(timeout=timeout)
        )
    while (await lock.statistics()).waiting:
        await asyncio.sleep(0.001)

    class Interrupted:
        """What the thread polls with, interrupted by the user once."""

        def poll(self, timeout: Any) -> Any:
            elsewhere.client._poller = None
            raise KeyboardInterrupt

    def interrupted() -> bool:
        elsewhere.client._poller = Interrupted()
        try:
            far.sync.acquire()
        except KeyboardInterrupt:
            return True
        return False

    assert await asyncio.to_thread(interrupted)
    lock.release()
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(far.sync.acquire)
    far.release()
    waits = asyncio.ensure_future(asyncio.to_thread(elsewhere.has(event).sync.wait))
    while not (await event.statistics()).waiting:
        await asyncio.sleep(0.001)
    manager._client.server.close()
    async with asyncio.timeout(5):
        with pytest.raises(ManagerClosed):
            await waits


# ------------------------------------------------------------------ deaths


async def test_a_thread_without_any_time_has_what_is_there(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """Also over a socket, and while another thread waits there."""
    lock, never = elsewhere.has(manager.Lock()), manager.Event()
    waits = asyncio.create_task(asyncio.to_thread(elsewhere.has(never).sync.wait))
    while not (await never.statistics()).waiting:
        await asyncio.sleep(0.001)
    for _ in range(2):
        assert await asyncio.to_thread(lock.sync.acquire, timeout=0)
        assert not await asyncio.to_thread(lock.sync.acquire, timeout=0)
        assert (await lock.statistics()).waiting == 0
        lock.release()
        never.set()
        await waits


async def test_who_waits_for_a_condition_is_told_of_a_death_and_has_the_lock(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """A task and a thread, whose notifier died with the lock."""
    condition = manager.Condition()
    told: list[bool] = []

    async def task() -> None:
        async with condition:
            try:
                await condition.wait()
            except OwnerDied:
                told.append(await condition.locked())

    def thread() -> None:
        with condition.sync:
            try:
                condition.sync.wait()
            except OwnerDied:
                told.append(condition.sync.locked())

    waits = [asyncio.create_task(task())]
    while not (await condition.statistics()).waiting:
        await asyncio.sleep(0.001)
    waits.append(asyncio.ensure_future(asyncio.to_thread(thread)))
    while (await condition.statistics()).waiting < 2:
        await asyncio.sleep(0.001)
    await elsewhere.has(condition).acquire()
    elsewhere.end()
    async with asyncio.timeout(5):
        await asyncio.gather(*waits)
    assert told == [True, True]
    async with condition._lock.recover() as died:
        assert died is not None


async def test_cancelled_again_while_it_takes_the_lock_again_it_still_does(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """However often; and it is told once it has the lock, or when there is none any more."""
    condition = manager.Condition()
    far = elsewhere.has(condition)

    async def wait() -> None:
        async with condition:
            await condition.wait()

    waits = asyncio.create_task(wait())
    while not (await condition.statistics()).waiting:
        await asyncio.sleep(0.001)
    await far.acquire()
    for _ in range(3):
        waits.cancel()
        await asyncio.sleep(0.001)
        assert not waits.done()
    far.release()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert not await condition.locked()

    async with open_manager() as other:
        condition = other.Condition()
        waits = asyncio.create_task(wait())
        while not (await condition.statistics()).waiting:
            await asyncio.sleep(0.001)
        second = Elsewhere(other)
        await second.has(condition).acquire()
        waits.cancel()
        await asyncio.sleep(0.001)
    with pytest.raises(asyncio.CancelledError):
        await waits
    second.end()


class Call:
    """Stands for the link of a call in a worker process."""

    cord = None
    label = "work"


async def test_a_call_in_a_worker_is_a_party_of_its_own(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """What it holds at its end is told; what its process holds otherwise stays, as do its items."""
    lock, other, permits = manager.Lock(), manager.Lock(), manager.Semaphore(2)
    items = manager.Queue()
    await items.put(1)
    far = [elsewhere.has(each).sync for each in (lock, permits, items)]

    def call() -> None:
        before = set_link(Call())
        try:
            far[0].acquire()
            far[1].acquire()
            assert far[2].get() == 1
        finally:
            link = set_link(before)
            while at_end:
                at_end.pop()(link)

    await asyncio.to_thread(elsewhere.has(other).sync.acquire)
    await asyncio.to_thread(call)
    with pytest.raises(OwnerDied, match="a call of work in process"):
        await lock.acquire()
    async with asyncio.timeout(5), permits, permits:
        assert await other.locked()
    with pytest.raises(RuntimeError, match="not acquired in this process"):
        await asyncio.to_thread(far[0].release)
    await asyncio.to_thread(far[2].task_done)
    async with asyncio.timeout(5):
        await items.join()
    await asyncio.to_thread(elsewhere.has(other).sync.release)
    async with asyncio.timeout(5), other:
        pass


async def test_a_call_ends_while_other_threads_use_other_things(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """What its process knows of them grows meanwhile."""
    lock, notes = manager.Lock(), elsewhere.client.notes

    class Note:
        def forget(self, party: int) -> None:
            notes[-2] = SimpleNamespace(forget=lambda _: None)  # as another thread may just then

    def call() -> None:
        before = set_link(Call())
        try:
            with elsewhere.has(lock).sync:
                notes[-1] = Note()
        finally:
            link = set_link(before)
            while at_end:
                at_end.pop()(link)

    await asyncio.to_thread(call)
    assert -2 in notes


async def test_a_call_that_ends_after_its_manager_says_nothing() -> None:
    """There is nobody to say it to."""
    async with open_manager() as manager:
        far = Elsewhere(manager)
        lock = far.has(manager.Lock())

        def begin() -> Any:
            before = set_link(Call())
            lock.sync.acquire()
            return set_link(before)

        link = await asyncio.to_thread(begin)
    far.client.look()
    while at_end:
        at_end.pop()(link)
    lock.release()
    far.end()


async def test_a_process_hands_objects_on_over_its_own_connection(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """Who gets them has a connection of its own to the manager."""
    lock = manager.Lock()
    end = elsewhere.client.new_end()
    made = _shared._rebuild(SharedLock, b"a token", lock._number, (), taken(end))
    assert isinstance(made, SharedLock)
    try:
        async with made:
            assert await lock.locked()
        again = _shared._rebuild(SharedLock, b"a token", lock._number, (), taken(None))
        assert again == made and again._client is made._client
    finally:
        del _shared._clients[b"a token"]
        client: Any = made._client
        with client._mutex:
            client._close()


def taken(end: "socket.socket | None") -> Any:
    """Stands for a descriptor that has arrived."""
    return SimpleNamespace(take=None if end is None else end.detach)


async def test_what_was_not_sent_yet_is_sent_at_the_end(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """By a process whose loop ended before the socket took it all."""
    event, lock = manager.Event(), manager.Lock()
    far_event, far_lock = elsewhere.has(event), elsewhere.has(lock)
    await far_lock.acquire()
    while not elsewhere.client._out:
        far_event.set()
    far_lock.release()
    token = b"as if elsewhere"
    _shared._clients[token] = elsewhere.client
    try:
        await asyncio.to_thread(_shared._send_the_rest)
    finally:
        del _shared._clients[token]
    assert not elsewhere.client._out
    elsewhere.client.flush(1)
    async with asyncio.timeout(5), lock:
        pass


async def test_a_thread_waits_until_what_it_said_has_gone_out(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """The manager is slow to listen; nobody else would come to send the rest."""
    event, lock = manager.Event(), manager.Lock()
    far_event, far_lock = elsewhere.has(event), elsewhere.has(lock)

    def talk() -> bool:
        for _ in range(8_000):
            far_event.set()
        return far_lock.sync.acquire()

    talking = asyncio.ensure_future(asyncio.to_thread(talk))
    await asyncio.sleep(0.001)
    time.sleep(0.05)  # the loop is held
    async with asyncio.timeout(10):
        assert await talking
    assert await lock.locked() and await event.is_set()


async def test_a_thread_asks_though_the_socket_is_full(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """A request that is larger than what the socket takes goes out as the manager reads."""
    items = manager.Queue()
    large = b"x" * (1 << 20)
    await asyncio.to_thread(elsewhere.has(items).sync.put, large)
    assert await items.get() == large
    await asyncio.to_thread(lambda: elsewhere.has(items).sync.put(large, timeout=20))
    assert await asyncio.to_thread(elsewhere.has(items).sync.get) == large


async def test_a_call_of_another_kind_is_no_party(manager: Manager) -> None:
    """Such as one in a thread of this process: what it holds, its process holds."""
    client, lock = manager._client, manager.Lock()

    def call() -> None:
        before = set_link(object())
        try:
            lock.sync.acquire()
        finally:
            set_link(before)

    await asyncio.to_thread(call)
    assert not at_end and not client._calls
    client._call_ended(object())
    assert await lock.locked()
    lock.release()


async def test_a_condition_is_waited_for_until_something_is_true(manager: Manager) -> None:
    """It asks again after each notification."""
    condition, found = manager.Condition(), list[int]()

    async def wait() -> list[int]:
        async with condition:
            return await condition.wait_for(lambda: found)

    waits = asyncio.create_task(wait())
    for item in ([], [1]):
        while not (await condition.statistics()).waiting:
            await asyncio.sleep(0.001)
        async with condition:
            found.extend(item)
            condition.notify()
    assert await waits == [1]


async def test_in_a_forked_child_the_copies_are_closed_and_nothing_is_used(
    manager: Manager,
) -> None:
    """What the child does at the fork, done to a manager that is no longer needed."""
    async with open_manager() as other:
        far = Elsewhere(other)
        event = far.has(other.Event())
        await event.is_set()
        (line,) = other._client.server.lines
        loop = asyncio.get_running_loop()
        loop.remove_reader(line._fd)
        line.leave_to_parent()
        line.close()
        assert line._sock.fileno() < 0
        left = Home()
        left.left = True
        other._client._home = left
        with pytest.raises(RuntimeError, match="forked process"):
            other.Event()
        with pytest.raises(RuntimeError, match="forked process"):
            SharedLock(other._client, 1).release()
        other._client.server.lines.clear()
        far.end()


def test_a_connection_of_a_loop_that_was_closed_is_closed() -> None:
    """Nobody would serve it."""
    loop = asyncio.new_event_loop()
    server = Server(Broker(), loop)
    loop.close()
    with pytest.raises(ManagerClosed):
        server.new_end()
    server.broker.close()
    ours, theirs = socket.socketpair()
    server.adopt(ours)
    with theirs:
        assert theirs.recv(1) == b""


async def test_permits_of_a_process_that_ends_are_free(
    manager: Manager, elsewhere: Elsewhere
) -> None:
    """Those that it has, and the one that is on its way to it."""
    permits = manager.Semaphore(2)
    far = elsewhere.has(permits)
    await far.acquire()
    await far.acquire()
    far.release()
    elsewhere.end()
    async with asyncio.timeout(5), permits, permits:
        pass


# ------------------------------------------------------------------ this end


async def test_tasks_of_another_loop_use_the_objects_of_a_manager(manager: Manager) -> None:
    """In a thread of this process, over the manager's loop."""
    lock, items = manager.Lock(), manager.Queue()

    async def main() -> int:
        async with lock:
            await items.put(await lock.locked())
        found: int = await items.get()
        return found

    assert await asyncio.to_thread(asyncio.run, main())


def test_a_manager_whose_loop_was_closed_is_closed() -> None:
    """Whoever still has its objects is told, in this process and in others."""
    loop = asyncio.new_event_loop()
    opened = open_manager()
    manager = loop.run_until_complete(opened.__aenter__())
    lock = manager.Lock()
    loop.run_until_complete(opened.__aexit__(None, None, None))
    loop.close()
    with pytest.raises(ManagerClosed):
        lock.sync.acquire()
    with pytest.raises(ManagerClosed):
        asyncio.run(lock.acquire())
    with pytest.raises(ManagerClosed):
        manager._client.new_end()


async def test_clients_are_forgotten_with_their_manager() -> None:
    """A process that meets managers one after the other keeps no descriptors of them."""
    before = {*_shared._clients}
    async with open_manager() as manager:
        far = Elsewhere(manager)
        token = b"as if elsewhere"
        _shared._clients[token] = far.client
        assert {*_shared._clients} == {*before, manager._client.token, token}
    _shared._forget_closed()
    assert {*_shared._clients} == before
    assert far.client.is_closed and far.client._sock.fileno() < 0
    with pytest.raises(ManagerClosed):
        await SharedLock(far.client, 1).acquire()


def test_the_exit_status_of_a_child_is_seen_and_left_to_its_parent() -> None:
    """Killed or ended; not of what runs, of what was waited for, or of what is no child."""
    assert exitcode_of(None) is None
    assert exitcode_of(1) is None
    for code, expected in (
        ("import os; os._exit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", -9),
    ):
        child = subprocess.Popen([sys.executable, "-S", "-c", code])
        while exitcode_of(child.pid) is None:
            pass
        assert exitcode_of(child.pid) == expected
        assert child.wait() == expected
        assert exitcode_of(child.pid) is None
