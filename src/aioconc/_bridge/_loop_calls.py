"""Calls from a worker thread into a loop: the thread waits for the answer.

Plain functions run in one turn of the loop; what they return is awaited there if it can be. When
the work that asks is no longer wanted, what it started in the loop is cancelled. A loop that is
closed leaves no thread waiting.
"""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from aioconc._bridge._mailbox import Mailbox
from aioconc.errors import TaskCancelled

# Seconds after which a waiting thread looks whether the loop was closed, which wakes nobody.
_LOOK = 0.5


class LoopCalls:
    """What the threads of one piece of work call in one loop."""

    # Rule: `_tasks` changes in the loop only. Who makes the work unwanted does so first and looks
    #       at `_tasks` then; the loop adds a task first and asks `_unwanted` then. So one of them
    #       sees the other, and a task started in that very moment is cancelled too.
    __slots__ = ("_label", "_loop", "_mailbox", "_tasks", "_then", "_told", "_unwanted")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mailbox: Mailbox,
        label: str,
        unwanted: Callable[[], BaseException | None],
    ) -> None:
        self._loop = loop
        self._mailbox = mailbox
        self._label = label
        # Gives the error to raise in the thread once its work is no longer wanted.
        self._unwanted = unwanted
        self._tasks: set[asyncio.Future[Any]] = set()
        # Those that were cancelled: once, so that their clean-up is left alone.
        self._told: set[asyncio.Future[Any]] = set()
        # Called once the last task has ended, if somebody waits for that.
        self._then: Callable[[], object] | None = None

    def call(self, fn: Callable[..., Any], name: str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """In the thread: the result of `fn(*args, **kwargs)`, called in the loop."""
        outcome: Future[Any] = Future()
        context = contextvars.copy_context()

        def answer(error: BaseException | None, value: Any) -> None:
            if error is None:
                outcome.set_result(value)
            else:
                outcome.set_exception(error)

        def start() -> None:
            self.begin(fn, name, args, kwargs, answer)

        if not self._mailbox.post(self._loop, lambda: context.run(start)):
            raise RuntimeError(
                f"the event loop that awaited {self._label} is closed; nothing can be called in it"
            )
        while not self._wait(outcome, _LOOK):
            if self._loop.is_closed():
                raise RuntimeError(
                    f"the event loop that awaited {self._label} was closed before {name} had "
                    "ended in it"
                )
        return outcome.result()

    def _wait(self, outcome: "Future[Any]", seconds: float) -> bool:
        """In the thread: wait for the answer; whether it has come in this time."""
        return bool(wait((outcome,), timeout=seconds).done)

    def begin(
        self,
        fn: Callable[..., Any],
        name: str,
        args: Any,
        kwargs: Mapping[str, Any],
        answer: Callable[[BaseException | None, Any], object],
    ) -> None:
        """In the loop: call `fn`, await what it gives if that can be, and tell `answer`."""

        def finish(task: "asyncio.Future[Any]") -> None:
            self._tasks.discard(task)
            self._told.discard(task)
            self._mailbox.awaited += 1
            if task.cancelled():
                answer(self._unwanted() or TaskCancelled(f"{name} was cancelled in the loop"), None)
            elif (error := task.exception()) is not None:
                answer(error, None)
            else:
                answer(None, task.result())
            if self._then is not None and not self._tasks:
                then, self._then = self._then, None
                then()

        try:
            if (error := self._unwanted()) is not None:
                raise error
            result = fn(*args, **kwargs)
            if not hasattr(result, "__await__"):
                answer(None, result)
                return
            task = asyncio.ensure_future(result, loop=self._loop)
            self._tasks.add(task)
            self._mailbox.awaited -= 1
            task.add_done_callback(finish)
            if self._unwanted() is not None:
                self._cancel_all()
        except (KeyboardInterrupt, SystemExit) as error:
            answer(error, None)
            raise
        except BaseException as error:
            answer(error, None)

    def cancel(self) -> None:
        """Cancel what was started and has not ended; any thread, once the work is unwanted."""
        if self._tasks:
            self._mailbox.post(self._loop, self._cancel_all)

    def close(self, then: Callable[[], object]) -> None:
        """In the loop: the worker is gone. Cancel what was started; `then` once it has ended."""
        if not self._tasks:
            then()
            return
        self._then = then
        self._cancel_all()

    def _cancel_all(self) -> None:
        for task in self._tasks - self._told:
            self._told.add(task)
            task.cancel()
