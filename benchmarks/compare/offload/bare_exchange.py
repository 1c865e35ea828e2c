"""The floor under every process pool: pickle, socketpair, unpickle, and back, on the same loop.

Worker processes that each have a socketpair which the loop watches, one call at a time each. Nothing
else: no cancelling, no failures, no frames, no large values.
"""

import asyncio
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pickle import dumps, loads
from typing import Any
from weakref import WeakKeyDictionary

WORKERS = 2

_CODE = """
import _socket, sys
from _pickle import dumps, loads
sock = _socket.socket(fileno=int(sys.argv[1]))
while data := sock.recv(65536):
    fn, args = loads(data)
    sock.sendall(dumps(fn(*args), 5))
"""


class Exchange:
    """The workers of one loop; they end with it, since their sockets do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._idle: list[socket.socket] = []
        self._waiting: deque[tuple[bytes, asyncio.Future[Any]]] = deque()
        self._running: dict[socket.socket, asyncio.Future[Any]] = {}
        for _ in range(WORKERS):
            ours, theirs = socket.socketpair()
            with theirs:
                subprocess.Popen(
                    [sys.executable, "-S", "-c", _CODE, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                )
            ours.setblocking(False)
            loop.add_reader(ours.fileno(), self._read, ours)
            self._idle.append(ours)

    def call(self, fn: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        future = asyncio.get_running_loop().create_future()
        data = dumps((fn, args), 5)
        if self._idle:
            self._send(self._idle.pop(), data, future)
        else:
            self._waiting.append((data, future))
        return future

    def _send(self, sock: socket.socket, data: bytes, future: "asyncio.Future[Any]") -> None:
        self._running[sock] = future
        sock.send(data)

    def _read(self, sock: socket.socket) -> None:
        data = sock.recv(65_536)
        future = self._running.pop(sock)
        if self._waiting:
            self._send(sock, *self._waiting.popleft())
        else:
            self._idle.append(sock)
        future.set_result(loads(data))


_exchanges: "WeakKeyDictionary[asyncio.AbstractEventLoop, Exchange]" = WeakKeyDictionary()


async def call(fn: Callable[[int], int], argument: int) -> int:
    loop = asyncio.get_running_loop()
    exchange = _exchanges.get(loop)
    if exchange is None:
        exchange = _exchanges[loop] = Exchange(loop)
    result: int = await exchange.call(fn, argument)
    return result
