"""The plugin beside others: what it leaves alone, what it works with, and what it costs to load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.testing.plugin_runs import HEAD, passes, run, write

pytest_plugins = ["pytester"]


# -- tests that do not ask ------------------------------------------------------------------------

UNMARKED = """
@pytest.fixture(scope="module")
def event_loop_policy():
    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            loop = super().new_event_loop()
            loop.of_the_policy = True
            return loop
    return Policy()

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server():
    yield asyncio.get_running_loop()

@pytest_asyncio.fixture
async def fresh():
    yield asyncio.get_running_loop()

async def test_first(fresh):
    assert fresh is asyncio.get_running_loop()
    assert fresh.of_the_policy

def test_synchronous(): pass

@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("n", [1, 2])
async def test_wide(server, n):
    assert server is asyncio.get_running_loop()
    assert server.of_the_policy

def test_synchronous_again(server): pass

@pytest.mark.asyncio(loop_scope="module")
async def test_wide_again(server, request):
    assert server is asyncio.get_running_loop()
    assert not hasattr(request.node, "callspec")
"""


@pytest.mark.parametrize("beside", ["alone", "beside a marked test"])
def test_unmarked_tests_are_as_without_the_plugin(pytester: pytest.Pytester, beside: str) -> None:
    """Ids, order, fixtures, loop policies: all the same, also where another file has the mark."""
    if beside != "alone":
        pytester.makepyfile(test_other=HEAD + "\n@marked\nasync def test_other(clock): pass\n")
    write(pytester, UNMARKED)
    options = ("-p", "no:cacheprovider", "-v", "--setup-show", "-W", "default", "test_it.py")
    shown = []
    for more in (["-p", "no:aioconc"], []):
        result = pytester.runpytest_inprocess(*options, *more)
        result.assert_outcomes(passed=6, warnings=1)  # of the policy
        shown.append([line for line in result.outlines if "test_it" in line or "SETUP" in line])
    assert shown[0] == shown[1]
    if beside != "alone":
        both = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "default")
        both.assert_outcomes(passed=7, warnings=1)


def test_loops_of_the_project_stay_for_unmarked_tests(pytester: pytest.Pytester) -> None:
    """A project's own loop factories run its tests, in each of them; a marked test runs once."""
    pytester.makeconftest(
        """
import asyncio
import pytest

class Mine(asyncio.SelectorEventLoop):
    pass

@pytest.hookimpl(tryfirst=True)
def pytest_asyncio_loop_factories(config, item):
    return {"mine": Mine, "stock": asyncio.new_event_loop}
"""
    )
    code = """
@marked
async def test_marked(clock):
    assert clock.now == 0

async def test_plain(request):
    kind = type(asyncio.get_running_loop()).__name__
    assert ("mine" in request.node.name) == (kind == "Mine")
"""
    result = run(pytester, code)
    passes(result, 3)
    result.stdout.fnmatch_lines(
        ["*::test_marked PASSED*", "*::test_plain?mine? PASSED*", "*::test_plain?stock? PASSED*"]
    )


def test_wrong_answer_of_the_project_stays_an_error(pytester: pytest.Pytester) -> None:
    """A hook that answers nothing is an error of the project, and ours does not hide it."""
    pytester.makeconftest("def pytest_asyncio_loop_factories(config, item):\n    return None\n")
    result = run(pytester, "async def test_plain(): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pytest_asyncio_loop_factories must return a non-empty*"])


def test_without_pytest_asyncio_collection_works(pytester: pytest.Pytester) -> None:
    """With `-p no:asyncio` plain tests run, and a marked async one says what to install."""
    pytester.makepyfile(
        test_it="import pytest\ndef test_plain(): pass\n\n"
        "@pytest.mark.aioconc\nasync def test_marked(): pass\n"
    )
    result = pytester.runpytest_inprocess("-p", "no:asyncio", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*::test_marked: aioconc: *install pytest-asyncio 1.4 or newer"])


# -- other plugins ----------------------------------------------------------------------------------

ANYIO = """
import anyio

@pytest.fixture
async def server():
    await anyio.sleep(100)
    yield asyncio.get_running_loop()
    await anyio.sleep(100)
"""


def test_anyio_test_takes_the_mark(pytester: pytest.Pytester) -> None:
    """A marked test of anyio's plugin and its fixtures run in virtual time, on asyncio alone."""
    code = """
pytestmark = pytest.mark.anyio

@marked
async def test_marked(server, clock):
    assert server is asyncio.get_running_loop()
    await anyio.sleep(3600)
    assert clock.now == 3700

@marked(schedule="d0")
async def test_order(server):
    done = []
    async def note(n): done.append(n)
    async with anyio.create_task_group() as group:
        group.start_soon(note, 1)
        group.start_soon(note, 2)
    assert done == [2, 1]

@marked
@pytest.mark.parametrize("n", [1, 2])
async def test_with(n): pass

async def test_unmarked(anyio_backend):
    assert anyio_backend == "asyncio"

@marked
async def test_hangs(server):
    await anyio.Event().wait()
"""
    # Older versions of anyio offer trio whether or not it is installed.
    result = run(pytester, ANYIO + code, "-k", "not trio", mode="strict")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        ["*::test_marked PASSED*", "*::test_unmarked?asyncio? PASSED*", "E *DeadlockError: *"]
    )
    result.stdout.no_fnmatch_line("*anyio/_backends*")


