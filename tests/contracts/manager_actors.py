"""Tasks and threads of other processes, which do what they are told with a shared object.

They are as those of `sync_actors`, so the contracts of locks and queues hold for them unchanged.
The processes are kept for all tests of a module; each test gives them a connection of its own to
its manager.
"""

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any

from aioconc.channels._manager import _shared
from aioconc.channels._manager._open import Manager
from aioconc.channels._manager._remote_client import RemoteClient
from aioconc.channels._manager._shared import Shared
from tests.contracts.sync_actors import (
    Actor,
    Kind,
    TaskActor,
    ThreadActor,
    until,
    waiting,
)

ROOT = Path(__file__).parents[2]


def now(asked: Any) -> Any:
    """What the broker answers, at once: in the loop of the manager it needs no waiting."""
    try:
        asked.__await__().send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


class OnManager:
    """A shared object that looks like the primitive of `aioconc.sync`: it is asked at once.

    For the test itself, which runs in the loop of the manager.
    """

    is_shared = True

    def __init__(self, shared: Any) -> None:
        self.shared = shared

    def __getattr__(self, name: str) -> Any:
        if name in ("n_waiting", "broken"):
            return now(getattr(self.shared, name))
        found = getattr(self.shared, name)
        if name in ("locked", "is_set", "qsize", "empty", "full", "get_nowait", "put_nowait"):
            return lambda *args: now(found(*args))
        return found

    def statistics(self) -> Any:
        """With the names of `aioconc.sync`."""
        counts = now(self.shared.statistics())
        told = {name: getattr(counts, name) for name in counts.__dataclass_fields__}
        per_queue = ("getters_waiting", "putters_waiting", "joiners_waiting")
        told["tasks_waiting"] = told.get("waiting", sum(told.get(name, 0) for name in per_queue))
        told["threads_waiting"] = 0
        return type("Statistics", (), told)

    async def __aenter__(self) -> Any:
        return await self.shared.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self.shared.__aexit__(*error)

    def __aiter__(self) -> Any:
        return self.shared.__aiter__()


class Kit:
    """Makes what a manager makes, under the names of `aioconc.sync`."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager

    def __getattr__(self, name: str) -> Callable[..., OnManager]:
        make = getattr(self.manager, name)

        def made(*args: Any) -> OnManager:
            shared = [each.shared if isinstance(each, OnManager) else each for each in args]
            return OnManager(make(*shared))

        made.__name__ = name
        return made


# ------------------------------------------------------------------ the parent's side


class Child:
    """A process that acts: any number of actors at once."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.contracts.manager_actors", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )
        self.connection = Connection(ours.detach())
        self.actors = 0
        self._outcomes: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)

    def begin(self, kind: Kind, manager: Manager) -> int:
        """A new actor; its number."""
        if not self.actors:
            asyncio.get_running_loop().add_reader(self.connection.fileno(), self._hear)
        self.actors += 1
        number = next(self._numbers)
        self.connection.send(("begin", 0, number, kind, manager._client.token))
        with manager._client.new_end() as end:
            send_handle(self.connection, end.fileno(), self.process.pid)
        return number

    def ask(self, what: str, actor: int, *args: Any) -> "asyncio.Future[Any]":
        """Tell an actor something; what comes of it."""
        number = next(self._numbers)
        outcome = self._outcomes[number] = asyncio.get_running_loop().create_future()
        self.connection.send((what, number, actor, *args))
        return outcome

    async def finish(self, actor: int) -> None:
        """The actor acts no more."""
        await self.ask("end", actor)
        self.actors -= 1
        if not self.actors:
            asyncio.get_running_loop().remove_reader(self.connection.fileno())

    def _hear(self) -> None:
        number, good, value = self.connection.recv()
        outcome = self._outcomes.pop(number)
        if good:
            outcome.set_result(value)
        else:
            outcome.set_exception(value)

    def end(self) -> None:
        """End it."""
        self.connection.close()
        self.process.wait(20)


class Children:
    """The processes of a module's tests."""

    def __init__(self, count: int) -> None:
        self._all = [Child() for _ in range(count)]

    def take(self) -> Child:
        """The one with the fewest actors."""
        return min(self._all, key=lambda child: child.actors)

    def end(self) -> None:
        """End all."""
        for child in self._all:
            child.end()


