"""One run of a program on a simulated loop of its own, from the first step to the last clean-up."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from aioconc.errors import DeadlockError, LivelockError, StuckError
from aioconc.testing._end_tasks import end_tasks
from aioconc.testing._loop import SimulationLoop
from aioconc.testing._policies import Reorder, policy_of
from aioconc.testing._schedule import Schedule

T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """What came of one run."""

    schedule: Schedule
    error: BaseException | None = None
    # Choice points met, and where the run left the usual order, as `Schedule.picks`.
    points: int = 0
    deviations: tuple[tuple[int, int], ...] = ()


def simulate(
    fn: Callable[[], Coroutine[Any, Any, object]],
    schedule: Schedule,
    *,
    reorder: Reorder,
    max_steps: int | None,
    late: list[tuple[Schedule, dict[str, Any]]],
    watch: Callable[[SimulationLoop], object] | None = None,
) -> Run:
    """Run `fn()` under `schedule`; its failure is in the `Run`, not raised.

    Args:
        fn: makes the program.
        schedule: order of the steps.
        reorder: what it may reorder.
        max_steps: callbacks without progress of time after which it is a livelock.
        late: gets what the loop's exception handler is told after the run, when garbage of it is
            collected.
        watch: gets the loop before anything runs.

    Raises:
        TypeError: `fn()` is no coroutine.
        Exception: whatever calling `fn` raises, before anything runs.
    """
    program = fn()
    if not asyncio.iscoroutine(program):
        raise TypeError(
            f"expected an async function, got {fn!r}, which returned {program!r} and no coroutine"
        )
    run = Run(schedule)
    told: list[dict[str, Any]] = []
    over = False
    loop = SimulationLoop(policy_of(schedule, reorder), reorder=reorder, max_steps=max_steps)
    choices = loop.choices
    assert choices is not None
    try:
        loop.set_exception_handler(
            lambda _, context: late.append((schedule, context)) if over else told.append(context)
        )
        if watch is not None:
            watch(loop)
        try:
            loop.run_until_complete(program)
        except (Exception, asyncio.CancelledError) as error:
            run.error = error
        run.points = choices.points
        run.deviations = tuple(choices.deviations.items())
        try:
            tidy_up(loop)
        except (DeadlockError, LivelockError, StuckError) as error:
            if run.error is None:
                run.error = error
    finally:
        over = True
        loop.close()
    if run.error is None:
        run.error = next(filter(None, map(error_of_report, told)), None)
    return run


def tidy_up(loop: SimulationLoop) -> None:
    """End what a run has left, as `asyncio.run` does after the main coroutine."""
    loop.usual_order_from_here()
    for task in end_tasks(loop):
        if not task.cancelled() and (error := task.exception()) is not None:
            loop.call_exception_handler(
                {"message": "a task failed while it was cancelled", "exception": error}
            )
    if loop._asyncgens:  # asking by its method costs a run
        loop.run_until_complete(loop.shutdown_asyncgens())
    if loop._default_executor is not None:
        loop.run_until_complete(loop.shutdown_default_executor())


def error_of_report(context: dict[str, Any]) -> BaseException | None:
    """The exception in a report of the loop, or one that says what it says; None: no error."""
    error = context.get("exception")
    if isinstance(error, asyncio.CancelledError):
        # A server's handler that is cancelled at the end is reported so by Python 3.11.
        return None
    if not isinstance(error, BaseException):
        return RuntimeError(f"the event loop reported: {context['message']}")
    with contextlib.suppress(Exception):
        error.add_note(f"reported by the event loop: {context['message']}")
    return error


def check_program(call: str, fn: Any) -> None:
    """Refuse what cannot be run many times, and a call from inside a loop."""
    if inspect.iscoroutine(fn):
        name = getattr(fn, "__qualname__", "fn")
        fn.close()
        raise TypeError(
            f"{call} expected an async function, got a coroutine, which runs only once; "
            f"did you mean {call}({name}) without calling it?"
        )
    if not callable(fn):
        raise TypeError(f"{call} expected an async function without arguments, got {fn!r}")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"{call} runs event loops of its own; call it from a plain function, not from a coroutine"
    )
