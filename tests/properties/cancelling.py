"""Programs that are cancelled at each of their awaits, and the books that they keep.

A program says what it uses; around it, it is checked that nothing of it runs any more at the very
moment at which it ends, however it ends.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from aioconc.testing import CancelReport, cancel_everywhere, loop_factory, run
from tests.conftest import LoopFactory, loop_variants

Body = Callable[["Books"], Coroutine[Any, Any, object]]

# Long enough to be a timer's business, short enough for loops in real time.
TICK = 0.001

# What nobody waits for to the end, unless who was to end it has been cancelled.
FOREVER = 200 * TICK


def eager(new_loop: LoopFactory) -> LoopFactory:
    """Loops whose tasks take their first step when they are created."""

    def factory() -> asyncio.AbstractEventLoop:
        loop = new_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        return loop

    return factory


def loops() -> dict[str, LoopFactory]:
    """Virtual time, lazy and eager, and the loops of uvloop in real time."""
    found: dict[str, LoopFactory] = {"virtual": loop_factory(max_steps=100_000)}
    if sys.version_info >= (3, 12):
        found["virtual-eager"] = eager(found["virtual"])
    return found | {name: each for name, each in loop_variants().items() if "uvloop" in name}


# In real time most of a sweep is sleep.
on_every_loop = pytest.mark.parametrize(
    "new_loop",
    [
        pytest.param(each, id=name, marks=[pytest.mark.slow] if "uvloop" in name else [])
        for name, each in loops().items()
    ],
)


class Books:
    """What a run has under way."""

    def __init__(self) -> None:
        self.open = 0

    @contextlib.contextmanager
    def entry(self) -> Any:
        """One more is under way in the block."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def work(self, ticks: int = 1) -> int:
        """Take some time, and await something in the clean-up too."""
        with self.entry():
            try:
                await asyncio.sleep(ticks * TICK)
            finally:
                await asyncio.sleep(0)
        return ticks

    async def fail(self, ticks: int = 1) -> int:
        """Take some time, and fail."""
        await self.work(ticks)
        raise OSError("as planned")

    async def forever(self) -> None:
        """Take more time than anybody waits for."""
        with self.entry():
            await asyncio.sleep(FOREVER)

    async def source(self, count: int) -> AsyncIterator[int]:
        """Numbers from 1, as they come; closed late."""
        with self.entry():
            try:
                for number in range(1, count + 1):
                    await asyncio.sleep(0)
                    yield number
            finally:
                await asyncio.sleep(0)


def sweep(body: Body, new_loop: LoopFactory, target: Any = "root") -> CancelReport:
    """Cancel the body everywhere; at its end nothing of it may be under way."""

    async def program() -> None:
        books = Books()
        try:
            await body(books)
        finally:
            if books.open:
                raise AssertionError(f"{books.open} outlive the block")

    program.__qualname__ = body.__qualname__
    # An exception that a program also raises undisturbed is no finding, so it has to be meant.
    with contextlib.suppress(OSError, TimeoutError, ExceptionGroup):
        run(program)
    report = cancel_everywhere(program, target=target, loop_factory=new_loop)
    if target == "root":
        # Only the errors of a group go before a cancel from outside: it then strikes again later.
        assert not report.swallowed or "raised" in report.undisturbed, report
    return report