@contextmanager
def children(count: int) -> Iterator[Children]:
    """So many processes, started together."""
    found = Children(count)
    try:
        yield found
    finally:
        found.end()


class ProcessActor:
    """A task or a thread of another process."""

    def __init__(self, kind: Kind, manager: Manager, processes: Children) -> None:
        self.kind = kind
        self._child = processes.take()
        self._number = self._child.begin(kind, manager)

    def do(self, primitive: Any, name: str, *args: Any, **options: Any) -> "asyncio.Future[Any]":
        """The result of the call, once it is there."""
        return self._ask("do", primitive, name, args, options)

    async def give_up(self, primitive: Any, name: str, *args: Any) -> Any:
        """Begin the call, and give up once it waits."""
        if self.kind == "thread":
            return await self._ask("give up", primitive, name, args, {})
        before = waiting(primitive)
        outcome = self.do(primitive, name, *args)
        await until(lambda: waiting(primitive) > before)
        await self._child.ask("cancel", self._number)
        return await outcome

    def _ask(
        self, what: str, primitive: Any, name: str, args: Any, options: Any
    ) -> "asyncio.Future[Any]":
        shared: Shared = primitive.shared
        made = type(shared), shared._client.token, shared._number, shared._options()
        return self._child.ask(what, self._number, made, name, args, options)

    async def stop(self) -> None:
        """It acts no more; the process may act for another test."""
        await self._child.finish(self._number)


# Who acts, in turn.
SCOPES: dict[str, list[tuple[str, Kind]]] = {
    "task": [("own", "task")],
    "thread": [("own", "thread")],
    "process, async": [("other", "task")],
    "process, sync": [("other", "thread")],
    "mixed": [("own", "task"), ("other", "thread"), ("own", "thread"), ("other", "task")],
}


@asynccontextmanager
async def cast_of(
    scope: str, manager: Manager, processes: Children
) -> AsyncIterator[Callable[[], Any]]:
    """Makes actors of the scope, for objects of the manager."""
    actors: list[Any] = []

    def make() -> Any:
        where, kind = SCOPES[scope][len(actors) % len(SCOPES[scope])]
        actor: Any
        if where == "other":
            actor = ProcessActor(kind, manager, processes)
        else:
            actor = TaskActor() if kind == "task" else ThreadActor()
        actors.append(actor)
        return actor

    try:
        yield make
    finally:
        for actor in actors:
            await actor.stop()


# ------------------------------------------------------------------ the other process


async def act(connection: Connection) -> None:
    """Do what the parent says, until it closes its end."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def hear() -> None:
        try:
            message = connection.recv()
            if message[0] == "begin":
                message = (*message, recv_handle(connection))
        except EOFError:
            loop.remove_reader(connection.fileno())
            message = ("over", 0)
        heard.put_nowait(message)

    def tell(number: int, outcome: "asyncio.Future[Any]") -> None:
        error = outcome.exception()
        connection.send((number, error is None, outcome.result() if error is None else error))

    loop.add_reader(connection.fileno(), hear)
    actors: dict[int, Actor] = {}
    client: RemoteClient | None = None
    while True:
        what, number, *rest = await heard.get()
        if what == "over":
            return
        if what == "begin":
            actor_number, kind, token, fd = rest
            if client is None:
                client = RemoteClient(socket.socket(fileno=fd), token)
                _shared.enter(client)
            else:
                os.close(fd)
            actors[actor_number] = TaskActor() if kind == "task" else ThreadActor()
            continue
        assert client is not None
        actor = actors[rest[0]]
        if what == "cancel":
            assert isinstance(actor, TaskActor)
            actor.task.cancel()
            connection.send((number, True, None))
        elif what == "end":
            await actors.pop(rest[0]).stop()
            if not actors:
                _shared.leave(client)
                with client._mutex:
                    client._close()
                client = None
            connection.send((number, True, None))
        else:
            _, (made, token, thing, options), name, args, keywords = rest
            shared = made(_shared._clients[token], thing, *options)
            if what == "do":
                outcome: asyncio.Future[Any] = actor.do(shared, name, *args, **keywords)
            else:
                outcome = asyncio.ensure_future(actor.give_up(shared, name, *args))
            outcome.add_done_callback(lambda done, number=number: tell(number, done))


if __name__ == "__main__":
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)
    asyncio.run(act(Connection(fd)))
