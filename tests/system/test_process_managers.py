"""Proxies of `multiprocessing` managers as arguments: workers are let in like its own processes."""

from pathlib import Path

import pytest

from tests.system.executor_scripts import run_script
from tests.system.process_tools import STARTS, script_started_by

pytestmark = pytest.mark.slow

CODE = """
import asyncio, multiprocessing
from aioconc.executors import ProcessExecutor

def fill(shared, queue, key):
    shared[key] = 2 * key
    queue.put(key)
    return len(shared)

async def main():
    async with ProcessExecutor(1) as old:
        await old.run(len, "")  # before there is any manager
        with multiprocessing.get_context("spawn").Manager() as manager:
            shared, queue = manager.dict(), manager.Queue()
            print(await old.run(fill, shared, queue, 1))
            async with ProcessExecutor(1) as new:
                print(await new.run(fill, shared, queue, 2))
            print(dict(shared), queue.get(), queue.get())

if __name__ == "__main__":
    KEY
    asyncio.run(main())
"""


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("key", ["", "multiprocessing.current_process().authkey = b'of mine'"])
def test_proxies_of_managers_work_in_workers(tmp_path: Path, start: str, key: str) -> None:
    """Also in workers that are older than the manager, and with a key of the user's own."""
    ended = run_script(tmp_path, script_started_by(start, CODE.replace("KEY", key)))
    assert (ended.err, ended.out) == ("", "1\n2\n{1: 2, 2: 4} 1 2\n")
    assert (ended.status, ended.left) == (0, [])


PRELOADED = """
import asyncio, multiprocessing
from aioconc.executors import ProcessExecutor

async def main(shared):
    async with ProcessExecutor(1, start="forkserver", preload=["multiprocessing.managers"]) as pool:
        await pool.run(shared.append, 1)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Manager() as manager:
        shared = manager.list()
        asyncio.run(main(shared))
        print([*shared])
"""


@pytest.mark.skipif("sys.platform != 'linux'", reason="templates need Linux")
def test_a_template_that_has_loaded_multiprocessing_does_not_keep_the_key_out(
    tmp_path: Path,
) -> None:
    """Each worker gets the key after the fork."""
    ended = run_script(tmp_path, PRELOADED)
    assert (ended.err, ended.out, ended.left) == ("", "[1]\n", [])