def test_anyio_backend_fixture_takes_a_loop_factory(pytester: pytest.Pytester) -> None:
    """The fixture that the documentation shows runs a whole file in virtual time."""
    code = """
from aioconc.testing import loop_factory

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": loop_factory()}

async def test_time(server, clock):
    await anyio.sleep(3600)
    assert clock.now == 3700
"""
    passes(run(pytester, ANYIO + code, mode="strict"), 1)


def test_anyio_fixture_of_a_wider_scope_is_refused(pytester: pytest.Pytester) -> None:
    """A loop that a module's fixture has made already is not ours, and the test says so."""
    code = """
pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="module", autouse=True)
async def wide(anyio_backend):
    yield

async def test_unmarked(): pass

@marked
async def test_marked(): pass
"""
    result = run(pytester, ANYIO + code, mode="strict")
    result.assert_outcomes(passed=1, errors=1)


HYPOTHESIS = """
from hypothesis import given, settings, strategies

@{mark}
@marked
@settings(max_examples=20, database=None)
@given(strategies.integers())
async def test_examples(clock, n):
    before = clock.now
    await asyncio.sleep(1000)
    assert clock.now == before + 1000

@{mark}
@marked
@settings(max_examples=20, database=None)
@given(strategies.integers())
async def test_leaks(n):
    if n > 10:
        asyncio.create_task(asyncio.sleep(1), name="left over")

@{mark}
@marked(schedule="d1")
@given(strategies.integers())
async def test_order(n): pass
"""


@pytest.mark.parametrize("runner", ["asyncio", "anyio"])
def test_hypothesis_examples_are_checked_one_by_one(
    pytester: pytest.Pytester, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example is looked at for leaks, so it shrinks; a schedule over a shared loop is refused."""
    from aioconc.testing import no_leaks

    monkeypatch.setitem(no_leaks.__init__.__kwdefaults__, "patience", 0.0)  # type: ignore[index]
    code = HYPOTHESIS.format(mark=f"pytest.mark.{runner}")
    result = run(pytester, code, "-k", "not trio", mode="strict")
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*::test_order*: aioconc: examples of a @given test share a loop, *",
            "*left over*",
            "*n=11*",
        ]
    )


def test_example_that_hangs_leaves_nothing_to_the_next(pytester: pytest.Pytester) -> None:
    """The smallest example that hangs is shown, with the tasks of that example alone."""
    code = """
from hypothesis import given, settings, strategies

@marked
@settings(max_examples=30, database=None)
@given(strategies.integers())
async def test_hangs(n):
    assert {each for each in asyncio.all_tasks() if "waiter" in each.get_name()} == set()
    if n > 10:
        await asyncio.create_task(asyncio.Event().wait(), name=f"waiter {n}")
"""
    result = run(pytester, code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *DeadlockError: *", "*waiter 11*", "*n=11*"])
    result.stdout.no_fnmatch_line("*AssertionError*")
    result.stdout.no_fnmatch_line("*waiter 12*")


@pytest.mark.slow
def test_xdist_runs_marked_tests(pytester: pytest.Pytester) -> None:
    """With `-n 2` the options reach the workers, and schedules are tests of their own there."""
    code = """
@marked
async def test_time(clock):
    assert clock.now == 0
    await asyncio.sleep(3600)

def test_budget():
    async def program():
        await asyncio.gather(*(asyncio.sleep(n % 3) for n in range(9)))
    assert explore(program).schedules == 7
"""
    write(pytester, code)
    options = ("-n", "2", "--aioconc-budget=7", "--aioconc-schedules=3")
    passes(pytester.runpytest_subprocess(*options, timeout=60), 4)


# -- cost -----------------------------------------------------------------------------------------


def loaded(folder: Path, *options: str) -> set[str]:
    """The modules that a run of pytest over a plain test has loaded at its end."""
    (folder / "test_plain.py").write_text("def test_plain(): pass\n")
    (folder / "conftest.py").write_text(
        "import sys\ndef pytest_unconfigure():\n    print('LOADED', *sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (line,) = (each for each in done.stdout.splitlines() if each.startswith("LOADED"))
    return set(line.split()[1:])


@pytest.mark.slow
def test_plugin_loads_nothing_until_it_is_needed(tmp_path: Path) -> None:
    """A run without marked tests loads the plugin's own file, and what loads names when needed."""
    plain = loaded(tmp_path)
    assert loaded(tmp_path, "-p", "aioconc.testing._plugin") - plain == {
        "aioconc",
        "aioconc._internal",
        "aioconc._internal._public",
        "aioconc.testing",
        "aioconc.testing._plugin",
    }
