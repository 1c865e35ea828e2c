"""Small tools for one simulated run: start it, wait until it settles, hold its clock."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aioconc.errors import DeadlockError
from aioconc.testing._end_tasks import end_tasks
from aioconc.testing._loop import ScheduledLoop, SimulationLoop, check_schedules_work, loop_factory
from aioconc.testing._policies import policy_of
from aioconc.testing._schedule import Schedule, check_schedule
from aioconc.testing._simulate import check_program

T = TypeVar("T")


def run(
    fn: Callable[[], Coroutine[Any, Any, T]],
    *,
    schedule: Schedule | None = None,
    virtual_time: bool = True,
) -> T:
    """The result of `fn()`, in virtual time and under a chosen schedule.

    Equals `asyncio.run(fn())`.

    Args:
        fn: async function without arguments.
        schedule: the order of task steps; None: asyncio's own.
        virtual_time: whether sleeping takes no time; False: only the schedule is chosen.

    Raises:
        DeadlockError: nothing can go on any more (only in virtual time).
        LivelockError: a million callbacks ran and no time passed (only in virtual time).
        StuckError: nothing went on for ten real seconds, and something outside could still wake it.
        Exception: whatever `fn` raises.

    Example:
        >>> async def main():
        ...     await asyncio.sleep(86_400)
        ...     return asyncio.get_running_loop().time()
        >>> run(main)
        86400.0
    """
    check_program("run", fn)
    check_schedule(schedule)
    factory: Callable[[], asyncio.AbstractEventLoop]
    if virtual_time:
        factory = loop_factory(schedule)
    elif schedule is None:
        factory = asyncio.new_event_loop
    else:
        check_schedules_work()
        policy = policy_of(schedule)

        def factory() -> asyncio.AbstractEventLoop:
            return ScheduledLoop(policy)

    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            return runner.run(fn())
        except DeadlockError:
            end_tasks(runner.get_loop())  # the runner could not end tasks that await each other
            raise


async def settle() -> None:
    """Return when everything that can run has run: all other tasks wait, and nothing is ready.

    Takes the place of `await asyncio.sleep(0)` repeated until a test passes. In virtual time it
    waits for real work under way (threads, subprocesses, `external`), and no time passes. On
    asyncio's own loops it returns when nothing is ready; timers and real work are not waited for.

    Raises:
        RuntimeError: on a loop that does not show what is ready, such as uvloop's.

    Cancellation:
        May be cancelled while waiting; nothing is lost.

    Example:
        >>> async def main():
        ...     task = asyncio.create_task(asyncio.sleep(0, "ready"))
        ...     await settle()
        ...     return task.done()
        >>> run(main)
        True
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, SimulationLoop):
        await loop.settled()
        return
    ready = getattr(loop, "_ready", None)
    if ready is None:
        raise RuntimeError(
            f"settle() needs a loop that shows what is ready, got {type(loop).__qualname__}; "
            "use a simulation loop (run, loop_factory) or asyncio's own"
        )
    quiet = 0
    # Twice: what sockets have for the loop comes in between two passes.
    while quiet < 2:
        await asyncio.sleep(0)
        quiet = 0 if ready else quiet + 1


def external(label: str = "external()") -> contextlib.AbstractContextManager[None]:
    """Hold the virtual clock while something real is under way that the loop cannot see.

    Such as an answer from a server in another process, or a thread of another library. On a loop
    in real time it does nothing.

    Args:
        label: named when the loop is stuck meanwhile.

    Raises:
        RuntimeError: no event loop is running.

    Example:
        >>> import concurrent.futures, time
        >>> async def main():
        ...     async with asyncio.timeout(0.01):  # virtual: holds while real work is under way
        ...         with external("a slow peer"):
        ...             await asyncio.wrap_future(pool.submit(time.sleep, 0.05))
        >>> with concurrent.futures.ThreadPoolExecutor() as pool:
        ...     run(main)
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, SimulationLoop):
        return loop.external(label)
    return contextlib.nullcontext()
