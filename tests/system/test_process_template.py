"""The template that workers are forked from: what it imports, how it fails, and who notices its end."""

import asyncio
import errno
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aioconc._internal import _hooks
from aioconc.errors import LeakError, WorkerCrashed
from aioconc.executors import ProcessExecutor
from aioconc.executors.process import _template
from aioconc.testing import no_leaks
from aioconc.worker import _template as talk
from tests.contracts import executor_work as work
from tests.system.executor_scripts import is_gone, run_script, start_script
from tests.system.process_tools import idle, is_dead, kill, pids, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loops("asyncio"),  # all of it happens in the service's loop
    pytest.mark.skipif(sys.platform != "linux", reason="templates need Linux"),
]

Module = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Writes a module that workers can import; gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = iter(f"preloaded_{each}_{os.getpid()}" for each in range(10))

    def write(code: str) -> str:
        name = next(names)
        (tmp_path / f"{name}.py").write_text(code)
        return name

    return write


def template_of(pool: ProcessExecutor) -> int:
    """The process id of its template."""
    launcher: Any = pool._processes.starts.launcher
    assert launcher._template is not None
    return int(launcher._template.process.pid)


def look_at(name: str) -> Any:
    """What a worker finds in a module."""
    return vars(sys.modules[name])["FOUND"]


# -- what it imports -----------------------------------------------------------------------------


async def test_workers_have_what_the_template_has_imported(module: Module) -> None:
    """The module is loaded in every worker before it is asked for, and was loaded once."""
    name = module("import os\nFOUND = os.getpid()")
    async with ProcessExecutor(2, start="forkserver", preload=(name,)) as pool:
        first = await pool.run(look_at, name)
        assert first == template_of(pool)
        kill(*pids(pool))
        assert await pool.run(look_at, name) == first
        assert await pool.run(os.getppid) == first
        assert pool.statistics().workers == len(pids(pool))
    assert is_dead(first)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such_module_here", "no_such_module_here"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(7)", "exit status 7"),
        ("import ctypes; ctypes.string_at(0)", "Fatal Python error"),
        ("import os; os.closerange(3, 100); import time; time.sleep(60)", "SIGKILL"),
    ],
)
async def test_a_module_that_cannot_be_imported_fails_the_calls(
    module: Module, code: str, text: str
) -> None:
    """The call gets the traceback, or how the template died; the pool can be closed."""
    name = module(code)
    async with ProcessExecutor(1, start="forkserver", preload=(name,)) as pool:
        with pytest.raises(WorkerCrashed, match="no worker could be started") as caught:
            await pool.run(work.add, 1)
    assert text in str(caught.value)
    if "exit" not in code and "os" not in code and "ctypes" not in code:
        assert f"{name}.py" in str(caught.value)


async def test_a_module_that_can_be_imported_again_is(module: Module, tmp_path: Path) -> None:
    """The same pool works once the reason is gone."""
    name = module(f"open({str(tmp_path / 'needed')!r}).close()")
    async with ProcessExecutor(1, start="forkserver", preload=(name,)) as pool:
        with pytest.raises(WorkerCrashed, match="FileNotFoundError"):
            await pool.run(work.add, 1)
        (tmp_path / "needed").touch()
        assert await pool.run(work.add, 1, 1) == 2


async def test_a_module_that_starts_a_thread_is_refused(module: Module) -> None:
    """Workers would not have it, and may inherit a lock that it holds: the error names it."""
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), "
    name = module(code + "name='of mine', daemon=True).start()")
    async with ProcessExecutor(1, start="forkserver", preload=(name,)) as pool:
        with pytest.raises(WorkerCrashed, match=r"has started threads \(of mine\)") as caught:
            await pool.run(work.add, 1)
        assert name in str(caught.value)
        assert "initializer" in str(caught.value)


