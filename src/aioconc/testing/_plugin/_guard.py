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
from aioconc.testing._end_tasks import cancel
from aioconc.testing._loop import SimulationLoop
from aioconc.testing._plugin._loops import body_of, is_async, is_test_case
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
    if is_test_case(item):  # runs the method of its instance
        owner, name = item.instance, item.name  # type: ignore[attr-defined]
    guard = _Guard(item, wish, function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, guard.wrapped())
        try:
            yield
        except VERDICTS as verdict:
            guard.give_up(verdict)
            raise
        finally:
            guard.end_order()


class _Run:
    """One run of a body: the test, or one example of it. Made by its own task."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: Final = loop
        self.given_up = False
        self.ended: Final[asyncio.Future[None]] = loop.create_future()
        self.order: Final = order_of(loop)
        self._task: Final = asyncio.current_task(loop)
        self._tasks_before: Final = asyncio.all_tasks(loop)

    @property
    def hangs(self) -> bool:
        """Whether the body has not ended."""
        return not self.ended.done() and not self.loop.is_closed()

    def cancel(self) -> "set[asyncio.Future[Any]]":
        """Cancel the body and what it has started; gives what ends then, if it ends."""
        assert self._task is not None
        self.given_up = True
        # The current one is the next example.
        spared = {self._task, asyncio.current_task(self.loop)}
        started = asyncio.all_tasks(self.loop) - self._tasks_before - spared
        ends: set[asyncio.Future[Any]] = {each for each in started if cancel(each)}
        if cancel(self._task):
            ends.add(self.ended)
        return ends

    def swallow_cancel(self) -> None:
        """The body was cancelled and given up: nobody waits for it, and its task goes on."""
        assert self._task is not None
        self._task.uncancel()

    def end_order(self) -> None:
        """From here on, the usual order."""
        if self.order is not None:
            self.order.end()


class _Guard:
    """Around one test."""

    def __init__(self, item: pytest.Item, wish: Wish, function: Any) -> None:
        self._item = item
        self._wish = wish
        self._function = function
        self._run: _Run | None = None

    def wrapped(self) -> Any:
        """The test's function with all that is around it."""

        @functools.wraps(self._function)
        async def body(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            loop = _running_loop()
            self._check_loop(loop)
            if loop is None:
                await self._function(*args, **kwargs)
                return
            await self._end_last_example()
            run = self._run = _Run(loop)
            if run.order is not None:
                self._item.stash[ORDER] = run.order
                run.order.begin()
            try:
                await self._checked(args, kwargs)
            except asyncio.CancelledError:
                if not run.given_up:
                    raise
                run.swallow_cancel()
            finally:
                run.end_order()
                run.ended.set_result(None)

        return body

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

    async def _end_last_example(self) -> None:
        """Hypothesis takes a verdict for a failure like any other, and tries the next example."""
        if self._run is not None and self._run.hangs and (ends := self._run.cancel()):
            await asyncio.wait(ends)

    def end_order(self) -> None:
        """From here on, the usual order, also if the body never ends."""
        if self._run is not None:
            self._run.end_order()

    def give_up(self, verdict: BaseException) -> None:
        """End a test that would never end, so that its fixtures and others on its loop can go on.

        The loop has stopped in the middle: what the test and its tasks do when they are cancelled
        is done here.
        """
        run = self._run
        if run is None or not run.hangs:
            return
        run.end_order()
        assert isinstance(run.loop, SimulationLoop), "no other loop gives verdicts"
        run.loop.usual_order_from_here()
        if not (ends := run.cancel()):
            return
        try:
            run.loop.run_until_complete(asyncio.gather(*ends, return_exceptions=True))
        except VERDICTS as again:
            first, _, _ = str(again).partition("\n")
            verdict.add_note(f"and when its tasks were cancelled, they did not end: {first}")

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
            refuse(
                self._item,
                f"the mark asks for schedule {wish.schedule}, but the test runs on a loop without "
                "one. The mark has to be on the function, its class or its file (not in "
                "pytest.param)",
            )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # anyio on trio, and others
        return None
