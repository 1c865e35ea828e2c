"""`no_leaks` reports what was begun and not ended, no more and no less, in any order of both."""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from aioconc.errors import LeakError
from aioconc.testing import no_leaks

pytestmark = pytest.mark.loops("all")

KINDS = ("task", "thread", "socket", "descriptor", "async generator")


async def endless() -> AsyncIterator[int]:
    while True:
        yield 1


async def begin(kind: str) -> contextlib.AsyncExitStack:
    """Begin one thing; closing what is returned ends it."""
    stack = contextlib.AsyncExitStack()
    if kind == "task":
        task = asyncio.create_task(asyncio.sleep(60))
        stack.callback(task.cancel)
    elif kind == "thread":
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        stack.callback(stop.set)
    elif kind == "socket":
        stack.enter_context(socket.socket())
    elif kind == "descriptor":
        stack.enter_context(Path("/proc/version").open())  # noqa: SIM115
    else:
        generator: Any = endless()
        await anext(generator)
        stack.push_async_callback(generator.aclose)
    return stack


PLANS = st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), max_size=8)


@settings(max_examples=25)
@given(plan=PLANS, newest_first=st.booleans())
async def test_what_was_not_ended_is_reported(
    plan: list[tuple[str, bool]], newest_first: bool
) -> None:
    """For each kind as many are reported as were begun and not ended in the block."""
    kept = Counter(kind for kind, ended in plan if not ended)
    async with contextlib.AsyncExitStack() as left:
        try:
            # If none is left, patience may be long, and costs nothing. Else it need not be.
            async with no_leaks(patience=0.02 if kept else 5) as report:
                to_end = []
                for kind, ended in plan:
                    thing = await begin(kind)
                    left.push_async_exit(thing)
                    if ended:
                        to_end.append(thing)
                for thing in reversed(to_end) if newest_first else to_end:
                    await thing.aclose()
        except LeakError as error:
            assert len(error.leaks) == len(report.leaks)
        # A machine that is busy may not have let every thread end that was told to.
        found = Counter(each.kind for each in report.leaks)
        assert found - kept <= Counter({"thread": len(plan)}) if kept else not found
        assert kept <= found
        for leak in report.leaks:
            if leak.kind in {"task", "thread", "socket", "async generator"}:
                assert leak.created is not None and leak.created.place.function == "begin"
