"""What all shared objects are: a number of a thing, and the way to the broker that keeps it.

It guarantees that an object that is sent to another process is the same one there, over one
connection for each process, however often it is sent.
"""

import atexit
import socket
import threading
from collections.abc import Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

from aioconc._wire._passing import Passed, here, pass_on
from aioconc.channels._manager._client import Client, RemoteClient
from aioconc.channels._moving import close_later
from aioconc.sync._home import refuse
from aioconc.sync._wait_queue import check_blocking

T = TypeVar("T")

# Seconds for which a process that ends tries to say its last words to a manager.
_LAST: Final = 2.0

# Token of a manager -> the client of this process.
_clients: dict[bytes, Client] = {}
_lock = threading.Lock()


class Asked(Generic[T]):
    """What a plain method or property returns that has to ask the broker: await it.

    It has no truth value, so `if lock.locked():` is an error and not always true.
    """

    __slots__ = ("_coro", "_line")

    def __init__(self, coro: Coroutine[Any, Any, T], line: str) -> None:
        self._coro = coro
        self._line = line

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coro.__await__()

    def __bool__(self) -> bool:
        self._coro.close()
        raise TypeError(f"the broker has to be asked: write `await {self._line}`")


class Shared:
    """An object of a manager."""

    __slots__ = ("__weakref__", "_client", "_number")

    # What a program nearly always calls one, for the line to write instead.
    _called = "lock"

    def __init__(self, client: Client, number: int) -> None:
        self._client = client
        # Of the thing that the broker keeps.
        self._number = number

    def _options(self) -> tuple[Any, ...]:
        """What `__init__` wants beside the client and the number."""
        return ()

    def _ready(self) -> Client:
        """The client.

        Raises:
            RuntimeError: this is a forked child.
        """
        client = self._client
        if client._home.left:
            refuse(self)
        return client

    async def _call(self, what: str, *args: Any) -> Any:
        """Ask, for what is not held."""
        _, value = await self._ready().call(self._number, what, *args)
        return value

    def _asked(self, line: str, what: str, *args: Any) -> "Asked[Any]":
        return Asked(self._call(what, *args), f"{self._called}.{line}")

    def _tell(self, what: str, *args: Any) -> None:
        self._ready().tell(self._number, what, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        client = self._ready()
        if not hasattr(socket, "AF_UNIX"):
            raise TypeError(
                f"{type(self).__name__} cannot be sent to another process on this system, which "
                "has no sockets that take descriptors along (AF_UNIX)"
            )
        end = client.new_end()
        if here.leaving is not None:
            passed = pass_on(end.detach(), close=True, owner=self)
        else:
            # To a process that is being started, or nowhere. A copy that is kept here would keep
            # the manager from hearing of the end of that process.
            try:
                passed = pass_on(end.fileno(), owner=self)
            except BaseException:
                end.close()
                raise
            close_later(end)
        return _rebuild, (type(self), client.token, self._number, self._options(), passed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Shared):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[bytes, int]:
        return self._client.token, self._number

    def __repr__(self) -> str:
        state = ", closed" if self._client.is_closed else ""
        return (
            f"<{type(self).__name__} {self._number} of manager {self._client.token.hex()}{state}>"
        )


class SyncShared:
    """The blocking face of one."""

    __slots__ = ("_shared",)

    def __init__(self, shared: Any) -> None:
        self._shared = shared

    def _check(self, name: str, line: str) -> Client:
        """The client, if this thread may block.

        Raises:
            RuntimeError: an event loop runs in this thread, or this is a forked child.
        """
        shared: Shared = self._shared
        check_blocking(f"{type(shared).__name__}.sync.{name}", f"await {shared._called}.{line}")
        return shared._ready()

    def _call(self, what: str, line: str, *args: Any) -> Any:
        """Ask, and wait for as long as it takes."""
        shared: Shared = self._shared
        client = self._check(line.partition("(")[0], line)
        answered = client.block(None, shared._number, what, *args)
        assert answered is not None
        return answered[1]

    def __repr__(self) -> str:
        return f"{self._shared!r}.sync"


def enter(client: Client) -> None:
    """The manager of this client was made in this process."""
    with _lock:
        _clients[client.token] = client


def leave(client: Client) -> None:
    """It has closed."""
    with _lock:
        if _clients.get(client.token) is client:
            del _clients[client.token]


def _rebuild(
    kind: type[Shared], token: bytes, number: int, options: tuple[Any, ...], passed: Passed
) -> Shared:
    """Called where it is unpickled."""
    with _lock:
        client = _clients.get(token)
        if client is None or client._home.left:
            _forget_closed()
            client = _clients[token] = RemoteClient(socket.socket(fileno=passed.take()), token)
    # Else the connection that came with it is not needed, and is closed as nobody takes it.
    return kind(client, number, *options)


def _send_the_rest() -> None:
    """At the end of the process: what was released in a loop, and did not go out yet, counts."""
    for client in (*_clients.values(),):
        if isinstance(client, RemoteClient) and not client._home.left:
            client.flush(_LAST)


atexit.register(_send_the_rest)


def _forget_closed() -> None:
    """With the lock: managers whose end nobody here has seen."""
    for token, client in [*_clients.items()]:
        if isinstance(client, RemoteClient):
            if not client._home.left:
                client.look()
            if client.is_closed or client._home.left:
                del _clients[token]
