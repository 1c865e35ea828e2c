"""The exception classes: what they are to a caller, and that they cross processes unchanged."""

import copy
import pickle
import signal

import pytest

from aioconc import errors
from aioconc.errors import (
    AioconcError,
    BlockingError,
    CancelFailure,
    DeadlockError,
    ExecutorClosed,
    LeakError,
    LivelockError,
    ManagerClosed,
    MissingExtra,
    OwnerDied,
    RemoteError,
    ScheduleFailure,
    SerializationError,
    StuckError,
    SupervisorFailed,
    TaskCancelled,
    UnsupportedOption,
    WorkerCrashed,
    WorkerExit,
    WorkerTimeout,
)

SAMPLES = [
    AioconcError("a"),
    TaskCancelled("a"),
    SupervisorFailed("gave up", [OSError("a")]),
    SupervisorFailed("gave up", [ValueError(1), KeyError("k")]),
    WorkerCrashed("died", pid=7, exitcode=-9, attempt=2),
    SerializationError("no pickle", where="result", side="worker"),
    RemoteError("boom", type_name="lib.Boom", traceback_text="Traceback ..."),
    WorkerExit("left", type_name="SystemExit", traceback_text="Traceback ...", code=3),
    ExecutorClosed("closed"),
    WorkerTimeout("late", phase="run", seconds=1.5),
    OwnerDied("died", pid=7, exitcode=-9),
    ManagerClosed("closed"),
    UnsupportedOption("no kill"),
    MissingExtra("install aioconc[http]"),
    LeakError("left", leaks=["task a"]),
    BlockingError("held", stalls=["0.3 s in time.sleep"]),
    DeadlockError("a waits for b"),
    LivelockError("a and b"),
    StuckError("thread t"),
    ScheduleFailure("fails under d2", schedule="d2"),
    CancelFailure("at the third await"),
]


def test_every_class_has_a_sample() -> None:
    """A class that is added shows up in the tests below."""
    assert {type(each).__name__ for each in SAMPLES} == set(errors.__all__)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: AioconcError, protocol: int) -> None:
    """Class, arguments, attributes and notes arrive; keyword-only parameters do not get in the way."""
    error = copy.copy(error)
    error.add_note("item 7")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert repr(again.args) == repr(error.args)  # exceptions in a group have no equality
    assert vars(again) == vars(error)
    assert str(again) == str(error)
    assert again.__notes__[-1] == "item 7"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (WorkerCrashed("x"), RuntimeError),
        (ExecutorClosed("x"), RuntimeError),
        (SerializationError("x", where="args", side="parent"), pickle.PicklingError),
        (UnsupportedOption("x"), ValueError),
        (MissingExtra("x"), ImportError),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_errors_are_what_callers_catch_already(
    error: AioconcError, builtin: type[Exception]
) -> None:
    """Code that catches the built-in class catches ours, and `AioconcError` catches them all."""
    assert isinstance(error, builtin)
    assert isinstance(error, AioconcError)


def test_no_error_looks_like_a_cancellation() -> None:
    """`except Exception` sees each of them: none ends a task silently."""
    assert all(isinstance(each, Exception) for each in SAMPLES)


@pytest.mark.parametrize(
    ("exitcode", "number"), [(None, None), (0, None), (3, None), (-9, signal.SIGKILL)]
)
def test_crash_names_the_signal(exitcode: int | None, number: int | None) -> None:
    """A negative exit status is the signal that killed the worker; others are none."""
    assert WorkerCrashed("x", exitcode=exitcode).signal == number
