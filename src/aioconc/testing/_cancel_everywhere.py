"""`cancel_everywhere`: run a program once for each place at which it can be cancelled.

A run without a cancel counts the suspensions of the target; then one run each for every
suspension and phase, so the sweep is complete for the order of steps that it runs in. One run and
its judgement are in `_cancel_trial`.
"""

import asyncio
import gc
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final, Literal, NoReturn

from aioconc.errors import CancelFailure
from aioconc.testing._cancel_report import CancelPoint, CancelReport, failure_text
from aioconc.testing._cancel_rules import Usual
from aioconc.testing._cancel_trial import Program, Trial
from aioconc.testing._loop import check_schedules_work, loop_factory as simulation
from aioconc.testing._owners import record_owners
from aioconc.testing._probe import Injection, Suspension, Where
from aioconc.testing._process_state import ProcessState
from aioconc.testing._schedule import Schedule
from aioconc.testing._simulate import check_program
from aioconc.testing._standing import prepare_uvloop

_PHASES: Final = ("suspended", "ready")

# Callbacks without any progress of time after which a run is a livelock.
_MAX_STEPS: Final = 100_000


def cancel_everywhere(
    fn: Callable[[], Coroutine[Any, Any, object]],
    *,
    target: Literal["root", "children"] | Callable[["asyncio.Task[Any]"], bool] = "root",
    phases: Collection[Literal["suspended", "ready"]] = ("suspended", "ready"),
    check: Callable[[], object] | None = None,
    schedule: Schedule | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> CancelReport:
    """Cancel `fn()` at each of its awaits in turn; raise if it breaks at any.

    Equals `asyncio.run(fn())`, run again and again in virtual time, with the target cancelled
    before its first step, then at its first suspension, at its second, and so on: while what it
    awaits is pending ("suspended"), and when that is done and the task has not gone on yet
    ("ready": the moment in which a permit, a lock or an item is lost). After each cancel:

    - the run ends: no deadlock, no livelock;
    - no task, thread, child process, descriptor or async generator is left, and the loop's
      exception handler was told of nothing;
    - the root, if it was the one cancelled, ends cancelled, or as it does undisturbed;
    - if another task was cancelled, neither that one nor the root raises what tells of a slip:
      exactly `RuntimeError`, `asyncio.InvalidStateError`, `ValueError`, `TypeError`,
      `AssertionError`, `AttributeError`, `NameError`, `KeyError`, `IndexError`. Everything else is
      the program's answer;
    - `check()` does not raise;
    - a second `fn()`, undisturbed and in the same loop, ends as it always does.

    Args:
        fn: async function without arguments. What is to survive a cancel, such as a pool, it finds
            outside of itself; all that belongs to a loop must be made anew for each.
        target: which tasks are cancelled. "root": the one that runs `fn`. "children": all others
            that the loop's `create_task` makes, but for asyncio's inner ones; one in each run. A function of a task: those for
            which it is true, when they begin.
        phases: "suspended", "ready", or both.
        check: sync or async function without arguments; called after each run in the same loop. It
            raises if something is wrong that only the program can know.
        schedule: the order of task steps; None: asyncio's own.
        loop_factory: makes the loops, such as `uvloop.new_event_loop`; they run in real time, and
            a run that takes five seconds more than it should counts as hung. None: virtual time,
            in which 100,000 callbacks without any progress of time are a livelock;
            `aioconc.testing.loop_factory(max_steps=...)` makes such loops with another limit.

    Returns:
        The points, with those at which the cancel was swallowed, or at which the task awaited more
        before it ended. `print` shows them as a table.

    Raises:
        CancelFailure: something broke. Its text has each point: where, in which phase, and what
            was wrong; its `report` is the `CancelReport`.
        RuntimeError: called inside a running loop, or schedules do not work on this interpreter.
        TypeError, ValueError: an argument is out of range, or both `schedule` and `loop_factory`
            are given.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with asyncio.timeout(5):
        ...         await asyncio.sleep(1)
        >>> print(cancel_everywhere(main).summary)
        main: 1 suspensions, 3 points, 0 failed, 0 swallowed, 0 delayed, 0 not reached
    """
    check_program("cancel_everywhere", fn)
    program = Program(
        fn,
        getattr(fn, "__qualname__", repr(fn)),
        _check_check(check),
        _check_factory(schedule, loop_factory),
        *_check_target(target),
    )
    sweep = _Sweep(program, _check_phases(phases))
    with record_owners():
        return sweep.run()


class _Sweep:
    """All runs of one program."""

    def __init__(self, program: Program, phases: tuple[Any, ...]) -> None:
        self._program = program
        self._phases = phases
        self._cause: BaseException | None = None

    def run(self) -> CancelReport:
        prepare_uvloop()
        undisturbed = Trial(self._program, None, None)
        state = undisturbed.run(ProcessState.now())
        if undisturbed.problems:
            self._fail_undisturbed(undisturbed)
        assert undisturbed.first is not None
        assert undisturbed.second is not None
        usual = Usual(undisturbed.first, undisturbed.second, undisturbed.kinds, undisturbed.seconds)
        probe = undisturbed.probe
        trials: list[tuple[Trial, Where]] = []
        cut = ""
        for injection, where in self._injections(probe.starts, probe.suspensions):
            trial = Trial(self._program, injection, usual)
            state = trial.run(state)
            trials.append((trial, where))
            self._cause = self._cause or trial.cause
            trial.cause = None
            if trial.was_slow:
                cut = "\nnot all points were tried, since each such run takes seconds"
                break
        # Exceptions that nobody retrieved are reported when their tasks are thrown away.
        gc.collect()
        report = CancelReport(
            self._program.name,
            tuple(_point(trial, where) for trial, where in trials),
            probe.count,
            usual.first.text,
        )
        if report.failures:
            self._fail(failure_text(report) + cut, report)
        return report

    def _injections(
        self, starts: list[Where], suspensions: list[Suspension]
    ) -> "list[tuple[Injection, Where]]":
        found = [(Injection("start", k), where) for k, where in enumerate(starts)]
        for k, suspension in enumerate(suspensions, 1):
            # What only asks to be called again is never pending.
            phases = [
                each for each in self._phases if not (suspension.bare and each == "suspended")
            ]
            found += [(Injection(phase, k), suspension.where) for phase in phases]
        return found

    def _fail_undisturbed(self, trial: Trial) -> NoReturn:
        self._cause = trial.cause
        lines = "\n  ".join(trial.problems)
        text = f"{self._program.name} is wrong before anything is cancelled:\n  {lines}"
        self._fail(text, CancelReport(self._program.name, (), trial.probe.count))

    def _fail(self, text: str, report: CancelReport) -> NoReturn:
        cause, self._cause = self._cause, None
        try:
            raise CancelFailure(text, report=report) from cause
        finally:
            del cause


def _point(trial: Trial, where: Where) -> CancelPoint:
    injection, probe = trial.injection, trial.probe
    assert injection is not None
    where = probe.where or where
    return CancelPoint(
        k=injection.k,
        phase=injection.phase,
        task=where.task,
        site=where.site,
        source=where.source,
        outcome=trial.outcome,
        delays=tuple(f"{each.site}: {each.source}" for each in probe.delays),
        delay_count=probe.delay_count,
        problems=tuple(trial.problems),
    )


# -- arguments --------------------------------------------------------------------------------


def _check_target(target: Any) -> tuple[Any, bool, bool]:
    """The choice, whether the root may be a target, whether others may."""
    if target == "root":
        return None, True, False
    if target == "children":
        return None, False, True
    if callable(target):
        return target, True, True
    raise ValueError(f"target must be 'root', 'children' or a function of a task, got {target!r}")


def _check_phases(phases: Any) -> tuple[Any, ...]:
    if isinstance(phases, str):
        raise TypeError(
            f"phases must be a collection of 'suspended' and 'ready', got {phases!r}; "
            f"did you mean phases=[{phases!r}]?"
        )
    chosen = tuple(each for each in _PHASES if each in phases)
    if not chosen or set(phases) - {*_PHASES}:
        raise ValueError(f"phases must be some of 'suspended' and 'ready', got {phases!r}")
    return chosen


def _check_check(check: Any) -> Any:
    if check is None or callable(check):
        return check
    raise TypeError(f"check must be a function without arguments, got {check!r}")


def _check_factory(schedule: Schedule | None, factory: Any) -> Any:
    if factory is None:
        if schedule is not None:
            check_schedules_work()
        return simulation(schedule, max_steps=_MAX_STEPS)
    if schedule is not None:
        raise ValueError(
            "schedule and loop_factory exclude one another: a schedule can be chosen only on the "
            "loop of aioconc.testing"
        )
    if not callable(factory):
        raise TypeError(f"loop_factory must be a function that makes a loop, got {factory!r}")
    return factory
