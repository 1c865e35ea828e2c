"""Processes that use shared objects and die at a step of their own choice, or when they are killed.

They are forked from a process that has imported all they need, so that hundreds of them cost what
a few cost that are started.
"""

import asyncio
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, Literal

from aioconc.channels import Manager
from aioconc.channels._manager import _shared
from aioconc.channels._manager._remote_client import RemoteClient
from aioconc.errors import ManagerClosed
from aioconc.sync import QueueEmpty, QueueFull

ROOT = Path(__file__).parents[2]

# Before a message is sent, after half of it, after it; after an answer has come, before it is
# acted on.
How = Literal["before", "half", "after", "answered"]


class Nursery:
    """Starts victims."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.system.manager_victims", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )
        self._connection = Connection(ours.detach())

    def start(
        self,
        manager: Manager,
        do: str,
        objects: list[Any],
        *,
        face: Literal["sync", "async"] = "sync",
        dies: tuple[How, int] | None = None,
        seed: int = 0,
    ) -> int:
        """A process that does something with the objects; its pid."""
        made = [(type(each), each._number, each._options()) for each in objects]
        self._connection.send((manager._client.token, do, made, face, dies, seed))
        with manager._client.new_end() as end:
            send_handle(self._connection, end.fileno(), self._process.pid)
        pid: int = self._connection.recv()
        return pid

    def end(self) -> None:
        """End the process that starts them."""
        self._connection.close()
        self._process.wait(20)


@contextmanager
def nursery() -> Iterator[Nursery]:
    """One for a block."""
    found = Nursery()
    try:
        yield found
    finally:
        found.end()


# ------------------------------------------------------------------ what victims do


def lock(lock: Any) -> None:
    """Hold it once."""
    with lock.sync:
        pass


async def lock_async(lock: Any) -> None:
    async with lock:
        pass


def permit(permits: Any) -> None:
    """Hold one."""
    with permits.sync:
        pass


async def permit_async(permits: Any) -> None:
    async with permits:
        pass


def put(items: Any) -> None:
    """Put two items."""
    items.sync.put("a")
    items.sync.put("b")


async def put_async(items: Any) -> None:
    await items.put("a")
    await items.put("b")


def get(items: Any) -> None:
    """Take an item, and say that it is done."""
    items.sync.get()
    items.sync.task_done()


async def get_async(items: Any) -> None:
    await items.get()
    items.task_done()


def notified(condition: Any) -> None:
    """Wait for a notification."""
    with condition.sync:
        condition.sync.wait()


async def notified_async(condition: Any) -> None:
    async with condition:
        await condition.wait()


def anything(lock: Any, permits: Any, items: Any, condition: Any, table: Any) -> None:
    """Whatever comes to mind, without end."""
    while True:
        what = random.randrange(6)
        if what == 0:
            with lock.sync:
                pass
        elif what == 1:
            with permits.sync:
                pass
        elif what == 2:
            try:
                items.sync.put(random.random(), timeout=0.001)
            except QueueFull:
                pass
        elif what == 3:
            try:
                items.sync.get(timeout=0.001)
                items.sync.task_done()
            except QueueEmpty:
                pass
        elif what == 4:
            with condition.sync:
                condition.sync.notify()
                condition.sync.wait(timeout=0.001)
        else:
            table.sync.update_item("n", lambda n: n + 1, default=0)


async def anything_async(lock: Any, permits: Any, items: Any, condition: Any, table: Any) -> None:
    async def one() -> None:
        while True:
            what = random.randrange(5)
            try:
                async with asyncio.timeout(random.choice([0, 0.0005, 0.01])):
                    if what == 0:
                        async with lock:
                            await asyncio.sleep(0)
                    elif what == 1:
                        async with permits:
                            await asyncio.sleep(0)
                    elif what == 2:
                        await items.put(random.random())
                    elif what == 3:
                        await items.get()
                        items.task_done()
                    else:
                        async with condition:
                            condition.notify()
                            await condition.wait()
            except TimeoutError:
                pass

    await asyncio.gather(*(one() for _ in range(4)))


class Doomed(RemoteClient):
    """A client whose process dies at a step."""

    dies: "tuple[How, int] | None" = None

    def _try_to_send(self, frame: bytes) -> int:
        how, step = self.dies or ("before", -1)
        number = next(_sends)
        if number == step and how == "before":
            _die()
        if number == step and how == "half":
            super()._try_to_send(frame[: len(frame) // 2])
            _die()
        sent = super()._try_to_send(frame)
        if number == step and how == "after":
            _die()
        return sent

    def _arrived(self, frames: Any) -> None:
        for _ in frames:
            if self.dies == ("answered", next(_answers)):
                _die()
        super()._arrived(frames)


_sends = itertools.count()
_answers = itertools.count()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _live(fd: int, plan: Any) -> None:
    token, do, made, face, dies, seed = plan
    random.seed(seed)
    Doomed.dies = dies
    client = Doomed(socket.socket(fileno=fd), token)
    _shared.enter(client)
    objects = [kind(client, number, *options) for kind, number, options in made]
    if face == "async":
        asyncio.run(globals()[f"{do}_async"](*objects))
    else:
        globals()[do](*objects)


def main(connection: Connection) -> None:
    """Start victims, until the parent closes its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        try:
            plan = connection.recv()
        except EOFError:
            return
        fd = recv_handle(connection)
        pid = os.fork()
        if pid == 0:
            try:
                connection.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _live(fd, plan)
            except ManagerClosed:
                pass  # the test has ended
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(fd)
        connection.send(pid)


if __name__ == "__main__":
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    main(Connection(descriptor))
