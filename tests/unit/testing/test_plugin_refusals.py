"""What the plugin refuses, and that the message says what to write instead."""

import pytest

from aioconc.testing import _loop
from tests.unit.testing.plugin_runs import run, write

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ('"d2"', "the mark takes keywords only: *got 'd2'; did you mean schedule='d2'?"),
        ("True", "the mark takes keywords only: aioconc(virtual_time=True, *), got True"),
        ("time=1", "the mark has no argument 'time'; it is aioconc(virtual_time=True, *"),
        ("virtual_time=1", "virtual_time must be True or False, got 1"),
        ('leaks="warn"', "leaks must be True or False, got 'warn'"),
        ("schedule=2", "schedule must be a Schedule or its text, got 2"),
        ('schedule="x"', "a schedule reads like 'fifo', 'd2,7', *, got 'x'"),
    ],
)
def test_wrong_mark_stops_the_collection(
    pytester: pytest.Pytester, mark: str, message: str
) -> None:
    """The value, the rule and the remedy in one line, and no traceback."""
    code = f"@marked({mark})\nasync def test_it(): pass\n"
    result = run(pytester, code)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*::test_it: aioconc: {message}"])
    result.stdout.no_fnmatch_line("*_mark.py*")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--aioconc-schedule=x9", "--aioconc-schedule: a schedule reads like *, got 'x9'"),
        ("--aioconc-budget=0", "--aioconc-budget must be an int >= 1, got 0"),
        ("--aioconc-schedules=-1", "--aioconc-schedules must be an int >= 1, got -1"),
        ("--aioconc-budget=x", "*invalid int value: 'x'"),
    ],
)
def test_wrong_option_is_a_usage_error(
    pytester: pytest.Pytester, option: str, message: str
) -> None:
    """Nothing runs."""
    result = run(pytester, "async def test_it(): pass", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


def test_wrong_ini_value_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """Nothing runs."""
    result = run(pytester, "async def test_it(): pass", ini="aioconc_leaks = maybe\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: aioconc_leaks must be one of off, warn, error; got 'maybe'"]
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            '@marked(schedule="d2")\n@pytest.mark.asyncio(loop_scope="module")\nasync def test_it(): pass',
            "a schedule needs a loop of the test's own, and this one has loop_scope='module'; *",
        ),
        (
            '@marked(schedule="d2")\ndef test_it(): pass',
            "*this one is not async; did you mean run(fn, schedule=...) in it?",
        ),
        (
            """
from unittest import IsolatedAsyncioTestCase

@marked
class Test(IsolatedAsyncioTestCase):
    async def test_it(self): pass
""",
            "*loop_factory = staticmethod(aioconc.testing.loop_factory())*",
        ),
    ],
    ids=["loop scope", "synchronous", "unittest"],
)
def test_what_cannot_be_had_fails_alone(pytester: pytest.Pytester, code: str, message: str) -> None:
    """The test fails at its set-up with the reason, and the others run."""
    result = run(pytester, f"{code}\n\nasync def test_other(): pass\n")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines([f"*test_it: aioconc: {message}"])


def test_strict_mode_needs_the_mark_of_the_runner(pytester: pytest.Pytester) -> None:
    """Our mark does not say who runs a test; without `asyncio` nobody does."""
    result = run(pytester, "@marked\nasync def test_it(): pass", mode="strict")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*strict mode; add @pytest.mark.asyncio, or set *"])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("marked", "the mark asks for virtual time, but the test runs on *not in pytest.param*"),
        (
            'marked(virtual_time=False, schedule="d2")',
            "the mark asks for schedule d2, but the test runs on a loop without one*",
        ),
    ],
)
def test_mark_that_comes_too_late_is_told(
    pytester: pytest.Pytester, mark: str, message: str
) -> None:
    """A mark in `pytest.param` is not there yet when the loop is chosen."""
    code = f"""
@pytest.mark.parametrize("n", [1, pytest.param(2, marks={mark})])
async def test_it(n): pass
"""
    result = run(pytester, code)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*test_it?2?: aioconc: {message}"])


def test_interpreter_without_schedules_is_told(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the order of tasks cannot be chosen, a schedule is refused and virtual time works."""

    def fail() -> None:
        raise RuntimeError("schedules cannot be chosen here; virtual time works")

    monkeypatch.setattr(_loop, "check_schedules_work", fail)
    code = '@marked(schedule="d2")\nasync def test_it(): pass\n\n@marked\nasync def test_other(): pass\n'
    result = run(pytester, code)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*test_it: aioconc: schedules cannot be chosen here; *"])


def test_looptime_is_refused(pytester: pytest.Pytester) -> None:
    """Another plugin that replaces the class of every loop is named; other tests are let be."""
    pytester.mkpydir("looptime").joinpath("plugin.py").write_text("")
    code = "@marked\nasync def test_it(): pass\n\nasync def test_other(): pass\n"
    write(pytester, code)
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess("-p", "looptime.plugin")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*aioconc: looptime is active, *-p no:looptime_plugin*"])


def test_old_pytest_asyncio_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 1.4 there is no way to hand it a loop; the message says which version has one."""
    import pytest_asyncio.plugin as plugin

    class OlderSpecs:
        @pytest.hookspec
        def pytest_asyncio_something_else(self) -> None: ...

    monkeypatch.setattr(plugin, "PytestAsyncioSpecs", OlderSpecs)
    monkeypatch.setattr(plugin, "_collect_hook_loop_factories", lambda config, item: None)
    monkeypatch.setattr(plugin.PytestAsyncioFunction, "setup", pytest.Function.setup)
    result = run(pytester, "@marked\nasync def test_it(): pass\n\nasync def test_other(): pass")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*it takes pytest-asyncio 1.4 or newer *"])


def test_choice_among_loops_of_the_project_is_refused(pytester: pytest.Pytester) -> None:
    """`asyncio(loop_factories=...)` and our mark cannot both choose the loop."""
    pytester.makeconftest(
        "import asyncio\ndef pytest_asyncio_loop_factories(config, item):\n"
        "    return {'stock': asyncio.new_event_loop}\n"
    )
    code = '@pytest.mark.asyncio(loop_factories=["stock"])\nasync def test_{}(): pass\n\n'
    result = run(pytester, "@marked\n" + code.format("it") + code.format("other"))
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*asks for a loop of its own, and asyncio(loop_factories=...)*"])
