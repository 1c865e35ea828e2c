"""Opens a manager: the broker in this loop, and what makes shared objects.

It guarantees that when the block ends no connection is left, and that whoever still waits for
something is told.
"""

import asyncio
import builtins
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, overload

from aioconc._internal._check import check_choice, check_count
from aioconc.channels._manager import _locks, _meeting, _queues, _tables
from aioconc.channels._manager._broker import Broker, Thing
from aioconc.channels._manager._client import OwnClient
from aioconc.channels._manager._server import Server
from aioconc.channels._manager._shared import Shared, enter, leave
from aioconc.channels._manager._shared_condition import SharedCondition
from aioconc.channels._manager._shared_dict import SharedDict
from aioconc.channels._manager._shared_list import SharedList, pack_items
from aioconc.channels._manager._shared_locks import (
    SharedBoundedSemaphore,
    SharedLock,
    SharedRLock,
    SharedSemaphore,
)
from aioconc.channels._manager._shared_meeting import SharedBarrier, SharedEvent
from aioconc.channels._manager._shared_queue import (
    SharedLifoQueue,
    SharedPriorityQueue,
    SharedQueue,
)
from aioconc.channels._manager._values import check_key, packed
from aioconc.sync._home import refuse

K = TypeVar("K")
S = TypeVar("S", bound=Shared)
T = TypeVar("T")
V = TypeVar("V")


def open_manager() -> AbstractAsyncContextManager["Manager"]:
    """A `Manager` for a block, whose objects are shared by the processes that they are sent to.

    Equals `multiprocessing.Manager`, without a process and threads of its own: the broker is part
    of this event loop. Objects are sent as arguments of `offload_cpu` and of every
    `ProcessExecutor`, and to processes that `multiprocessing` starts by spawn or forkserver. A
    process that dies gives back what it held.

    When the block ends, who still waits in any process gets `ManagerClosed`, and so does who comes
    later; `release` does nothing then.

    Cancellation:
        It never waits, neither at the beginning nor at the end.

    Example:
        >>> import asyncio
        >>> from aioconc import offload_cpu
        >>> from aioconc.channels import open_manager
        >>> def work(lock, done):
        ...     with lock.sync:
        ...         done.sync["count"] = done.sync.get("count", 0) + 1
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         lock, done = manager.Lock(), manager.dict()
        ...         await asyncio.gather(*(offload_cpu(work, lock, done) for _ in range(3)))
        ...         return await done.copy()
        >>> asyncio.run(main())
        {'count': 3}
    """
    return _opened()


@asynccontextmanager
async def _opened() -> AsyncIterator["Manager"]:
    broker = Broker()
    server = Server(broker, asyncio.get_running_loop())
    client = OwnClient(broker, server, os.urandom(8))
    enter(client)
    try:
        yield Manager(client)
    finally:
        leave(client)
        broker.close()
        server.close()