async def test_a_thread_that_would_hang_a_fork_is_refused_too(module: Module) -> None:
    """It holds a lock that what is done after a fork waits for: the template does not hang."""
    name = module(
        "import os, threading, time\n"
        "lock = threading.Lock()\n"
        "os.register_at_fork(after_in_child=lock.acquire)\n"
        "lock.acquire()\n"
        "threading.Thread(target=time.sleep, args=(60,), name='holder', daemon=True).start()"
    )
    async with ProcessExecutor(1, start="forkserver", preload=(name,)) as pool:
        with pytest.raises(WorkerCrashed, match=r"has started threads \(holder\)"):
            await pool.run(work.add, 1)


async def test_libraries_that_end_their_threads_for_a_fork_may_be_preloaded() -> None:
    """NumPy's OpenBLAS has threads in the template, none in a fork, and works there."""
    pytest.importorskip("numpy")

    def multiply() -> float:  # here, so that workers need not import the test
        import numpy as np

        square = np.ones((300, 300))
        return float((square @ square)[0, 0])

    async with ProcessExecutor(1, start="forkserver", preload=("numpy",), blas_threads=2) as pool:
        assert await pool.run(multiply) == 300.0


async def test_workers_draw_different_random_numbers() -> None:
    """Though they were forked from one process, which has seeded the generator."""
    pytest.importorskip("numpy")

    def draw() -> float:
        import numpy as np

        return float(np.random.random())

    options: Any = {"start": "forkserver", "preload": ("numpy.random", "random")}
    async with ProcessExecutor(1, max_tasks_per_worker=1, **options) as pool:
        assert len({await pool.run(draw) for _ in range(4)}) == 4


def test_what_a_module_prints_is_said_once(tmp_path: Path) -> None:
    """No worker inherits output that has not been written yet."""
    (tmp_path / "speaks.py").write_text("print('imported')")
    ended = run_script(
        tmp_path,
        """
        import asyncio, os, time
        from aioconc.executors import ProcessExecutor

        async def main():
            async with ProcessExecutor(3, start="forkserver", preload=("speaks",)) as pool:
                await asyncio.gather(*(pool.run(time.sleep, 0.1) for _ in range(3)))

        asyncio.run(main())
        """,
    )
    assert (ended.out, ended.err, ended.status) == ("imported\n", "", 0)


async def test_more_workers_than_a_template_is_asked_for_at_once() -> None:
    """All of them come, each once."""
    async with ProcessExecutor(40, start="forkserver") as pool:
        calls = [asyncio.ensure_future(pool.run(time.sleep, 60)) for _ in range(40)]
        await until(lambda: len(pids(pool)) == 40 and not pool._processes.need)
        assert pool.statistics().workers == 40
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


# -- its end -------------------------------------------------------------------------------------


async def test_calls_go_on_without_their_template(tmp_path: Path) -> None:
    """It is killed while calls run and wait: none is lost, and the next worker has a new one."""
    gate = str(tmp_path / "gate")
    told: list[str] = []
    end = _hooks.subscribe(lambda name, _: told.append(name))
    async with ProcessExecutor(1, start="forkserver") as pool:
        running = asyncio.ensure_future(pool.run(work.hold, gate))
        await until(Path(gate + ".started").exists)
        waiting = asyncio.ensure_future(pool.run(os.getppid))
        first = template_of(pool)
        kill(first)
        await until(lambda: pool._processes.starts.launcher._template is None)  # type: ignore[attr-defined]
        Path(gate + ".go").touch()
        assert await running == gate
        await waiting
        kill(*pids(pool))
        second = await pool.run(os.getppid)
        assert second == template_of(pool) != first
        assert pool.statistics().failed == 0
    end()
    assert [told.count(f"template.{each}") for each in ("started", "ended")] == [2, 2]


async def test_how_a_worker_without_a_template_ended_is_unknown_but_that_it_did_is_not() -> None:
    """Nobody tells its exit status any more."""
    async with ProcessExecutor(1, start="forkserver") as pool:
        pid = await pool.run(os.getpid)
        call = asyncio.ensure_future(pool.run(time.sleep, 60))
        await until(lambda: not idle(pool))
        kill(template_of(pool))
        await until(lambda: pool._processes.starts.launcher._template is None)  # type: ignore[attr-defined]
        kill(pid)
        with pytest.raises(WorkerCrashed) as caught:
            await asyncio.wait_for(call, 5)
        assert caught.value.exitcode is None
        assert await pool.run(work.add, 1, 1) == 2


