"""Every exception class of aioconc.

One class for each thing that a caller would handle differently. All derive from `AioconcError`
and, where a built-in class means the same, from that one too. Time-outs are the built-in
`TimeoutError` or derive from it, groups are the built-in `ExceptionGroup`.
"""

import pickle
from collections.abc import Sequence
from typing import Any, Literal


class AioconcError(Exception):
    """Base of every error that aioconc itself raises.

    Example:
        >>> issubclass(WorkerCrashed, AioconcError)
        True
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # The classes below take keyword arguments; rebuild from state instead of calling __init__,
        # so that every one of them crosses a process boundary unchanged.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[AioconcError], args: tuple[Any, ...], state: dict[str, Any]) -> AioconcError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class TaskCancelled(AioconcError):
    """The awaited work was cancelled by somebody else, while the caller was not.

    A bare `CancelledError` would make the caller look cancelled itself, so the work's own
    cancellation arrives as this error, with the `CancelledError` as its cause.
    """


class SupervisorFailed(AioconcError, ExceptionGroup[Exception]):
    """A `Supervisor` gave up: its children failed too often, or its backoff hook said so.

    An `ExceptionGroup` of the failures that were too many, oldest first.
    """

    def derive(self, excs: Sequence[Exception], /) -> "SupervisorFailed":  # type: ignore[override]
        """The same for some of the failures: what `split` and `except*` make."""
        return SupervisorFailed(self.message, excs)


class WorkerCrashed(AioconcError, RuntimeError):
    """The worker that ran the call died before it answered.

    Attributes:
        pid: process id of the dead worker, or None where the executor does not tell.
        exitcode: its exit status, or None where unknown; negative: killed by that signal.
        signal: number of the signal that killed it, or None.
        attempt: which attempt of the call this was, from 1.
        stderr_tail: the traceback that the worker wrote when it died of a fatal error, if any.
        oom_suspected: whether the kernel probably killed it for want of memory.
    """

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        exitcode: int | None = None,
        attempt: int = 1,
        stderr_tail: str = "",
        oom_suspected: bool = False,
    ) -> None:
        super().__init__(message)
        self.stderr_tail = stderr_tail
        self.oom_suspected = oom_suspected
        self.pid = pid
        self.exitcode = exitcode
        self.signal = -exitcode if exitcode is not None and exitcode < 0 else None
        self.attempt = attempt


class WorkerTimeout(AioconcError, TimeoutError):
    """A call of an executor took longer than its options allow.

    Attributes:
        phase: "run": its function ran for longer than `timeout`; "queue": it waited for a worker
            for longer than `queue_timeout`, and never started.
        seconds: the limit that it missed.
    """

    def __init__(self, message: str, *, phase: Literal["queue", "run"], seconds: float) -> None:
        super().__init__(message)
        self.phase = phase
        self.seconds = seconds


class SerializationError(AioconcError, pickle.PicklingError):
    """A value could not cross to or from a worker, or through a channel.

    Attributes:
        where: which value it was: "args", "result" or "exception"; "item" of a channel.
        side: where it failed: "parent" or "worker"; "sender" or "receiver" of a channel.
    """

    def __init__(
        self,
        message: str,
        *,
        where: Literal["args", "result", "exception", "item"],
        side: Literal["parent", "worker", "sender", "receiver"],
    ) -> None:
        super().__init__(message)
        self.where = where
        self.side = side


class RemoteError(AioconcError):
    """Stands for an exception of a worker that could not be brought over itself.

    Attributes:
        type_name: qualified name of the exception's class in the worker.
        traceback_text: the worker's formatted traceback.
    """

    def __init__(self, message: str, *, type_name: str, traceback_text: str) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback_text = traceback_text


class WorkerExit(RemoteError):
    """A function in a worker raised what would end a program, not a call.

    `SystemExit`, `KeyboardInterrupt`, `GeneratorExit` and every other exception that is not an
    `Exception` arrive as this error, since raised in a task they would stop the event loop.

    Attributes:
        code: the exit status, when it was `SystemExit`, else None.
    """

    def __init__(
        self, message: str, *, type_name: str, traceback_text: str, code: Any = None
    ) -> None:
        super().__init__(message, type_name=type_name, traceback_text=traceback_text)
        self.code = code


class ExecutorClosed(AioconcError, RuntimeError):
    """A call reached an executor that is closed or closing."""


class OwnerDied(AioconcError, RuntimeError):
    """The process or call that had something has ended, and did not give it back itself.

    Attributes:
        pid: process id of the process, or None where it is not known.
        exitcode: its exit status, or None where it is not known; negative: killed by that signal.
    """

    def __init__(
        self, message: str, *, pid: int | None = None, exitcode: int | None = None
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode


class ManagerClosed(AioconcError, RuntimeError):
    """A shared object was used after its manager had closed, or while it was closing."""


class UnsupportedOption(AioconcError, ValueError):
    """An executor was asked for something that its `capabilities` exclude."""


class MissingExtra(AioconcError, ImportError):
    """An optional package is not installed; the message names the extra to install."""


class LeakError(AioconcError, AssertionError):
    """A block left something behind: tasks, threads, children, descriptors, async generators.

    Attributes:
        leaks: one line for each thing, with where it was created.
    """

    def __init__(self, message: str, *, leaks: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.leaks = tuple(leaks)


class BlockingError(AioconcError, AssertionError):
    """Code held the event loop for longer than a test allows.

    Attributes:
        stalls: one line for each stall, with how long it was and what held the loop.
    """

    def __init__(self, message: str, *, stalls: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.stalls = tuple(stalls)


class DeadlockError(AioconcError, RuntimeError):
    """No task can ever run again: each waits for another, or for what nobody will do.

    The message shows who waits for whom, and the circle where there is one.
    """


class LivelockError(AioconcError, RuntimeError):
    """Tasks run and run while no time passes: they wait for each other by asking again."""


class StuckError(AioconcError, RuntimeError):
    """Nothing has run for a long while, but something outside the loop might still wake it.

    Not called a deadlock, since a thread, a process or a socket is alive; the message names them.
    """


class ScheduleFailure(AioconcError, AssertionError):
    """An explored schedule made the program fail; the cause is the program's own exception.

    Attributes:
        schedule: text of the smallest schedule found that fails, as `Schedule.parse` reads it.
    """

    def __init__(self, message: str, *, schedule: str = "") -> None:
        super().__init__(message)
        self.schedule = schedule


class CancelFailure(AioconcError, AssertionError):
    """Cancelling at some await broke the program: a wrong exception, a leak, a lost invariant.

    Attributes:
        report: the `aioconc.testing.CancelReport`, with every point and what was wrong at it.
    """

    def __init__(self, message: str, *, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


__all__ = [
    "AioconcError",
    "BlockingError",
    "CancelFailure",
    "DeadlockError",
    "ExecutorClosed",
    "LeakError",
    "LivelockError",
    "ManagerClosed",
    "MissingExtra",
    "OwnerDied",
    "RemoteError",
    "ScheduleFailure",
    "SerializationError",
    "StuckError",
    "SupervisorFailed",
    "TaskCancelled",
    "UnsupportedOption",
    "WorkerCrashed",
    "WorkerExit",
    "WorkerTimeout",
]