class Manager:
    """Makes shared objects; given by `open_manager`. They live until its block ends.

    Any thread of the process may call it. Its methods are named as the classes of
    `aioconc.sync` that they stand for.
    """

    __slots__ = ("_client",)

    def __init__(self, client: OwnClient) -> None:
        self._client = client

    def Lock(self, *, on_owner_death: _locks.OnOwnerDeath = "raise") -> SharedLock:  # noqa: N802
        """A lock.

        Args:
            on_owner_death: what becomes of it if its holder dies. "raise": who wants it gets
                `OwnerDied`, until somebody has recovered it; "release": it is handed on as if it
                had been released, which is right where nothing can be left half changed.

        Raises:
            ValueError: `on_owner_death` is something else.
            ManagerClosed: the manager has closed.
        """
        return self._make(SharedLock, _lock(on_owner_death))

    def RLock(self, *, on_owner_death: _locks.OnOwnerDeath = "raise") -> SharedRLock:  # noqa: N802
        """A lock that its owner may take again; the arguments are those of `Lock`."""
        return self._make(SharedRLock, _lock(on_owner_death))

    def Semaphore(self, value: int = 1) -> SharedSemaphore:  # noqa: N802
        """A number of permits.

        Args:
            value: permits at the start, int >= 0.
        """
        check_count("value", value, least=0)
        return self._make(SharedSemaphore, _locks.SemaphoreThing(value, bounded=False))

    def BoundedSemaphore(self, value: int = 1) -> SharedBoundedSemaphore:  # noqa: N802
        """A number of permits of which none is added.

        Args:
            value: permits, int >= 0.
        """
        check_count("value", value, least=0)
        return self._make(SharedBoundedSemaphore, _locks.SemaphoreThing(value, bounded=True))

    def Event(self) -> SharedEvent:  # noqa: N802
        """A flag."""
        return self._make(SharedEvent, _meeting.EventThing())

    def Condition(self, lock: SharedLock | None = None) -> SharedCondition:  # noqa: N802
        """A lock with a queue of those who wait for something.

        Args:
            lock: a lock of this manager, `Lock` or `RLock`; None: a `Lock` of its own.

        Raises:
            TypeError: `lock` is something else, or of another manager.
        """
        given: Any = lock
        if lock is None:
            lock = self.Lock()
        elif not isinstance(given, SharedLock) or given._client is not self._client:
            raise TypeError(
                f"lock must be a Lock or RLock of the same manager, got {lock!r}; "
                "pass None for a lock of its own"
            )
        thing = self._ready().thing(lock._number)
        assert isinstance(thing, _locks.LockThing)
        return self._make(SharedCondition, _locks.ConditionThing(thing), type(lock), lock._number)

    def Barrier(self, parties: int) -> SharedBarrier:  # noqa: N802
        """A point at which so many wait for one another.

        Args:
            parties: how many, int >= 1.
        """
        check_count("parties", parties)
        return self._make(SharedBarrier, _meeting.BarrierThing(parties), parties)

    def Queue(self, maxsize: int = 0) -> SharedQueue[Any]:  # noqa: N802
        """A queue, first in first out.

        Args:
            maxsize: items that may be in it; <= 0: no bound.
        """
        return self._make(SharedQueue, _queues.QueueThing(maxsize), maxsize)

    def LifoQueue(self, maxsize: int = 0) -> SharedLifoQueue[Any]:  # noqa: N802
        """A queue, last in first out.

        Args:
            maxsize: items that may be in it; <= 0: no bound.
        """
        return self._make(SharedLifoQueue, _queues.LifoThing(maxsize), maxsize)

    def PriorityQueue(self, maxsize: int = 0) -> SharedPriorityQueue[Any]:  # noqa: N802
        """A queue, lowest first.

        Args:
            maxsize: items that may be in it; <= 0: no bound.
        """
        return self._make(SharedPriorityQueue, _queues.PriorityThing(maxsize), maxsize)

    @overload
    def dict(self) -> SharedDict[Any, Any]: ...
    @overload
    def dict(self, items: "Mapping[K, V] | Iterable[tuple[K, V]]") -> SharedDict[K, V]: ...
    def dict(self, items: "Mapping[K, V] | Iterable[tuple[K, V]]" = ()) -> SharedDict[Any, Any]:
        """A dict.

        Args:
            items: what it has at the start.

        Raises:
            TypeError: a key is of another type than a shared dict takes.
            SerializationError: a value cannot be pickled.
        """
        entries = {
            check_key(key): packed(value, "a value of a shared dict")
            for key, value in builtins.dict(items).items()
        }
        return self._make(SharedDict, _tables.DictThing(entries))

    @overload
    def list(self) -> SharedList[Any]: ...
    @overload
    def list(self, items: Iterable[T]) -> SharedList[T]: ...
    def list(self, items: Iterable[Any] = ()) -> SharedList[Any]:
        """A list.

        Args:
            items: what it has at the start.

        Raises:
            SerializationError: an item cannot be pickled.
        """
        return self._make(SharedList, _tables.ListThing(pack_items(items)))

    def _ready(self) -> Broker:
        if self._client._home.left:
            refuse(self)
        return self._client.broker

    def _make(self, kind: Callable[..., S], thing: Thing, *options: Any) -> S:
        return kind(self._client, self._ready().add(thing), *options)

    def __repr__(self) -> str:
        broker = self._client.broker
        if broker.closed:
            return f"<Manager {self._client.token.hex()} closed>"
        others = len(self._client.server.lines)
        return (
            f"<Manager {self._client.token.hex()} {broker.things} objects, "
            f"{others} other process{'' if others == 1 else 'es'}>"
        )


def _lock(on_owner_death: Any) -> _locks.LockThing:
    return _locks.LockThing(check_choice("on_owner_death", on_owner_death, ("raise", "release")))
