"""How programs with worker processes end, in order or not, and that no worker is left then."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.system.executor_scripts import is_gone, run_python, run_script, start_script
from tests.system.process_tools import STARTS, script_started_by

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.parametrize("start", STARTS),
]

# What the workers of a program are doing when it dies: one each.
BUSY = """
import asyncio, ctypes, os, sys, time
from aioconc.executors import ProcessExecutor

def spin(path):
    open(path, "w").close()
    while True:
        pass

def hold_the_gil(path):
    open(path, "w").close()
    ctypes.PyDLL(None).sleep(1000)

async def main():
    pool = ProcessExecutor(3, spares=1)
    calls = [asyncio.ensure_future(pool.run(fn, fn.__name__)) for fn in (spin, hold_the_gil)]
    await asyncio.gather(*(pool.run(os.getpid) for _ in range(4)))
    while not (os.path.exists("spin") and os.path.exists("hold_the_gil")):
        await asyncio.sleep(0.01)
    while len(pool._processes.idle) < 2:
        await asyncio.sleep(0.01)
    print(*(each.pid for each in pool._processes.workers), flush=True)
    END

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "end",
    [
        "os.kill(os.getpid(), 9)",
        "os.kill(os.getpid(), 15)",
        "os._exit(0)",
        "ctypes.string_at(0)",
        "os.execv('/bin/true', ['true'])",
    ],
)
def test_no_worker_outlives_its_program(start: str, tmp_path: Path, end: str) -> None:
    """Two idle ones, one in Python and one in C that holds the GIL: all gone within two seconds."""
    script = tmp_path / "script.py"
    script.write_text(script_started_by(start, BUSY.replace("END", end)))
    process = start_script(script)
    assert process.stdout is not None
    workers = [int(each) for each in process.stdout.readline().split()]
    assert len(workers) == 4
    process.wait(20)
    ended = time.monotonic()
    assert all(map(is_gone, workers))
    assert time.monotonic() - ended < 2
    process.communicate()


def test_a_program_that_dies_while_workers_start_leaves_none(start: str, tmp_path: Path) -> None:
    """A worker that had not yet asked to die with its parent notices when it asks."""
    ended = run_script(
        tmp_path,
        script_started_by(
            start,
            """
        import asyncio, os
        from aioconc.executors import ProcessExecutor

        async def main():
            pool = ProcessExecutor(4)
            calls = [asyncio.ensure_future(pool.run(len, "a")) for _ in range(4)]
            while pool.statistics().workers < 4:
                await asyncio.sleep(0)
            os._exit(3)

        asyncio.run(main())
        """,
        ),
    )
    assert (ended.status, ended.left) == (3, [])


def test_interpreter_exit_kills_what_runs_and_finishes_futures(start: str, tmp_path: Path) -> None:
    """Without a close: futures are finished, an abandoned call is killed, and nobody complains."""
    ended = run_script(
        tmp_path,
        script_started_by(
            start,
            """
        import asyncio, time
        from aioconc.executors import ProcessExecutor

        def slow(name):
            time.sleep(0.2)
            open(name, "w").close()

        def never():
            open("begun", "w").close()
            while True:
                pass

        pool = ProcessExecutor(2)

        async def main():
            call = asyncio.ensure_future(pool.options(on_cancel="abandon").run(never))
            while not __import__("os").path.exists("begun"):
                await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.wait([call])

        asyncio.run(main())
        for name in "abc":
            pool.futures.submit(slow, name)
        """,
        ),
        "-W",
        "error",
    )
    lines = [line for line in ended.err.splitlines() if "runs on" not in line]
    assert (ended.status, lines, ended.left) == (0, [], [])
    assert [name for name in "abc" if (tmp_path / name).exists()] == ["a", "b", "c"]


