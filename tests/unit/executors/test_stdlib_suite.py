"""The standard library's own tests of executors, run against the futures faces of ours.

Some installations of Python come without those tests; `test_futures_face.py` asks for the same
behaviours everywhere.
"""

import importlib
import inspect
import multiprocessing
import sys
import unittest
from types import ModuleType
from typing import Any

import pytest

from aioconc.executors import ProcessExecutor
from tests.unit.executors import futures_shim

pytestmark = pytest.mark.slow

MODULES = (
    "test_as_completed",
    "test_deadlock",
    "test_init",
    "test_process_pool",
    "test_shutdown",
    "test_thread_pool",
    "test_wait",
)


def load() -> list[ModuleType]:
    """The modules of the suite: a package since Python 3.12, one module before."""
    package = "test.test_concurrent_futures"
    whole = importlib.import_module(package)
    if hasattr(whole, "ThreadPoolExecutorTest"):
        return [whole]
    return [importlib.import_module(f"{package}.{name}") for name in MODULES]


try:
    suite = load()
except ImportError as error:
    pytest.skip(f"this Python has no tests of its own: {error}", allow_module_level=True)

# Why a test fails with ours, by design. Each is run, and has to fail.
ONE_ERROR = "what cannot be unpickled fails its own call, as a SerializationError; no worker dies"
REFUSED = "what cannot be pickled for want of inheritance is refused before a worker is started"
UNCLOSED = "an executor that nobody closed keeps its workers until they have been idle for long"
NO_INITIALIZER = "threads share the module that they would initialize: there is no initializer"
OWN_NAMES = "threads are named after the executor"
DEADLOCKS, PROCESSES, PROCESS_ENDS, THREAD_ENDS = (
    "ProcessPoolSpawnExecutorDeadlockTest",
    "ProcessPoolSpawnProcessPoolExecutorTest",
    "ProcessPoolSpawnProcessPoolShutdownTest",
    "ThreadPoolShutdownTest",
)
DIFFERS = {
    f"{DEADLOCKS}.test_error_at_task_unpickle": ONE_ERROR,
    f"{DEADLOCKS}.test_exit_at_task_unpickle": ONE_ERROR,
    f"{DEADLOCKS}.test_error_during_result_unpickle_in_result_handler": ONE_ERROR,
    f"{DEADLOCKS}.test_exit_during_result_unpickle_in_result_handler": ONE_ERROR,
    f"{DEADLOCKS}.test_exit_during_result_pickle_on_worker": (
        "a SystemExit of the pickling is the cause of a SerializationError, not the outcome"
    ),
    "ProcessPoolSpawnFailingInitializerTest.test_initializer": REFUSED,
    "ThreadPoolFailingInitializerTest.test_initializer": NO_INITIALIZER,
    "ThreadPoolInitializerTest.test_initializer": NO_INITIALIZER,
    f"{PROCESSES}.test_killed_child": "a crash costs the call that it hit; the pool takes others",
    f"{PROCESSES}.test_max_tasks_per_child_defaults_to_spawn_context": (
        "workers are started in a way of their own, without multiprocessing"
    ),
    f"{PROCESSES}.test_python_finalization_error": (
        "it makes the threads fail that a ProcessPoolExecutor is made of; ours has none of them"
    ),
    f"{PROCESSES}.test_saturation": REFUSED,
    f"{PROCESSES}.test_traceback": "the cause is aioconc's RemoteTraceback",
    f"{PROCESS_ENDS}.test_processes_terminate": REFUSED,
    f"{PROCESS_ENDS}.test_del_shutdown": UNCLOSED,
    f"{THREAD_ENDS}.test_del_shutdown": UNCLOSED,
    f"{THREAD_ENDS}.test_thread_names_assigned": OWN_NAMES,
    f"{THREAD_ENDS}.test_thread_names_default": OWN_NAMES,
}
# Why a test is left out altogether.
LEFT_OUT = {
    f"{PROCESS_ENDS}.test_cancel_futures": (
        "it wants a call to have started at once; workers start in the background, so that all "
        "calls may still wait, and are cancelled"
    ),
    f"{PROCESSES}.test_ressources_gced_in_workers": (
        "workers do not inherit the key of multiprocessing, which the proxies of a manager need; "
        "the test then leaves a manager's process behind"
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _started() -> None:
    """What stays for the whole process is there before the tests are watched."""
    with ProcessExecutor(1) as pool:
        pool.futures.submit(len, "").result()
    multiprocessing.get_context("spawn").Semaphore()  # starts a process that stays


def cases() -> list[Any]:
    classes = [
        (name, cls)
        for module in suite
        for name, cls in inspect.getmembers(module, inspect.isclass)
        # The three ways of starting processes are one to us.
        if issubclass(cls, unittest.TestCase)
        and name.startswith(("ProcessPoolSpawn", "ThreadPool"))
    ]
    return [
        pytest.param(cls, method, id=f"{name}.{method}")
        for name, cls in classes
        for method in unittest.TestLoader().getTestCaseNames(cls)
        if f"{name}.{method}" not in LEFT_OUT
    ]


@pytest.mark.parametrize(("cls", "name"), cases())
def test_standard_library_case(
    cls: type[unittest.TestCase], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the standard library passes with our face in place of its executor."""
    futures_shim.install(monkeypatch.setattr)
    shim = futures_shim.BY_NAME[cls.executor_type.__name__]  # type: ignore[attr-defined]
    monkeypatch.setattr(cls, "executor_type", shim)
    module: Any = sys.modules[cls.__module__]
    if run := getattr(module, "assert_python_ok", None):
        monkeypatch.setattr(
            module,
            "assert_python_ok",
            lambda flag, code: run(flag, futures_shim.preamble() + code),
        )
    result = unittest.TestResult()
    try:
        cls(name).run(result)
    finally:
        while futures_shim.MADE:
            futures_shim.MADE.pop().close(cancel=True)
    problems = [text for _, text in (*result.failures, *result.errors)]
    if result.skipped:
        pytest.skip(result.skipped[0][1])
    if reason := DIFFERS.get(f"{cls.__name__}.{name}"):
        assert problems, f"passes now, although {reason}"
    else:
        assert not problems, problems[0]


def test_every_listed_difference_is_a_test() -> None:
    """The list of deliberate differences names tests that this Python has."""
    assert DIFFERS.keys() <= {case.id for case in cases()}
