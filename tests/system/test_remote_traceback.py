"""The traceback of an error in a worker process: as text always, as frames where tblib is there."""

import asyncio
import pickle
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aioconc.executors import Executor, FuturesExecutor, ProcessExecutor
from aioconc.executors._call import Job
from aioconc.executors._futures import unpack
from aioconc.executors._remote import RemoteTraceback
from tests.contracts import executor_work as work

MAKERS: dict[str, Callable[[], Executor]] = {
    "process": lambda: ProcessExecutor(1),
    "futures": lambda: FuturesExecutor.over_processes(1),
}


@pytest.fixture(params=MAKERS)
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[Executor]:
    """One worker, so that what is set up in it holds for every call."""
    async with MAKERS[request.param]() as pool:
        yield pool


def frames(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


async def failure(pool: Executor, fn: object, *args: object) -> BaseException:
    with pytest.raises(Exception) as caught:  # the caller looks
        await pool.run(fn, *args)  # type: ignore[arg-type]
    return caught.value


async def test_with_tblib_the_worker_frames_follow_those_here(pool: Executor) -> None:
    """A debugger or a log sees one traceback, from the await to the line in the worker."""
    pytest.importorskip("tblib")
    error = await failure(pool, work.raise_through, 3)
    names = frames(error)
    assert names[-4:] == ["raise_through"] * 3 + ["raise_refused"]
    assert "failure" in names[:-4]
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert Path(last.filename) == Path(work.__file__)
    assert last.line == "raise error"
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "run_pickled" not in "".join(names) + str(error.__cause__)


@pytest.mark.parametrize("where", ["worker", "parent", "both"])
async def test_without_tblib_the_text_is_there(
    pool: Executor, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Missing on either side or on both: the error arrives, with the worker's traceback as text."""
    if where != "parent":
        await pool.run(work.make_unimportable, "tblib")
    if where != "worker":
        monkeypatch.setitem(sys.modules, "tblib", None)
    error = await failure(pool, work.raise_through, 3)
    assert isinstance(error, work.Refused)
    assert error.__notes__ == ["a note"]
    assert "raise_refused" not in frames(error)
    shown = str(error.__cause__)
    assert shown.count("in raise_through") == 3
    assert "in raise_refused" in shown
    assert await pool.run(work.add, 1, 1) == 2


async def test_the_causes_of_an_error_are_in_the_text(pool: Executor) -> None:
    """What the error was raised from stands in the traceback that travels."""
    error = await failure(pool, work.raise_from)
    shown = str(error.__cause__)
    assert "ValueError: the first" in shown
    assert "direct cause" in shown
    assert repr(error) == "KeyError('the second')"


async def test_the_leaves_of_a_group_are_in_the_text(pool: Executor) -> None:
    """A group brings its structure, and its text the tracebacks."""
    error = await failure(pool, work.raise_group)
    assert isinstance(error, ExceptionGroup)
    assert "Refused" in str(error.__cause__)


async def test_a_very_deep_traceback_harms_nothing(pool: Executor) -> None:
    """RecursionError arrives as such, and the worker goes on."""
    error = await failure(pool, work.recurse)
    assert isinstance(error, RecursionError)
    assert "in recurse" in str(error.__cause__)
    assert await pool.run(work.add, 1, 1) == 2


async def test_a_traceback_that_cannot_be_rebuilt_costs_only_itself() -> None:
    """Another version of tblib in the worker may send what this one cannot read."""
    job = Job(work.add, None)
    assert not unpack(job, (False, pickle.dumps(KeyError("mine")), "the text", {"no": "frames"}))
    assert repr(job.error) == "KeyError('mine')"
    assert job.error is not None
    assert str(job.error.__cause__) == '\n"""\nthe text"""'


async def test_the_face_of_concurrent_futures_has_the_same_traceback(
    pool: Executor,
) -> None:
    """Its futures raise the error with the worker's frames and text."""
    future = pool.futures.submit(work.raise_refused)
    found = await asyncio.to_thread(future.exception)
    assert isinstance(found, work.Refused)
    assert "raise_refused" in str(found.__cause__)
