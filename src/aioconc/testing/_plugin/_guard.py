"""What happens around the body of a test: leaks are looked for, the schedule holds, hangs end.

The body is wrapped where its runner looks for it, so that the wrapper runs in the test's own task
and, for Hypothesis, around each example.
"""

import asyncio
import functools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from aioconc.errors import DeadlockError, LeakError, LivelockError, StuckError
from aioconc.testing._loop import SimulationLoop
from aioconc.testing._plugin._loops import body_of, is_async
from aioconc.testing._plugin._mark import Wish, refuse, wish_of
from aioconc.testing._plugin._order import TestOrder, order_of

VERDICTS: Final = (DeadlockError, LivelockError, StuckError)

# The order that a test ran in, for its report.
ORDER: Final = pytest.StashKey[TestOrder]()


@contextmanager
def guarded(item: pytest.Item) -> Generator[None]:
    """Run `item` as its mark, or the ini value, asks for."""
    wish = wish_of(item)
    if not is_async(item):
        # A test without a mark is looked at only if it is async.
        if item.get_closest_marker("aioconc") is None or wish.leaks == "off":
            yield
            return
        from aioconc.testing import no_leaks

        with no_leaks():
            yield
        return
    body = body_of(item)
    assert body is not None
    owner, name, function = body
    before = getattr(owner, name)
    guard = _Guard(item, wish, function)
    setattr(owner, name, guard.wrapped())
    try:
        yield
    except VERDICTS as verdict:
        guard.give_up(verdict)
        raise
    finally:
        setattr(owner, name, before)
        guard.end_order()


class _Guard:
    """Around one test, or around each example of one."""

    def __init__(self, item: pytest.Item, wish: Wish, function: Any) -> None:
        self._item = item
        self._wish = wish
        self._function = function
        self._order: TestOrder | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        # Done when the body has ended.
        self._ended: asyncio.Future[None] | None = None
        self._tasks_before: set[asyncio.Task[Any]] = set()
        self._given_up = False

    def wrapped(self) -> Any:
        """The test's function with all that is around it."""

        @functools.wraps(self._function)
        async def body(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # anyio on trio
                loop = None
            if loop is None:
                self._check_loop(None)
                await self._function(*args, **kwargs)
                return
            self._begin(loop)
            try:
                await self._checked(args, kwargs)
            except asyncio.CancelledError:
                if not self._given_up:
                    raise
                # Nobody waits for this test any more, and its task may be that of others too.
                if self._task is not None:
                    self._task.uncancel()
            finally:
                self.end_order()
                if self._ended is not None and not self._ended.done():
                    self._ended.set_result(None)

        return body

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._check_loop(loop)
        self._loop = loop
        self._task = asyncio.current_task()
        self._ended = loop.create_future()
        self._tasks_before = asyncio.all_tasks(loop)
        self._order = order_of(loop)
        if self._order is not None:
            self._item.stash[ORDER] = self._order
            self._order.begin()

    async def _checked(self, args: Any, kwargs: Any) -> None:
        __tracebackhide__ = True
        if self._wish.leaks == "off":
            await self._function(*args, **kwargs)
            return
        from aioconc.testing import no_leaks

        passed = False
        try:
            async with no_leaks():
                await self._function(*args, **kwargs)
                passed = True
        except LeakError as error:
            if self._wish.leaks == "error" or not passed:
                raise
            self._item.warn(pytest.PytestWarning(f"{self._item.nodeid}: {error}"))

    def end_order(self) -> None:
        """From here on, the usual order."""
        if self._order is not None:
            self._order.end()

    def give_up(self, verdict: BaseException) -> None:
        """End a test that would never end, so that its fixtures and others on its loop can go on.

        The loop has stopped in the middle: what the test and its tasks do when they are cancelled
        is done here.
        """
        loop, task, ended = self._loop, self._task, self._ended
        if loop is None or task is None or ended is None or ended.done() or loop.is_running():
            return
        self.end_order()
        if isinstance(loop, SimulationLoop):
            loop.usual_order_from_here()
        self._given_up = True
        tasks = asyncio.all_tasks(loop) - self._tasks_before
        for each in {task, *tasks}:
            each.cancel()
        try:
            loop.run_until_complete(asyncio.gather(ended, *tasks, return_exceptions=True))
        except VERDICTS as again:
            first, _, _ = str(again).partition("\n")
            verdict.add_note(f"and when its tasks were cancelled, they did not end: {first}")

    # -- the loop ---------------------------------------------------------------------------------

    def _check_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        wish = self._wish
        if wish.virtual_time and not isinstance(loop, SimulationLoop):
            kind = "another library's loop" if loop is None else type(loop).__qualname__
            refuse(
                self._item,
                f"the mark asks for virtual time, but the test runs on {kind}. The mark has to be "
                "on the function, its class or its file (not in pytest.param), and neither an "
                "async fixture of a wider scope nor another plugin may have made the loop",
            )
        if wish.schedule is not None and (loop is None or order_of(loop) is None):
            refuse(self._item, f"schedule {wish.schedule} is asked for, but not what runs")
