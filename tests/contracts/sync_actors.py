"""Tasks and threads that do what they are told with a primitive, one call after the other.

A test tells actors without asking which kind they are: a task awaits the method, a thread calls
the one of the same name under `sync`.
"""

import asyncio
import inspect
import queue
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

Kind = Literal["task", "thread"]
GAVE_UP = "gave up"

# Seconds after which a thread gives up that is to: long enough to be seen waiting.
SHORT = 0.02

# What the two faces answer a thread whose time was up, or a task that was cancelled.
_TIME_IS_UP = (queue.Empty, queue.Full, TimeoutError)


class TaskActor:
    """A task."""

    kind: Kind = "task"

    def __init__(self) -> None:
        self._calls: asyncio.Queue[Any] = asyncio.Queue()
        self._stops = False
        self.task = asyncio.create_task(self._run())

    def do(self, primitive: Any, name: str, *args: Any) -> "asyncio.Future[Any]":
        """The result of the call, once it is there."""
        outcome = asyncio.get_running_loop().create_future()
        self._calls.put_nowait((getattr(primitive, name), args, outcome))
        return outcome

    async def give_up(self, primitive: Any, name: str, *args: Any) -> Any:
        """Begin the call, and give up once it waits."""
        before = waiting(primitive)
        outcome = self.do(primitive, name, *args)
        await until(lambda: waiting(primitive) > before)
        self.task.cancel()
        return await outcome

    async def _run(self) -> None:
        while True:
            method, args, outcome = await self._calls.get()
            if method is None:
                return
            try:
                result = method(*args)
                if inspect.isawaitable(result):
                    result = await result
                outcome.set_result(result)
            except asyncio.CancelledError:
                outcome.set_result(GAVE_UP)
            except Exception as error:
                outcome.set_exception(error)

    async def stop(self) -> None:
        self._calls.put_nowait((None, (), None))
        await self.task


class ThreadActor:
    """A thread."""

    kind: Kind = "thread"

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def do(self, primitive: Any, name: str, *args: Any, **options: Any) -> "asyncio.Future[Any]":
        """The result of the call, once it is there."""
        outcome = self._loop.create_future()
        self._calls.put((getattr(primitive.sync, name), args, options, outcome))
        return outcome

    async def give_up(self, primitive: Any, name: str, *args: Any) -> Any:
        """Make the call with a short time limit."""
        try:
            result = await self.do(primitive, name, *args, timeout=SHORT)
        except _TIME_IS_UP:
            return GAVE_UP
        return GAVE_UP if result is False else result

    def _run(self) -> None:
        while True:
            method, args, options, outcome = self._calls.get()
            if method is None:
                return
            try:
                result = method(*args, **options)
            except Exception as error:
                self._loop.call_soon_threadsafe(outcome.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(outcome.set_result, result)

    async def stop(self) -> None:
        self._calls.put((None, (), {}, None))
        await asyncio.to_thread(self._thread.join)


Actor = TaskActor | ThreadActor
Cast = Callable[[], Actor]


@asynccontextmanager
async def cast(scope: str) -> AsyncIterator[Cast]:
    """Makes actors of the scope: "task", "thread", or "mixed", where they take turns."""
    actors: list[Actor] = []

    def make() -> Actor:
        is_task = scope == "task" or (scope == "mixed" and len(actors) % 2 == 0)
        actor: Actor = TaskActor() if is_task else ThreadActor()
        actors.append(actor)
        return actor

    try:
        yield make
    finally:
        for actor in actors:
            await actor.stop()


def check_repr(primitive: Any, text: str) -> None:
    """What a primitive shows; one that is shared by processes cannot know it at once."""
    assert repr(primitive) == text or hasattr(primitive, "is_shared")


def waiting(primitive: Any) -> int:
    """How many wait."""
    counts = primitive.statistics()
    return int(counts.tasks_waiting + counts.threads_waiting)


async def until(condition: Callable[[], object]) -> None:
    """Let everybody run until it is true; the test's time limit bounds it."""
    while not condition():
        await asyncio.sleep(0 if threading.active_count() == 1 else 0.0005)


async def wait_for_waiters(primitive: Any, count: int) -> None:
    """Until so many wait."""
    await until(lambda: waiting(primitive) == count)
