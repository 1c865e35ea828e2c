"""What all shared objects are: a number of a thing, and the way to the broker that keeps it.

It guarantees that an object that is sent to another process is the same one there, over one
connection for each process, however often it is sent.
"""

import asyncio
import atexit
import socket
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

from aioconc._wire._passing import Passed, here, pass_on
from aioconc.channels._manager._broker import LOOK
from aioconc.channels._manager._client import Ask, Client, Question
from aioconc.channels._manager._remote_client import RemoteClient
from aioconc.channels._moving import close_later
from aioconc.sync._home import refuse
from aioconc.sync._wait_queue import check_blocking, check_wait, running_loop

T = TypeVar("T")

# Seconds for which a process that ends tries to say its last words to a manager.
_LAST: Final = 2.0

# Token of a manager -> the client of this process.
_clients: dict[bytes, Client] = {}
_lock = threading.Lock()


# What is asked of the broker, question after question: each is answered with the request that it
# was, and the value. What a call that waits is for a task and for a thread is one of these.
Steps = Generator[Question, tuple[Ask, Any], T]


class TimeUp(TimeoutError):
    """Raised in steps, and by them: the time of a thread that waited is up."""


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

    def _as(self, line: str) -> str:
        """A line of a program that uses it."""
        return f"{self._called}{line}" if line[0] == "[" else f"{self._called}.{line}"

    def _not_iterable(self, line: str) -> TypeError:
        """The error of `for` and `in`, which cannot wait."""
        return TypeError(
            f"a {type(self).__name__} is not iterable, since the broker has to be asked: write "
            f"`{line}`; threads iterate over `{self._called}.sync`"
        )

    def _ask(self, what: str, *args: Any) -> Steps[Any]:
        """One question; its answer."""
        _, value = yield self._number, what, *args
        return value

    def _look(self, of: Callable[..., T]) -> Steps[T]:
        """Its state."""
        _, state = yield self._number, LOOK
        return of(*state)

    def _asked(self, line: str, steps: Steps[T]) -> Asked[T]:
        """What a plain call returns."""
        return Asked(self._do(steps), self._as(line))

    async def _do(self, steps: Steps[T]) -> T:
        """Ask, and await the answers."""
        client = self._ready()
        turns = False
        try:
            question = next(steps)
            while True:
                try:
                    if turns:
                        await asyncio.sleep(0)
                    answer = await client.call(question)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    question = steps.throw(error)
                else:
                    question = steps.send(answer)
                turns = client.answers_at_once
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

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

    def _check(self, line: str) -> Client:
        """The client, if this thread may block.

        Raises:
            RuntimeError: an event loop runs in this thread, or this is a forked child.
        """
        shared: Shared = self._shared
        if running_loop() is not None:
            check_blocking(
                f"{type(shared).__name__}.sync.{line.partition('(')[0]}",
                f"await {shared._as(line)}",
            )
        return shared._ready()

    def _do(self, line: str, steps: Steps[T], timeout: float | None = None) -> T:
        """Ask, and block until it is answered.

        Raises:
            TimeUp: the time was up, and the steps made nothing else of that.
        """
        client = self._check(line)
        timeout = check_wait(timeout)
        answer: tuple[Ask, Any] | None = None
        try:
            question = next(steps)
            while True:
                answer = None
                try:
                    answer = client.block(timeout, question)
                    if answer is None:
                        raise TimeUp
                except BaseException as error:
                    if answer is not None:  # KeyboardInterrupt
                        client.withdraw(answer[0])
                        answer = None
                    timeout = None
                    question = steps.throw(error)
                else:
                    question = steps.send(answer)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        except KeyboardInterrupt:
            # The steps act on an answer as their last step; what they have told the broker, stays.
            if answer is not None:
                client.withdraw(answer[0])
            raise

    def _in_time(self, line: str, steps: Steps[object], timeout: float | None) -> bool:
        """Ask; whether it was answered in time."""
        try:
            self._do(line, steps, timeout)
        except TimeUp:
            return False
        return True

    def __repr__(self) -> str:
        return f"{self._shared!r}.sync"


def pages(shared: Shared, take: Callable[[list[Any]], object], *what: Any) -> Steps[int]:
    """Ask for something that is answered in pages, which are taken; the version that they are of.

    Those that nobody wants any more are dropped by the broker.
    """
    _, (page, rest, version) = yield shared._number, *what
    try:
        take(page)
        while rest is not None:
            _, (page, rest, _) = yield shared._number, "more", rest
            take(page)
    finally:
        if rest is not None:
            shared._client.tell_anywhere(shared._number, "forget", rest)
    return version  # type: ignore[no-any-return]


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