def test_a_forked_child_holds_no_worker_back(start: str, tmp_path: Path) -> None:
    """It lives on: workers end when their pool is closed, and when their own parent is killed."""
    script = tmp_path / "script.py"
    script.write_text(
        script_started_by(
            start,
            """
import asyncio, os, signal, time, warnings
warnings.simplefilter("ignore")
from aioconc.executors import ProcessExecutor

closed, open_ = ProcessExecutor(1), ProcessExecutor(1)
pids = [asyncio.run(each.run(os.getpid)) for each in (closed, open_)]
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
began = time.monotonic()
closed.close()
print(time.monotonic() - began < 1.5, flush=True)
print(*pids, child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""",
        )
    )
    process = start_script(script)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    *workers, child = [int(each) for each in process.stdout.readline().split()]
    try:
        process.wait(20)
        assert all(map(is_gone, workers))
        assert Path(f"/proc/{child}/stat").read_text().split()[2] != "Z"
    finally:
        os.kill(child, signal.SIGKILL)
    process.communicate()


def test_ctrl_c_ends_calls_quietly(start: str, tmp_path: Path) -> None:
    """SIGINT to the whole group, with workers busy and starting: one KeyboardInterrupt, no noise."""
    script = tmp_path / "script.py"
    script.write_text(
        script_started_by(
            start,
            """
import asyncio, os, time
from aioconc.executors import ProcessExecutor

async def main():
    async with ProcessExecutor(3) as pool:
        calls = [pool.run(time.sleep, 60) for _ in range(2)]
        calls = [asyncio.ensure_future(each) for each in calls]
        while pool.statistics().workers < 2:
            await asyncio.sleep(0)
        print("ready", flush=True)
        await asyncio.gather(*calls)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
""",
        )
    )
    process = start_script(script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


CODE = """
import asyncio, os, sys
from aioconc.executors import ProcessExecutor
print("top")
class Point:
    def __init__(self, x): self.x = x
def move(point, by):
    return Point(point.x + by)
async def main():
    async with ProcessExecutor(1) as pool:
        print((await pool.run(move, Point(1), 2)).x)
asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["script", "-c", "-m", "stdin", "no file"])
def test_no_main_module_is_needed(start: str, tmp_path: Path, how: str) -> None:
    """The program runs once, however it was started, and its own classes cross to the worker."""
    code = script_started_by(start, CODE)
    (tmp_path / "program.py").write_text(code)
    if how == "no file":  # as in a notebook, or in a frozen program
        (tmp_path / "program.py").write_text(
            "import sys\ndel sys.modules['__main__'].__file__\n" + code
        )
    arguments = {
        "script": ["program.py"],
        "no file": ["program.py"],
        "-c": ["-c", code],
        "-m": ["-m", "program"],
        "stdin": ["-c", "exec(open('program.py').read())"],
    }[how]
    ended = run_python(tmp_path, arguments)
    assert (ended.err, ended.lines, ended.status, ended.left) == ("", ["top", "3"], 0, [])


def test_what_workers_print_reaches_the_user(start: str, tmp_path: Path) -> None:
    """Output and errors of a call go where those of the program go."""
    ended = run_script(
        tmp_path,
        script_started_by(
            start,
            """
        import asyncio, os
        from aioconc.executors import ProcessExecutor

        def speak():
            print("said", flush=True)
            os.write(2, b"warned")

        async def main():
            async with ProcessExecutor(1) as pool:
                await pool.run(speak)

        asyncio.run(main())
        """,
        ),
    )
    assert (ended.out, ended.err) == ("said\n", "warned")


def test_a_pool_that_is_dropped_ends_its_workers(start: str, tmp_path: Path) -> None:
    """Nobody closed it, nobody has it: its idle workers end with it, and nothing complains."""
    ended = run_script(
        tmp_path,
        script_started_by(
            start,
            """
        import asyncio, gc, os, time
        from aioconc.executors import ProcessExecutor

        pool = ProcessExecutor(1, idle_timeout=None)
        pid = asyncio.run(pool.run(os.getpid))
        before = len(os.listdir("/proc/self/fd"))
        del pool
        gc.collect()
        deadline = time.monotonic() + 5
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
            time.sleep(0.01)
        print(os.path.exists(f"/proc/{pid}"), len(os.listdir("/proc/self/fd")) < before)
        """,
        ),
        "-W",
        "error",
    )
    assert (ended.err, ended.lines) == ("", ["False", "True"])
