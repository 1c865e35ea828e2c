"""The default pools serve every loop of a program, one after another, and end with the program.

Asked of the workers that `offload_cpu` has by default, and of the standard pool that it has on
Windows.
"""

import sys
import textwrap
from pathlib import Path

import pytest

from tests.system.executor_scripts import Ended, run_python, run_script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

# What a program begins with to have that default.
DEFAULTS = {
    "process": "",
    "futures": """
from aioconc.executors import FuturesExecutor, _offload
_offload._defaults["cpu"] = FuturesExecutor.over_processes(name="offload_cpu")
""",
}
both_defaults = pytest.mark.parametrize("default", DEFAULTS)

# Has every worker of the default pool at work at the same time, and tells their process ids.
ALL_WORKERS = """
import asyncio, os, time
from pathlib import Path
from aioconc import offload_cpu, offload_io

def meet(folder, number, count):
    Path(folder, str(number)).touch()
    while len(list(Path(folder).iterdir())) < count:
        time.sleep(0.002)
    return os.getpid()

async def all_workers(folder):
    count = offload_cpu.executor.max_workers
    Path(folder).mkdir()
    return await asyncio.gather(*(offload_cpu(meet, str(folder), n, count) for n in range(count)))
"""


def run_pytest(folder: Path, tests: str, default: str) -> Ended:
    """A project with pytest-asyncio and these tests, run by a pytest of its own."""
    (folder / "workers.py").write_text(DEFAULTS[default] + ALL_WORKERS)
    (folder / "conftest.py").write_text(
        textwrap.dedent(
            """
            import asyncio
            try:
                import uvloop
            except ImportError:
                uvloop = None

            def pytest_asyncio_loop_factories(config, item):
                both = {"asyncio": asyncio.new_event_loop}
                if uvloop is not None:
                    both["uvloop"] = uvloop.new_event_loop
                return both
            """
        )
    )
    (folder / "pytest.ini").write_text(
        "[pytest]\n"
        "asyncio_mode = auto\n"
        "asyncio_default_fixture_loop_scope = function\n"
        "filterwarnings =\n"
        "  error\n"
        "  ignore:.*event.loop.policy.*:DeprecationWarning:pytest_asyncio\n"
    )
    (folder / "test_project.py").write_text(textwrap.dedent(tests))
    return run_python(folder, ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:timeout"])


@both_defaults
def test_tests_with_a_loop_each_share_the_workers(tmp_path: Path, default: str) -> None:
    """Over function, module and session loops of both kinds, the workers stay the same."""
    ended = run_pytest(
        tmp_path,
        """
        import asyncio, os, threading
        import pytest
        from aioconc import gather_limited, offload_cpu, offload_io
        from workers import all_workers

        seen, threads, loops = set(), set(), []

        @pytest.mark.parametrize("turn", range(4))
        async def test_function_loop(turn, tmp_path):
            loops.append(asyncio.get_running_loop())
            seen.add(frozenset(await all_workers(tmp_path / "meet")))
            threads.add(await offload_io(threading.get_ident))

        @pytest.mark.asyncio(loop_scope="module")
        @pytest.mark.parametrize("turn", range(2))
        async def test_module_loop(turn, tmp_path):
            loops.append(asyncio.get_running_loop())
            seen.add(frozenset(await all_workers(tmp_path / "meet")))

        @pytest.mark.asyncio(loop_scope="session")
        @pytest.mark.parametrize("turn", range(2))
        async def test_session_loop(turn, tmp_path):
            loops.append(asyncio.get_running_loop())
            seen.add(frozenset(await all_workers(tmp_path / "meet")))

        @pytest.fixture
        async def answer():
            yield await offload_cpu(pow, 2, 5)
            assert await offload_cpu(pow, 2, 6) == 64

        async def test_fixture(answer):
            assert answer == 32
            assert await offload_cpu.executor.map(abs, [-1, 2]) == [1, 2]

        def test_without_a_loop(tmp_path):
            seen.add(frozenset(asyncio.run(all_workers(tmp_path / "meet"))))

        def test_all_had_the_same_workers():
            assert len({id(loop) for loop in loops}) > 4
            (pids,) = seen
            assert len(pids) == offload_cpu.executor.max_workers
            assert os.getpid() not in pids
            assert len(threads) == 1
            now = offload_cpu.executor.statistics()
            assert (now.busy, now.queued, now.abandoned) == (0, 0, 0)
        """,
        default,
    )
    assert (ended.status, ended.err, ended.left) == (0, "", []), ended.out


@both_defaults
def test_what_a_failing_test_leaves_does_not_reach_the_next(tmp_path: Path, default: str) -> None:
    """Calls that a test loses, cancels, times out or crashes cost nothing in later tests."""
    ended = run_pytest(
        tmp_path,
        """
        import asyncio, os, threading, time
        import pytest
        from aioconc import offload_cpu, offload_io
        from aioconc.errors import WorkerCrashed
        from workers import all_workers

        lost = []

        async def test_loses_its_calls(tmp_path):
            await all_workers(tmp_path / "meet")
            # Twice as many as can run: pytest-asyncio cancels them when it closes the loop.
            for _ in range(2 * offload_cpu.executor.max_workers):
                lost.append(asyncio.create_task(offload_cpu(time.sleep, 0.05)))
            await asyncio.sleep(0)

        async def test_nothing_is_left_of_them():
            assert all(task.cancelled() for task in lost)
            # One that was cancelled before it began has its slot until the pool's thread, which was
            # just woken for it, has seen that.
            until = time.monotonic() + 30
            while (now := offload_cpu.executor.statistics()).busy and time.monotonic() < until:
                await asyncio.sleep(0.005)
            assert (now.busy, now.queued) == (0, 0)
            lost.clear()

        async def test_abandons_a_call():
            with pytest.raises(TimeoutError):
                await offload_cpu.options(timeout=0.05, on_cancel="abandon")(time.sleep, 0.3)

        async def test_has_all_workers_all_the_same(tmp_path):
            await all_workers(tmp_path / "meet")
            assert offload_cpu.executor.statistics().abandoned == 0

        async def test_crashes_a_worker():
            with pytest.raises(WorkerCrashed):
                await offload_cpu(os._exit, 3)

        async def test_has_new_workers(tmp_path):
            await all_workers(tmp_path / "meet")

        async def test_hangs_in_a_process():
            call = asyncio.ensure_future(
                offload_cpu.options(on_cancel="abandon")(time.sleep, 1000))
            while not offload_cpu.executor.statistics().busy:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.1)
            call.cancel()
            await asyncio.wait([call])
        """,
        default,
    )
    assert (ended.status, ended.left) == (0, []), ended.out + ended.err
    assert [line for line in ended.err.splitlines() if "runs on" not in line] == []


@both_defaults
def test_runs_of_asyncio_share_the_workers(tmp_path: Path, default: str) -> None:
    """One after another, in several threads, with uvloop, after a failure, after Ctrl-C.

    Where cancelled calls are killed, their workers are replaced.
    """
    (tmp_path / "workers.py").write_text(DEFAULTS[default] + ALL_WORKERS)
    ended = run_script(
        tmp_path,
        """
        import asyncio, os, signal, sys, threading, time
        from aioconc import offload_cpu, offload_io, run
        from workers import all_workers

        places = iter(range(100))

        def pids(how=asyncio.run):
            return frozenset(how(all_workers(f"meet-{next(places)}")))

        first = pids()
        kills = offload_cpu.executor.capabilities.kill
        assert len(first) == offload_cpu.executor.max_workers
        for _ in range(3):
            assert pids() == first
        try:
            import uvloop
        except ImportError:
            pass
        else:
            assert pids(uvloop.run) == first

        async def fails():
            tasks = [asyncio.create_task(offload_cpu(time.sleep, 0.05)) for _ in range(8)]
            await asyncio.sleep(0.02)
            raise KeyError("mine")

        for _ in range(2):
            try:
                asyncio.run(fails())
            except KeyError:
                pass
            assert offload_cpu.executor.statistics().busy == 0
            later = pids()
            assert later.isdisjoint(first) if kills else later == first
            first = later

        async def interrupted():
            calls = [offload_cpu(time.sleep, 0.05) for _ in range(8)]
            asyncio.get_running_loop().call_later(0.02, os.kill, os.getpid(), signal.SIGINT)
            await asyncio.gather(*calls)

        try:
            asyncio.run(interrupted())
        except KeyboardInterrupt:
            print("interrupted")
        later = pids()
        assert later.isdisjoint(first) if kills else later == first
        first = later

        async def apart(number):
            return [await offload_cpu(pow, number, each) for each in range(20)]

        found = {}
        threads = [
            threading.Thread(target=lambda n=n: found.update({n: asyncio.run(apart(n))}))
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {n: [n**each for each in range(20)] for n in range(3)}
        assert pids() == first
        print("end")
        """,
        "-X",
        "dev",
    )
    assert (ended.status, ended.err, ended.left) == (0, "", [])
    assert ended.lines == ["interrupted", "end"]
