"""What is left of executors when their program ends, and how it ends."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.system.executor_scripts import Ended, is_gone, run_script, start_script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


def test_a_script_without_main_guard_runs_once(tmp_path: Path) -> None:
    """Workers never import the main module: its top level runs once, and its functions work."""
    ended = run_script(
        tmp_path,
        """
        import asyncio, os, sys
        from aioconc import offload_cpu
        from aioconc.executors import FuturesExecutor

        print("top")

        class Point:
            def __init__(self, x): self.x = x

        class Broken(Exception):
            pass

        def move(point, by):
            if by is None:
                raise Broken("no way")
            return Point(point.x + by), os.getpid()

        async def main():
            point, pid = await offload_cpu(move, Point(1), 2)
            print(type(point) is Point, point.x, pid != os.getpid())
            try:
                await offload_cpu(move, Point(1), None)
            except Broken as error:
                print(error.args[0].replace(" ", "-"))
            async with FuturesExecutor.over_processes(1, start="spawn") as pool:
                point, pid = await pool.run(move, Point(3), 4)
                print(type(point) is Point, point.x, pid != os.getpid())

        asyncio.run(main())
        """,
        "-X",
        "dev",
    )
    assert ended.err == ""
    assert ended.status == 0
    assert ended.lines == [
        "top", "True", "3", "True", "no-way", "True", "7", "True",
    ]  # fmt: skip


# What makes a process pool, as users write it.
PLAIN = "lambda: ProcessPoolExecutor(1, mp_context=get_context({method!r}))"
POOLS = {
    "process": "ProcessExecutor(1)",
    "own-forkserver": "FuturesExecutor.over_processes(1, start='forkserver')",
    "own-spawn": "FuturesExecutor.over_processes(1, start='spawn')",
    "plain-forkserver": f"FuturesExecutor({PLAIN.format(method='forkserver')})",
    "plain-spawn": f"FuturesExecutor({PLAIN.format(method='spawn')})",
    "plain-fork": f"FuturesExecutor({PLAIN.format(method='fork')})",
    "loky": "FuturesExecutor(lambda: __import__('loky').ProcessPoolExecutor(1))",
}
IMPORTS = """
import asyncio, os, sys, time, warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from aioconc.executors import FuturesExecutor, ProcessExecutor

warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
"""


def run_with_pool(folder: Path, pool: str, code: str) -> Ended:
    """Run `code` with `pool` made of that expression, in a script with a main guard."""
    body = f"pool = {pool}\n{textwrap.dedent(code)}"
    guarded = 'if __name__ == "__main__":\n' + textwrap.indent(body, "    ")
    return run_script(folder, IMPORTS + guarded)


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("how", ["abandoned", "lost"])
def test_a_call_that_hangs_in_a_process_does_not_hold_up_the_exit(
    tmp_path: Path, kind: str, how: str
) -> None:
    """The worker of a pool that aioconc made is killed, and the program ends with its status."""
    if kind == "loky":
        pytest.importorskip("loky")
    ended = run_with_pool(
        tmp_path,
        POOLS[kind],
        f"""
        async def main():
            print(await pool.run(os.getpid), flush=True)
            call = asyncio.ensure_future(pool.options(on_cancel="abandon").run(time.sleep, 1000))
            while not pool.statistics().busy:
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            if {how == "lost"}:
                call._log_destroy_pending = False
                return
            call.cancel()
            await asyncio.wait([call])
            assert pool.statistics().abandoned == 1

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        sys.exit(5)
        """,
    )
    assert (ended.status, len(ended.lines), ended.left) == (5, 1, []), ended.err
    assert [line for line in ended.err.splitlines() if "runs on" not in line] == []


def test_a_pool_that_is_handed_in_is_never_killed(tmp_path: Path) -> None:
    """It is the caller's: the standard library waits at exit for the call that was given up."""
    ended = run_with_pool(
        tmp_path,
        f"FuturesExecutor(({PLAIN.format(method='forkserver')})())",
        """
        def slow():
            open("started", "w").close()
            time.sleep(0.5)
            open("ended", "w").close()

        async def main():
            call = asyncio.ensure_future(pool.options(on_cancel="abandon").run(slow))
            while not os.path.exists("started"):
                await asyncio.sleep(0.001)
            call.cancel()
            await asyncio.wait([call])
            print(os.path.exists("ended"))

        asyncio.run(main())
        """,
    )
    assert (ended.status, ended.lines, ended.left) == (0, ["False"], [])
    assert (tmp_path / "ended").exists()


def test_calls_of_a_lost_loop_do_not_hold_up_the_exit(tmp_path: Path) -> None:
    """The program leaves its loop with calls in flight in a thread and in a process."""
    ended = run_script(
        tmp_path,
        """
        import asyncio, os, time
        from aioconc import offload_cpu, offload_io

        async def main():
            print(await offload_cpu(os.getpid))

        def hang():
            while True:
                time.sleep(60)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        tasks = [loop.create_task(offload_cpu(hang)), loop.create_task(offload_io(hang))]
        loop.run_until_complete(asyncio.sleep(0.1))
        for task in tasks:
            task._log_destroy_pending = False
        print("end")
        """,
    )
    assert (ended.status, ended.err) == (0, "")
    assert ended.lines[1] == "end"
    assert is_gone(int(ended.lines[0]))


