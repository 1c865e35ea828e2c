"""Leak checks of the plugin: by the mark, and for all async tests by the ini value."""

import pytest

from aioconc.testing import no_leaks
from tests.unit.testing.plugin_runs import passes, run

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left on purpose here will not end, so it need not be waited for."""
    monkeypatch.setitem(no_leaks.__init__.__kwdefaults__, "patience", 0.02)  # type: ignore[index]


LEAK = """
async def leak():
    asyncio.create_task(asyncio.sleep(60), name="left over")
"""


def test_marked_test_that_leaks_fails(pytester: pytest.Pytester) -> None:
    """The error names what was left and the line that made it; `leaks=False` does not look."""
    code = """
@marked
async def test_leaks():
    await leak()

@marked(leaks=False)
async def test_may():
    await leak()

@marked(virtual_time=False)
async def test_real_time():
    await leak()

async def test_unmarked():
    await leak()
"""
    result = run(pytester, LEAK + code)
    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines(
        ["*_ test_leaks _*", "E *LeakError: the block left 1 behind:", "*task 'left over'*leak*"]
    )


def test_failure_of_the_test_stays_the_failure(pytester: pytest.Pytester) -> None:
    """A test that fails and leaks shows its own error, with what was left as a note."""
    code = """
@marked
async def test_both():
    await leak()
    assert 1 == 2
"""
    result = run(pytester, LEAK + code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*assert 1 == 2", "E *assert 1 == 2", "*left over*"])


def test_marked_synchronous_test_is_looked_at_too(pytester: pytest.Pytester) -> None:
    """A plain test that starts a thread and leaves it fails; virtual time means nothing to it."""
    code = """
import threading

gate = threading.Event()

@marked
def test_thread():
    threading.Thread(target=gate.wait, name="the left thread", daemon=True).start()

@marked
def test_clean():
    gate.set()
"""
    result = run(pytester, code)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*the left thread*"])


@pytest.mark.parametrize("mode", ["off", "warn", "error"])
def test_ini_value_looks_at_every_async_test(pytester: pytest.Pytester, mode: str) -> None:
    """off: nothing; warn: a warning of the test; error: the test fails. Marks decide before."""
    code = """
async def test_leaks():
    await leak()

async def test_clean():
    pass

def documented():
    '''
    >>> 1 + 1
    2
    '''

@marked(leaks=False)
async def test_may():
    await leak()
"""
    ini = f"aioconc_leaks = {mode}\naddopts = --doctest-modules\n"
    options = ("-W", "default") if mode == "warn" else ()
    result = run(pytester, LEAK + code, *options, ini=ini)
    if mode == "off":
        passes(result, 4)
    elif mode == "warn":
        result.assert_outcomes(passed=4, warnings=1)
        result.stdout.fnmatch_lines(["*PytestWarning*test_leaks*", "*left over*"])
    else:
        result.assert_outcomes(passed=3, failed=1)
        result.stdout.fnmatch_lines(["FAILED *::test_leaks*"])


def test_warning_is_kept_apart_from_the_tests_own_findings(pytester: pytest.Pytester) -> None:
    """A `LeakError` that the test itself raises fails it, whatever the ini value is."""
    code = """
from aioconc.testing import no_leaks

async def test_own():
    async with no_leaks():
        await leak()
"""
    result = run(pytester, LEAK + code, ini="aioconc_leaks = warn\n")
    result.assert_outcomes(failed=1)


def test_unittest_methods_are_looked_at_too(pytester: pytest.Pytester) -> None:
    """An async method of a `TestCase` that leaves a task fails, by the mark or by the ini value."""
    code = """
import unittest

class TestIt(unittest.IsolatedAsyncioTestCase):
    async def test_leaks(self):
        await leak()

    async def test_clean(self):
        pass

@marked(virtual_time=False)
class TestMarked(TestIt):
    pass
"""
    result = run(pytester, LEAK + code, ini="aioconc_leaks = error\n")
    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines(["E *LeakError*", "*left over*"])
    result.stdout.no_fnmatch_line("*async_case.py*")


def test_tests_of_another_async_library_are_let_be(pytester: pytest.Pytester) -> None:
    """Where no loop of asyncio runs, there are no tasks of it to look at."""
    pytester.makeconftest(
        """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if pyfuncitem.get_closest_marker("stepped"):
        with pytest.raises(StopIteration):
            pyfuncitem.obj().send(None)
        return True
"""
    )
    code = """
@pytest.mark.stepped
async def test_steps():
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
"""
    ini = "aioconc_leaks = error\nmarkers = stepped\n"
    passes(run(pytester, code, mode="strict", ini=ini), 1)
