"""What the tests of worker processes share: waiting for a state, and looking at workers."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from aioconc.executors import ProcessExecutor


async def until(condition: Callable[[], object], timeout: float = 20) -> None:
    """Wait until something has become true."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


def wait_until(condition: Callable[[], object], timeout: float = 20) -> None:
    """The same outside a loop."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it has not come to be"
        time.sleep(0.002)


def pids(pool: ProcessExecutor) -> set[int]:
    """The live workers."""
    workers = [*pool._processes.workers]
    return {each.pid for each in workers if not (each.dead or each.killed)}


def idle(pool: ProcessExecutor) -> int:
    """Workers that wait for calls."""
    return len(pool._processes.idle)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal from outside, as the kernel or an operator would."""
    os.kill(pid, number)


def is_dead(pid: int) -> bool:
    """Whether it has ended; a zombie counts as alive, since somebody must wait for it."""
    return not Path(f"/proc/{pid}").exists()
