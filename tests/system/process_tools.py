"""What the tests of worker processes share: waiting for a state, and looking at workers."""

import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aioconc.executors import ProcessExecutor

# How worker processes may be started.
STARTS = [
    "exec",
    pytest.param(
        "forkserver",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(sys.platform != "linux", reason="templates need Linux"),
        ],
    ),
]


def executor_started_by(start: str) -> Any:
    """`ProcessExecutor`, whose workers are started in this way."""
    return functools.partial(ProcessExecutor, start=start)


def script_started_by(start: str, code: str) -> str:
    """A script, whose workers are started in this way."""
    imported = "from aioconc.executors import ProcessExecutor\n"
    assert imported in code
    return code.replace(
        imported,
        "from functools import partial; import aioconc.executors; "
        f"ProcessExecutor = partial(aioconc.executors.ProcessExecutor, start={start!r})\n",
    )


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