async def test_a_module_that_has_children_reaped_hides_exit_statuses_alone(module: Module) -> None:
    """The system waits for the workers then, and nobody knows how they ended."""
    name = module("import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    async with ProcessExecutor(1, start="forkserver", preload=(name,)) as pool:
        with pytest.raises(WorkerCrashed) as caught:
            await pool.run(os._exit, 3)
        assert caught.value.exitcode is None
        assert await pool.run(work.add, 1, 1) == 2


async def test_a_template_that_stands_still_hides_no_death(tmp_path: Path) -> None:
    """It does not tell how its worker ended, so a second later that is given up."""
    async with ProcessExecutor(2, start="forkserver") as pool:
        gates = [str(tmp_path / each) for each in "ab"]
        calls = [asyncio.ensure_future(pool.run(work.hold, each)) for each in gates]
        await until(lambda: all(Path(each + ".started").exists() for each in gates))
        template = template_of(pool)
        kill(template, signal.SIGSTOP)
        for pid in pids(pool):
            kill(pid)
        for call in calls:
            with pytest.raises(WorkerCrashed):
                await asyncio.wait_for(call, 10)
        kill(template, signal.SIGCONT)
        assert await pool.run(work.add, 1, 1) == 2


@pytest.mark.parametrize("delay", [0, 0.01, 0.05])
async def test_a_template_killed_at_any_moment_loses_no_call(delay: float) -> None:
    """Starting, importing, forking: the calls that wait get a worker from the next one."""
    pool = ProcessExecutor(4, start="forkserver", max_tasks_per_worker=1)
    async with pool:
        calls = [asyncio.ensure_future(pool.run(abs, -each)) for each in range(40)]
        launcher: Any = pool._processes.starts.launcher
        for most in (0, 10, 20, 30):
            await until(lambda: launcher._template is not None or calls[-1].done())
            await asyncio.sleep(delay)
            if launcher._template is not None:
                launcher._template.process.kill()
            await until(functools.partial(has_completed_more_than, pool, most))
        assert await asyncio.gather(*calls) == [*range(40)]


def has_completed_more_than(pool: ProcessExecutor, count: int) -> bool:
    return pool.statistics().completed > count


async def test_closing_does_not_wait_for_modules_that_are_imported(
    module: Module, tmp_path: Path
) -> None:
    """Nobody needs a worker any more: the template is killed."""
    mark = tmp_path / "mark"
    name = module(f"open({str(mark)!r}, 'w').close()\nimport time; time.sleep(60)")
    pool = ProcessExecutor(1, start="forkserver", preload=(name,))
    call = asyncio.ensure_future(pool.run(work.add, 1))
    await until(mark.exists)
    call.cancel()
    await asyncio.wait([call])
    async with asyncio.timeout(5):
        await pool.aclose()


@pytest.mark.parametrize("asked", [False, True])
async def test_a_template_that_stands_still_does_not_hold_up_closing(
    asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not it was asked for a worker, it is killed after a while."""
    monkeypatch.setattr(_template, "_LAST_STEPS", 0.2)
    pool = ProcessExecutor(2, start="forkserver")
    await pool.run(work.add, 1)
    template = template_of(pool)
    kill(template, signal.SIGSTOP)
    if asked:
        kill(*pids(pool))
        call = asyncio.ensure_future(pool.run(work.add, 1))
        await until(lambda: pool._processes.starting)
        call.cancel()
        await asyncio.wait([call])
    async with asyncio.timeout(15):
        await pool.aclose()
    assert is_dead(template)


async def test_a_template_whose_end_cannot_be_seen_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when a descriptor of it cannot be had, for too many open files: another one is tried."""
    pool = ProcessExecutor(1, start="forkserver")
    blind: list[int] = []
    pidfd_open = os.pidfd_open

    def fails_at_first(pid: int, flags: int = 0) -> int:
        if not blind:
            blind.append(pid)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pidfd_open(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", fails_at_first)
    async with asyncio.timeout(20):
        assert await pool.run(work.add, 1, 1) == 2
        assert template_of(pool) != blind[0] and is_dead(blind[0])
        await pool.aclose()


async def test_a_request_that_cannot_be_sent_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when too many descriptors are on their way: nobody waits for its answer."""
    rights, failed = talk.rights, list[tuple[int, ...]]()

    def fails_at_first(*fds: int) -> Any:
        if not failed:
            failed.append(fds)
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        return rights(*fds)

    monkeypatch.setattr(talk, "rights", fails_at_first)
    async with asyncio.timeout(20), ProcessExecutor(1, start="forkserver") as pool:
        assert await pool.run(work.add, 1, 1) == 2
    assert failed


async def test_a_template_goes_with_its_pool_and_is_seen_if_it_does_not() -> None:
    """It is left to `no_leaks` like every process that a block has started."""
    with pytest.raises(LeakError, match="child process"):
        async with no_leaks():
            pool = ProcessExecutor(1, start="forkserver")
            await pool.run(work.add, 1)
    async with no_leaks():
        await pool.run(work.add, 1)
    await pool.aclose()


async def test_a_template_whose_output_nobody_reads_is_used(module: Module) -> None:
    """What the modules have printed is lost, and nothing else."""
    name = module("import sys\nprint('lost')\nsys.stdout.close()\nFOUND = 1")
    async with ProcessExecutor(1, start="forkserver", preload=(name,)) as pool:
        assert await pool.run(look_at, name) == 1


# -- programs ------------------------------------------------------------------------------------

DIES = """
import asyncio, os, sys, time
from aioconc.executors import ProcessExecutor

async def main():
    pool = ProcessExecutor(1, start="forkserver", preload=("preloaded",))
    call = asyncio.ensure_future(pool.run(time.sleep, 60))
    launcher = pool._processes.starts.launcher
    while launcher._template is None or not os.path.exists("imported"):
        await asyncio.sleep(0.001)
    while WAIT:
        await asyncio.sleep(0.001)
    print(launcher._template.process.pid, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.mark.parametrize("busy", [False, True])
def test_no_template_outlives_its_program(tmp_path: Path, busy: bool) -> None:
    """Killed while it waits, and in the middle of an import that never ends."""
    code = "while True: pass" if busy else ""
    (tmp_path / "preloaded.py").write_text(f"open('imported', 'w').close()\n{code}")
    script = tmp_path / "script.py"
    script.write_text(DIES.replace("WAIT", "False" if busy else "not pool._processes.workers"))
    process = start_script(script)
    assert process.stdout is not None
    template = int(process.stdout.readline())
    process.wait(20)
    ended = time.monotonic()
    assert is_gone(template)
    assert time.monotonic() - ended < 2
    process.communicate()


def test_a_template_holds_nothing_of_its_workers(tmp_path: Path) -> None:
    """Sixty workers have come and gone: its descriptors are those that it began with."""
    assert subprocess.run(
        [sys.executable, "-c", COUNTS], capture_output=True, text=True, check=True
    ).stdout.split() == ["0"]


COUNTS = """
import asyncio, os
from aioconc.executors import ProcessExecutor

def count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))

async def main():
    async with ProcessExecutor(1, start="forkserver", max_tasks_per_worker=1) as pool:
        await pool.run(len, "")
        template = pool._processes.starts.launcher._template.process.pid
        while pool.statistics().workers:
            await asyncio.sleep(0.001)
        before = count(template)
        for _ in range(60):
            await pool.run(len, "")
        while pool.statistics().workers:
            await asyncio.sleep(0.001)
        print(count(template) - before)

asyncio.run(main())
"""
