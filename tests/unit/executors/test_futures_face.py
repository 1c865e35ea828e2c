"""The `concurrent.futures` face keeps the rules of the standard library, over threads and processes.

The standard library's own tests of executors are run in `test_stdlib_suite.py`, where they are
installed.
"""

import asyncio
import concurrent.futures
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aioconc.errors import ExecutorClosed, SerializationError, WorkerCrashed
from aioconc.executors import Executor, ProcessExecutor, ThreadExecutor
from tests.contracts import executor_work as work

MAKERS: dict[str, Callable[[], Executor]] = {
    "thread": lambda: ThreadExecutor(2),
    "process": lambda: ProcessExecutor(2),
}


@pytest.fixture(scope="module", params=MAKERS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with MAKERS[request.param]() as executor:
        list(executor.futures.map(abs, range(4)))
        yield executor


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(1) as executor:
        executor.futures.submit(len, "").result()
        yield executor


def exit_with(code: int) -> None:
    raise SystemExit(code)


def interrupt() -> None:
    raise KeyboardInterrupt


class Gate:
    """Holds a call of `work.hold` in its worker."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def wait_until_started(self) -> None:
        while not Path(self.path + ".started").exists():
            time.sleep(0.001)

    def open(self) -> None:
        Path(self.path + ".go").touch()


class Thing:
    """Can be referred to weakly."""


def make_thing(_: int) -> Thing:
    return Thing()


def test_calls_need_no_loop_and_come_from_any_thread(executor: Executor) -> None:
    """Threads that have never seen a loop submit at the same time, and each gets its own."""
    found: dict[int, list[int]] = {}

    def submit(base: int) -> None:
        futures = [executor.futures.submit(pow, base, each) for each in range(20)]
        found[base] = [future.result() for future in futures]

    threads = [threading.Thread(target=submit, args=(base,)) for base in (2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {base: [base**each for each in range(20)] for base in (2, 3, 5)}


async def test_a_loop_runs_functions_in_it(executor: Executor) -> None:
    """`loop.run_in_executor` takes the face for what it is."""
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(executor.futures, pow, 2, 10) == 1024
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(executor.futures, divmod, 1, 0)


def test_what_ends_programs_arrives_as_it_was_raised(executor: Executor) -> None:
    """A future has the SystemExit or KeyboardInterrupt itself, as the standard library's has."""
    error = executor.futures.submit(exit_with, 7).exception()
    assert isinstance(error, SystemExit)
    assert error.code == 7
    assert isinstance(executor.futures.submit(interrupt).exception(), KeyboardInterrupt)
    assert executor.futures.submit(abs, -1).result() == 1


def test_a_running_call_cannot_be_cancelled_but_a_waiting_one_can(
    processes: ProcessExecutor, tmp_path: Path
) -> None:
    """`cancel` is False for what runs, and what was cancelled never starts."""
    holding = Gate(tmp_path / "held")
    running = processes.futures.submit(work.hold, holding.path)
    waiting = processes.futures.submit(exit_with, 1)
    holding.wait_until_started()
    assert not running.cancel()
    assert running.running()
    assert waiting.cancel()
    holding.open()
    running.result()
    assert concurrent.futures.wait([waiting]).done == {waiting}
    assert processes.statistics().queued == 0


def test_a_crash_breaks_one_future(processes: ProcessExecutor) -> None:
    """The pool is not broken by it, unlike one of the standard library."""
    lost, next_one = processes.futures.submit(os._exit, 3), processes.futures.submit(abs, -1)
    assert isinstance(lost.exception(), WorkerCrashed)
    assert next_one.result() == 1


def test_what_cannot_be_pickled_fails_its_future(processes: ProcessExecutor) -> None:
    """Nothing is raised by `submit`, as with the standard library."""
    future = processes.futures.submit(len, threading.Lock())  # type: ignore[arg-type]
    error = future.exception(timeout=0)
    assert isinstance(error, SerializationError)
    assert (error.where, error.side) == ("args", "parent")


@pytest.mark.parametrize("chunksize", [1, 3, 10, 50])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_map_gives_all_results_in_order(
    executor: Executor, chunksize: int, buffersize: int | None
) -> None:
    """However they are sent and however many are in flight."""
    results = executor.futures.map(
        pow, range(10), itertools.count(1), chunksize=chunksize, buffersize=buffersize
    )
    assert [*results] == [each ** (each + 1) for each in range(10)]


def test_map_reads_no_further_than_its_buffer(executor: Executor) -> None:
    """An endless input is read as results are taken."""
    read = itertools.count()
    results = executor.futures.map(abs, read, buffersize=3)
    assert next(read) == 3
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert next(read) == 7
    results.close()  # type: ignore[attr-defined]


def test_map_raises_the_failure_in_place_of_its_result(executor: Executor) -> None:
    """The results before it are given, and what has not started by then never does."""
    results = executor.futures.map(divmod, [1, 2, 3, 4], [1, 1, 0, 1])
    assert [next(results), next(results)] == [(1, 0), (2, 0)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_map_names_the_function_of_a_chunk(processes: ProcessExecutor) -> None:
    """An error about a chunk speaks of the user's function."""
    with pytest.raises(SerializationError, match=r"^len or its arguments"):
        list(processes.futures.map(len, [threading.Lock()] * 2, chunksize=2))  # type: ignore[list-item]


def test_map_gives_up_in_time(processes: ProcessExecutor, tmp_path: Path) -> None:
    """`timeout` counts from the call of `map`; the calls that wait are cancelled."""
    holding = Gate(tmp_path / "held")
    results = processes.futures.map(work.hold, [holding.path] * 3, timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    holding.wait_until_started()
    assert processes.statistics().queued == 0
    holding.open()


def test_nothing_keeps_a_result_that_was_taken(executor: Executor) -> None:
    """A map of a million items holds those that wait to be taken."""
    for chunksize in (1, 2):
        for thing in executor.futures.map(make_thing, range(6), chunksize=chunksize):
            seen = weakref.ref(thing)
            del thing
            while seen() is not None:  # the worker is just letting go of it
                time.sleep(0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunksize": 0}, "chunksize must be an int >= 1, got 0"),
        ({"buffersize": 0}, "buffersize must be an int >= 1, got 0"),
    ],
)
def test_map_refuses_before_it_reads(executor: Executor, options: Any, message: str) -> None:
    """A slip has no effect."""
    source = iter([1])
    with pytest.raises(ValueError, match=message):
        executor.futures.map(abs, source, **options)
    assert next(source) == 1


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_shutdown_finishes_what_was_submitted(make: Callable[[], Executor]) -> None:
    """With `wait=False` as well; nothing is taken from then on."""
    executor = make()
    futures = [executor.futures.submit(abs, -each) for each in range(10)]
    executor.futures.shutdown(wait=False)
    with pytest.raises(ExecutorClosed):
        executor.futures.submit(abs, 1)
    assert [future.result() for future in futures] == [*range(10)]
    executor.futures.shutdown()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_shutdown_can_drop_what_has_not_started(
    make: Callable[[], Executor], tmp_path: Path
) -> None:
    """`cancel_futures` cancels those that wait, and lets the others end."""
    executor = make()
    holdings = [Gate(tmp_path / each) for each in "ab"]
    running = [executor.futures.submit(work.hold, each.path) for each in holdings]
    for each in holdings:
        each.wait_until_started()
    waiting = [executor.futures.submit(abs, -1) for _ in range(5)]
    executor.futures.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    for each in holdings:
        each.open()
    executor.futures.shutdown()
    assert all(future.exception() is None for future in running)
