"""Bridges from a worker process to the loop of its program, when one of them dies."""

import signal
from pathlib import Path

import pytest

from tests.system.executor_scripts import run_script
from tests.system.process_tools import STARTS, script_started_by

pytestmark = pytest.mark.slow

CODE = """
import asyncio, os, signal
from aioconc import worker
from aioconc.executors import ProcessExecutor

async def never():
    print("called", flush=True)
    END
    await asyncio.Event().wait()

def ask():
    worker.call_in_loop(never)

async def main():
    async with ProcessExecutor(1) as pool:
        await pool.run(ask)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("start", STARTS)
def test_a_worker_that_waits_for_the_loop_ends_with_its_program(tmp_path: Path, start: str) -> None:
    """The program is killed while it works for the worker; the worker is not left waiting."""
    code = CODE.replace("END", "os.kill(os.getpid(), signal.SIGKILL)")
    ended = run_script(tmp_path, script_started_by(start, code))
    assert (ended.out, ended.err, ended.left) == ("called\n", "", [])
    assert ended.status == -signal.SIGKILL
