"""What can go wrong with one call, row by row, and that it costs that call and nothing else.

Beside each failure another call is in flight on another worker and must not be disturbed, the next
call must succeed, and the statistics must add up.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aioconc.errors import RemoteError, SerializationError, WorkerCrashed, WorkerExit
from aioconc.executors import ProcessExecutor
from aioconc.testing import kill_worker
from tests.contracts import executor_work as work
from tests.system.process_tools import STARTS, executor_started_by, pids, until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, params=STARTS)
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test is run for each way of starting workers."""
    if request.param == "forkserver" and "uvloop" in request.node.name:
        pytest.skip("the loop that starts workers is the same")
    monkeypatch.setattr(request.module, "ProcessExecutor", executor_started_by(request.param))
    return str(request.param)


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_local() -> Exception:
    class Local(Exception):
        pass

    return Local("of mine")


def raise_local() -> None:
    raise make_local()


class Deep:
    """Pickles, and recurses without end when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return work.recurse, ()


class Unpicklable:
    def __reduce__(self) -> tuple[Any, ...]:
        raise ValueError("cannot be pickled")


def make_unpicklable() -> Unpicklable:
    return Unpicklable()


def make_deep() -> Deep:
    return Deep()


class LargeNoReturn(work.NoReturn):
    """So large that it is not unpickled in the loop's thread."""

    def __reduce__(self) -> tuple[Any, ...]:
        _explode, args = super().__reduce__()
        return _explode_with, (*args, bytes(3_000_000))


def _explode_with(where: int, _: bytes) -> Any:
    return work._explode(where)


def make_large_no_return(where: int) -> LargeNoReturn:
    return LargeNoReturn(where)


def huge() -> bytes:
    return bytes(50_000_000)


@dataclass
class Row:
    """One event: the call, and what becomes of it."""

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    error: type[BaseException] | None = None
    text: str = ""
    # Whether the worker dies of it.
    dies: bool = False
    # Whether the call got as far as a worker.
    counted: bool = True


ROWS = {
    "SIGKILL": Row(kill_myself, (), WorkerCrashed, "SIGKILL", dies=True),
    "segfault": Row(segfault, (), WorkerCrashed, "SIGSEGV", dies=True),
    "abort": Row(os.abort, (), WorkerCrashed, "SIGABRT", dies=True),
    "os._exit": Row(os._exit, (7,), WorkerCrashed, "exit status 7", dies=True),
    "killed before": Row(kill_worker(work.add, when="before"), (1,), WorkerCrashed, "", dies=True),
    "killed during": Row(kill_worker(time.sleep), (60,), WorkerCrashed, "", dies=True),
    "killed after": Row(kill_worker(work.add, when="after"), (1,), WorkerCrashed, "", dies=True),
    "sys.exit": Row(sys.exit, (3,), WorkerExit, "SystemExit"),
    "KeyboardInterrupt": Row(work.raise_this, ("KeyboardInterrupt",), WorkerExit, "Keyboard"),
    "argument not pickled": Row(
        work.add, (Unpicklable(),), SerializationError, "cannot be pickled", counted=False
    ),
    "argument not unpickled": Row(work.add, (work.NoReturn(),), SerializationError, "unpickle"),
    "recursion in unpickling": Row(work.add, (Deep(),), SerializationError, "Recursion"),
    "result not pickled": Row(make_unpicklable, (), SerializationError, "cannot be pickled"),
    "result not unpickled": Row(
        work.make_no_return, (os.getpid(),), SerializationError, "cannot be unpickled"
    ),
    "large result not unpickled": Row(
        make_large_no_return, (os.getpid(),), SerializationError, "cannot be unpickled"
    ),
    "result recurses": Row(make_deep, (), SerializationError, "Recursion"),
    "exception not unpickled": Row(work.raise_this, ("Unruly",), RemoteError, "a and b"),
    "exception group": Row(work.raise_group, (), ExceptionGroup, "several"),
    "local exception": Row(raise_local, (), Exception, "of mine"),
    "huge result": Row(huge),
}


@pytest.mark.parametrize("name", ROWS)
async def test_a_failure_costs_its_call_and_no_other(name: str, tmp_path: Path) -> None:
    """The row's error and no other; the bystander and the next call do not notice."""
    row = ROWS[name]
    gate = str(tmp_path / "gate")
    async with ProcessExecutor(2) as pool:
        bystander = asyncio.ensure_future(pool.run(work.hold, gate))
        await until(Path(gate + ".started").exists)
        assert await pool.run(work.add, 1, 1) == 2
        before = pids(pool)
        if row.error is None:
            assert await pool.run(row.fn, *row.args) == row.fn(*row.args)
        else:
            with pytest.raises(row.error) as caught:
                await asyncio.wait_for(pool.run(row.fn, *row.args), 20)
            assert row.text in f"{caught.value!r} {caught.value}"
        assert (pids(pool) == before) is not row.dies
        assert not bystander.done()
        assert await pool.run(work.add, 2, 2) == 4
        Path(gate + ".go").touch()
        assert await bystander == gate
        now = pool.statistics()
        failed = 1 if row.error is not None and row.counted else 0
        completed = 3 if row.error is not None else 4
        assert (now.completed, now.failed, now.cancelled) == (completed, failed, 0)
        assert (now.busy, now.queued, now.abandoned) == (0, 0, 0)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_call_that_is_given_up_costs_no_other(how: str, tmp_path: Path) -> None:
    """Cancelled or timed out while it runs, it is killed; the bystander does not notice."""
    gate = str(tmp_path / "gate")
    async with ProcessExecutor(2) as pool:
        bystander = asyncio.ensure_future(pool.run(work.hold, gate))
        await until(Path(gate + ".started").exists)
        if how == "cancel":
            call = asyncio.ensure_future(pool.run(work.hold, gate + "2"))
            await until(Path(gate + "2.started").exists)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            with pytest.raises(TimeoutError):
                await pool.options(timeout=0.1).run(time.sleep, 60)
        assert not bystander.done()
        assert await pool.run(work.add, 2, 2) == 4
        Path(gate + ".go").touch()
        assert await bystander == gate
        now = pool.statistics()
        assert (now.completed, now.failed, now.cancelled, now.busy) == (2, 0, 1, 0)


async def test_a_queued_call_that_is_cancelled_is_never_sent(tmp_path: Path) -> None:
    """It leaves the queue, and those behind it move up."""
    gate = str(tmp_path / "gate")
    mark = tmp_path / "mark"
    async with ProcessExecutor(1) as pool:
        running = asyncio.ensure_future(pool.run(work.hold, gate))
        await until(Path(gate + ".started").exists)
        dropped = asyncio.ensure_future(pool.run(work.touch, str(mark)))
        behind = asyncio.ensure_future(pool.run(work.add, 1, 1))
        await until(lambda: pool.statistics().queued == 2)
        dropped.cancel()
        await asyncio.wait([dropped])
        Path(gate + ".go").touch()
        assert (await running, await behind) == (gate, 2)
        assert not mark.exists()
