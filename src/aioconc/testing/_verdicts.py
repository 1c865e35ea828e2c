"""The texts of the errors that end a run in which nothing moves any more."""

import asyncio
from collections.abc import Mapping, Sequence

from aioconc.testing._wait_graph import wait_graph


def describe_deadlock(loop: asyncio.AbstractEventLoop) -> str:
    """What `DeadlockError` says: nothing is left to run, and nothing outside will wake a task."""
    return f"deadlock: nothing is left to run\n{wait_graph(loop)}"


def describe_stuck(loop: asyncio.AbstractEventLoop, outside: Sequence[str]) -> str:
    """What `StuckError` says: only something outside the loop might still wake a task."""
    return f"stuck: only {', '.join(outside)} might wake a task\n{wait_graph(loop)}"


def describe_livelock(loop: asyncio.AbstractEventLoop, steps: int, busy: Mapping[str, int]) -> str:
    """What `LivelockError` says: tasks run and run while no time passes."""
    spin = ", ".join(f"{name} ({count} steps)" for name, count in busy.items())
    return f"livelock: {steps} steps without any time passing; busy: {spin}\n{wait_graph(loop)}"
