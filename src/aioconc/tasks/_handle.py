"""What a task group gives for a child: a view of it that is safe to wait for.

Awaiting a handle never cancels the child, and a child that was cancelled shows as
`TaskCancelled`, so that the waiting task is not mistaken for a cancelled one. A handle may stand
for a child that has not started yet, because its group is full.
"""

import asyncio
from collections.abc import Generator
from typing import Any, Generic, Literal, TypeVar

from aioconc.errors import TaskCancelled
from aioconc.tasks._join import wait_done
from aioconc.tasks._scope import raise_if_cancelled

T = TypeVar("T")


# Handle life:   queued -> running -> done
#                   \------> dropped          (cancelled before it started)
class TaskHandle(Generic[T]):
    """A child of a `TaskGroup`: await it for its result, or cancel it alone.

    Equals an `asyncio.Task`, but awaiting it leaves the child alone when the waiter is cancelled,
    and it may still be queued. A child's failure reaches the group whether or not anybody awaits
    its handle.

    Raises:
        TaskCancelled: awaited, and the child was cancelled or never started.
        Exception: awaited, whatever the child raised.

    Cancellation:
        Cancelling the waiter ends the wait only; the child runs on and keeps its result.

    Example:
        >>> from aioconc import TaskGroup
        >>> async def main():
        ...     async with TaskGroup() as group:
        ...         answer = group.start_soon(asyncio.sleep, 0, 42)
        ...         return await answer
        >>> asyncio.run(main())
        42
    """

    __slots__ = ("__weakref__", "_dropped", "_name", "_started", "_task")

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[T] | None = None
        self._dropped = False
        # Exists iff somebody waits for a queued child; done when it starts or is dropped.
        self._started: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """The child's name: given, or that of its function."""
        return self._name

    @property
    def state(self) -> Literal["queued", "running", "done", "dropped"]:
        """Where the child is in its life; "dropped" means cancelled before it started."""
        if self._task is not None:
            return "done" if self._task.done() else "running"
        return "dropped" if self._dropped else "queued"

    def done(self) -> bool:
        """Whether the child has ended, in whatever way, or will never start."""
        return self._dropped or (self._task is not None and self._task.done())

    def cancelled(self) -> bool:
        """Whether the child ended by cancellation, or was dropped before it started."""
        return self._dropped or (self._task is not None and self._task.cancelled())

    def cancel(self, reason: object = None) -> bool:
        """Cancel this child alone; its group and siblings go on.

        Args:
            reason: becomes the message of the child's `CancelledError`.

        Returns:
            False if the child had already ended.
        """
        if self._task is not None:
            return self._task.cancel(reason)
        if self._dropped:
            return False
        self._drop()
        return True

    def result(self) -> T:
        """The child's result, as `await` would give it.

        Raises:
            asyncio.InvalidStateError: the child has not ended yet.
            TaskCancelled: it was cancelled or dropped.
        """
        if self._dropped:
            raise TaskCancelled(f"{self._name} was cancelled before it started")
        if self._task is None:
            raise asyncio.InvalidStateError(f"{self._name} has not started yet")
        try:
            return self._task.result()
        except asyncio.CancelledError as error:
            raise TaskCancelled(f"{self._name} was cancelled") from error

    def exception(self) -> BaseException | None:
        """The child's exception, or None if it succeeded.

        Raises:
            asyncio.InvalidStateError: the child has not ended yet.
            TaskCancelled: it was cancelled or dropped.
        """
        if self._task is None or self._task.cancelled():
            self.result()
        assert self._task is not None
        return self._task.exception()

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        raise_if_cancelled()
        if self._task is None and not self._dropped:
            if self._started is None:
                self._started = asyncio.get_running_loop().create_future()
            await wait_done(self._started)
        if self._task is not None:
            await wait_done(self._task)
        return self.result()

    def _run_as(self, task: "asyncio.Task[T]") -> None:
        self._task = task
        self._wake()

    def _drop(self) -> None:
        self._dropped = True
        self._wake()

    def _wake(self) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_result(None)

    def __repr__(self) -> str:
        return f"<TaskHandle {self._name!r} {self.state}>"