def test_the_futures_face_is_finished_at_exit(tmp_path: Path) -> None:
    """As with the standard library, what was submitted there ends before the program does."""
    ended = run_script(
        tmp_path,
        """
        import sys, time
        from aioconc import ProcessExecutor, ThreadExecutor
        from aioconc.executors import FuturesExecutor

        def slow(name):
            time.sleep(0.3)
            with open(name, "w") as file:
                file.write("done")

        threads = ThreadExecutor(1)
        processes = FuturesExecutor.over_processes(1)
        own = ProcessExecutor(1)
        threads.futures.submit(slow, "a")
        threads.futures.submit(slow, "b")
        if sys.version_info[:3] in {(3, 12, 0), (3, 12, 1)}:
            # These can start no thread, and no process, once the exit has begun: have the pools
            # started before.
            processes.futures.submit(len, "").result()
            own.futures.submit(len, "").result()
        processes.futures.submit(slow, "c")
        processes.futures.submit(slow, "d")
        own.futures.submit(slow, "e")
        own.futures.submit(slow, "f")
        """,
    )
    assert (ended.status, ended.err, ended.left) == (0, "", [])
    assert all((tmp_path / name).read_text() == "done" for name in "abcdef")


@pytest.mark.parametrize("kind", ["process", "given-plain", "given-loky", "plain-spawn", "loky"])
def test_the_futures_face_of_any_process_pool_is_finished_at_exit(
    tmp_path: Path, kind: str
) -> None:
    """Also where the module of the pool was loaded after ours, and arranges its end first."""
    if "loky" in kind:
        pytest.importorskip("loky")
    given = {
        "given-plain": f"FuturesExecutor(({PLAIN.format(method='forkserver')})())",
        "given-loky": "FuturesExecutor(__import__('loky').ProcessPoolExecutor(1))",
    }
    ended = run_with_pool(
        tmp_path,
        {**POOLS, **given}[kind],
        """
        def slow(name):
            time.sleep(0.1)
            open(name, "w").close()

        # Some versions of Python can start no thread once the exit has begun.
        pool.futures.submit(len, "").result()
        for name in "abc":
            pool.futures.submit(slow, name)
        """,
    )
    assert (ended.status, ended.err, ended.left) == (0, "", [])
    assert [name for name in "abc" if (tmp_path / name).exists()] == ["a", "b", "c"]


def test_ctrl_c_ends_the_program_quietly(tmp_path: Path) -> None:
    """SIGINT to the whole group: KeyboardInterrupt here, and not a word from the workers."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, os, time
            from aioconc import offload_cpu

            async def main():
                print(await offload_cpu(os.getpid), flush=True)
                print("ready", flush=True)
                await offload_cpu.options(on_cancel="abandon")(time.sleep, 60)

            try:
                asyncio.run(main())
            except KeyboardInterrupt:
                print("interrupted")
            """
        )
    )
    process = start_script(script)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert process.stdout.readline() == "ready\n"
    subprocess.run(["sleep", "0.1"], check=True)
    import os

    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "interrupted\n")
    assert [line for line in err.splitlines() if "runs on" not in line] == []
    assert is_gone(pid)


def test_a_forked_child_is_told_and_makes_its_own(tmp_path: Path) -> None:
    """An executor refuses to work in a forked child, the defaults start anew there.

    When the child ends, the workers of the parent live on.
    """
    ended = run_script(
        tmp_path,
        """
        import asyncio, os, sys, warnings
        warnings.simplefilter("ignore")
        from aioconc import ThreadExecutor, offload_cpu, offload_io

        pool = ThreadExecutor(1)
        asyncio.run(pool.run(len, "a"))
        asyncio.run(offload_io(len, "a"))
        worker = asyncio.run(offload_cpu(os.getpid))
        sys.stdout.flush()
        child = os.fork()
        if not child:
            try:
                asyncio.run(pool.run(len, "a"))
            except RuntimeError as error:
                print("forked child" in str(error))
            print(asyncio.run(offload_io(len, "abc")))
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(asyncio.run(offload_cpu(os.getpid)) == worker)
        """,
    )
    # `multiprocessing` itself complains in such a child about processes that are not its own.
    assert (ended.status, "aioconc" in ended.err) == (0, False)
    assert ended.lines == ["True", "3", "0", "True"]


def test_touching_the_thread_face_loads_no_process_machinery(tmp_path: Path) -> None:
    """offload_io loads neither multiprocessing nor cloudpickle; workers load no asyncio."""
    ended = run_script(
        tmp_path,
        """
        import asyncio, sys
        from aioconc import offload_cpu, offload_io

        def loaded():
            import sys
            return [name for name in ("asyncio", "cloudpickle") if name in sys.modules]

        asyncio.run(offload_io(len, "abc"))
        print([name for name in ("multiprocessing", "cloudpickle", "concurrent.futures.process",
               "concurrent.futures.thread.x") if name in sys.modules])
        print(asyncio.run(offload_cpu(eval, "[n for n in ('asyncio', 'multiprocessing.pool', "
              "'cloudpickle', 'tblib') if n in __import__('sys').modules]")))
        """,
    )
    assert (ended.status, ended.err) == (0, "")
    assert ended.lines == ["[]", "[]"]
