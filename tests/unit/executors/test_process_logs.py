"""Log records of worker processes, in the loggers of this one."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aioconc.errors import WorkerCrashed
from aioconc.executors import ProcessExecutor
from tests.unit.executors import process_work as work


@pytest.fixture
async def pool() -> AsyncIterator[ProcessExecutor]:
    async with ProcessExecutor(1) as executor:
        yield executor


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records]


async def test_a_record_arrives_at_its_logger(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """Name, level, text and extra fields are those of the worker; process and call are named."""
    await pool.options(name="counting").run(work.log, "a.b", logging.WARNING, "hello", count=3)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("a.b", "WARNING", "hello")
    assert record.funcName == "log"
    assert record.__dict__["count"] == 3
    assert record.__dict__["worker_call"] == "counting"
    assert record.__dict__["worker_pid"] == record.process


async def test_records_arrive_before_the_result(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them, in order, also when the socket is full for a while."""
    await pool.run(work.log_much, 900)
    assert [text[:5] for text in texts(caplog)] == [f"{number:05d}" for number in range(900)]


async def test_levels_are_those_of_the_parent(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """What the loggers here drop is not sent; a change is seen by the next call."""
    await pool.run(work.log, "work", logging.DEBUG, "too low")
    caplog.set_level(logging.DEBUG)
    await pool.run(work.log, "work", logging.DEBUG, "low enough")
    logging.getLogger("work").setLevel(logging.ERROR)
    try:
        await pool.run(work.log, "work", logging.WARNING, "not for this logger")
    finally:
        logging.getLogger("work").setLevel(logging.NOTSET)
    assert [each for each in texts(caplog) if not each.startswith("Using")] == ["low enough"]


async def test_an_exception_is_rendered_in_the_worker(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """Its traceback is part of the text, the object stays where it is."""
    await pool.run(work.log_error)
    assert "failed on this" in caplog.text
    assert "ValueError: wrong" in caplog.text
    assert "in log_error" in caplog.text


async def test_what_was_logged_before_a_crash_arrives(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """The last words are those that one needs."""
    with pytest.raises(WorkerCrashed):
        await pool.run(work.log_and_die)
    assert texts(caplog) == ["the last words"]


async def test_what_cannot_travel_is_shown(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """An extra field that cannot be pickled arrives as its repr; one that logs does no harm."""
    await pool.run(work.log_what_logs)
    (record,) = caplog.records
    assert record.getMessage() == "outer"
    assert "lock" in str(record.__dict__["lock"])


async def test_a_forked_child_does_not_use_the_socket(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the worker's handler, and is not the worker."""
    assert await pool.run(work.log_in_fork) == 0
    assert texts(caplog) == ["before"]


async def test_threads_of_the_worker_are_heard(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever thread logs, the frames stay whole."""
    await pool.run(work.log_in_thread)
    assert texts(caplog) == ["from a thread"]
    assert str(caplog.records[0].threadName).startswith("Thread")


@pytest.mark.slow
@pytest.mark.soak  # how much fits is the system's affair
async def test_a_parent_that_stands_still_loses_records_and_is_told(
    pool: ProcessExecutor, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The worker is not held up; what does not fit is counted."""
    await pool.run(work.log, "work", logging.DEBUG, "a worker is there")
    done = tmp_path / "done"
    task = asyncio.ensure_future(pool.run(work.log_much, 20_000, str(done)))
    await asyncio.sleep(0)
    deadline = time.monotonic() + 30
    while not done.exists():  # the loop stands still
        assert time.monotonic() < deadline
        time.sleep(0.001)
    await task
    found = texts(caplog)
    dropped = [each for each in found if "log records were dropped" in each]
    kept = [each for each in found if "dropped" not in each]
    assert dropped
    assert len(kept) + sum(int(each.split()[0]) for each in dropped) == 20_000
    assert kept == sorted(kept)


async def test_workers_that_do_not_log_load_no_logging(pool: ProcessExecutor) -> None:
    """The relay costs nothing before it is needed."""
    assert not await pool.run(work.has_loaded, "logging")


async def test_logs_can_stay_in_the_worker(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """With `forward_logs=False` the worker's own logging does what it does."""
    async with ProcessExecutor(1, forward_logs=False) as pool:
        await pool.run(work.log, "work", logging.WARNING, "stays there")
    assert texts(caplog) == []
    assert "stays there" in capfd.readouterr().err
