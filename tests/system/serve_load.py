"""A program that serves, in a process of its own, and clients that ask it and count."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

PRELUDE = """
import os, signal, sys
sys.path.insert(0, {root!r})
from aioconc.servers import serve_prefork
from tests.system import serve_apps as apps
def say(*words):
    print(*words, flush=True)
"""


class Program:
    """A Python program that was started, and the port that it has said."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.port = 0
        self.said: list[str] = []

    def wait_for_port(self) -> None:
        """Read its lines until one is a number."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip().isdecimal():
                self.port = int(line)
                return
            self.said.append(line.strip())
        raise AssertionError(f"no port was said, but {self.said}\n{self.process.communicate()[1]}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def finish(self) -> tuple[int, str]:
        """Wait for its end: exit status, and what it has written as errors."""
        out, err = self.process.communicate(timeout=50)
        self.said += out.split("\n")[:-1]
        return self.process.returncode, err


@contextlib.contextmanager
def program(text: str, *, cwd: Path | None = None, wait: bool = True) -> Iterator[Program]:
    """Start a program; once it has said its port, if `wait`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE.format(root=str(REPOSITORY)) + text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd or REPOSITORY,
    )
    started = Program(process)
    with process:
        try:
            if wait:
                started.wait_for_port()
            yield started
        finally:
            process.kill()


def children(pid: int) -> set[int]:
    """The live children of a process, as the kernel tells."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found.update(int(each) for each in task.read_text().split())
    return {each for each in found if not is_over(each)}


def is_over(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for has ended too."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] in "ZX"


class Closed(ConnectionError):
    """The server has closed the connection before a byte of an answer."""


@dataclass
class Load:
    """Clients that ask without end, and what became of their requests.

    Attributes:
        sent: requests that were sent on an established connection.
        answered: those that got a whole answer.
        failed: what went wrong with the others, with the worker's process id where it is known.
        retried: requests on a connection that had served others, which the server closed before a
            byte of an answer: to be sent again on another one, as HTTP clients do; not in `sent`.
        refused: connections that could not be made.
    """

    port: int
    sent: int = 0
    answered: int = 0
    failed: list[tuple[int | None, str]] = field(default_factory=list)
    retried: int = 0
    refused: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    stopping: bool = False

    @contextlib.asynccontextmanager
    async def running(self, short: int = 6, long: int = 4) -> AsyncIterator["Load"]:
        """So many clients, with a connection for each request and with long ones."""
        tasks = [asyncio.create_task(self._client(keep=n >= short)) for n in range(short + long)]
        try:
            yield self
        finally:
            self.stopping = True
            done, pending = await asyncio.wait(tasks, timeout=30)
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not pending, "a request was never answered and never failed"
            for task in done:
                task.result()

    async def answered_more(self, count: int, timeout: float = 40) -> None:
        """Wait until so many more were answered."""
        goal = self.answered + count
        async with asyncio.timeout(timeout):
            while self.answered < goal:
                await asyncio.sleep(0.01)

    async def _client(self, keep: bool) -> None:
        while not self.stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.refused += 1
                await asyncio.sleep(0.02)
                continue
            try:
                await self._ask(reader, writer, keep)
            finally:
                writer.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: bool
    ) -> None:
        pid = None
        served = 0
        self.sent += 1
        try:
            writer.write(b"request 0\n")
            greeting = await reader.readline()
            if not greeting.endswith(b"\n"):
                raise ConnectionError("closed before the greeting")
            pid = int(greeting)
            while True:
                line = await reader.readline()
                if not line:
                    raise Closed("closed before an answer")
                if line not in (b"request %d more\n" % served, b"request %d bye\n" % served):
                    raise ConnectionError(f"closed: {line!r}")
                self.answered += 1
                self.answers[pid] += 1
                served += 1
                if not keep or line.endswith(b"bye\n") or self.stopping:
                    return
                self.sent += 1
                writer.write(b"request %d\n" % served)
        except OSError as error:
            if served and isinstance(error, (Closed, ConnectionResetError)):
                self.sent -= 1
                self.retried += 1
            else:
                self.failed.append((pid, repr(error)))

    def __str__(self) -> str:
        return (
            f"{self.sent} sent, {len(self.failed)} failed, {self.retried} retried, "
            f"{self.refused} refused, by {len(self.answers)} workers"
        )


def kill_one(pids: set[int], at: int) -> int:
    """Kill one of the workers; which one."""
    pid = sorted(pids)[at % len(pids)]
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_until_over(pids: set[int], timeout: float) -> set[int]:
    """Those that are still there after so many seconds, at most."""
    deadline = time.monotonic() + timeout
    left = set(pids)
    while left and time.monotonic() < deadline:
        left = {each for each in left if not is_over(each)}
        time.sleep(0.01)
    return left
