"""How failures read in a terminal: the finding, the user's lines, and how to see it again."""

from typing import Any

import pytest

from aioconc.testing import no_leaks
from aioconc.testing._plugin import _order
from tests.unit.testing.plugin_runs import passes, run

pytest_plugins = ["pytester"]

DEADLOCK = """
async def both(first, second):
    async with first:
        await asyncio.sleep(1)
        async with second:
            pass

@pytest_asyncio.fixture
async def server():
    queue = asyncio.Queue()
    task = asyncio.create_task(queue.get())
    yield
    await asyncio.sleep(1)
    queue.put_nowait(None)
    await task
    print("the fixture has ended")

@marked
async def test_deadlock(server):
    a, b = asyncio.Lock(), asyncio.Lock()
    ended = []
    try:
        await asyncio.gather(both(a, b), both(b, a))
    finally:
        await asyncio.sleep(1)
        print("the test has cleaned up")
"""


def failures(result: Any) -> list[str]:
    """The lines of the section about failures."""
    lines: list[str] = result.outlines
    begin = next(at for at, line in enumerate(lines) if "= FAILURES =" in line)
    end = next(at for at, line in enumerate(lines) if "short test summary" in line)
    return lines[begin + 1 : end]


def test_deadlock_reads_as_who_waits_for_whom(pytester: pytest.Pytester) -> None:
    """The graph and nothing of asyncio; then the test and its fixtures end as they should."""
    result = run(pytester, DEADLOCK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_deadlock _*",
            "E *DeadlockError: deadlock: *",
            "*circle: *Lock#*held by*Lock#*",
            "*test_it.py:* in both",
            "*the test has cleaned up*",
            "*the fixture has ended*",
            "FAILED *::test_deadlock - *DeadlockError*",
        ]
    )
    section = failures(result)
    assert not [line for line in section if "asyncio/" in line or "aioconc/" in line]
    assert len(section) < 25


@pytest.mark.parametrize("last", ["asyncio.Event().wait()", "tasks[0]"])
def test_tasks_that_await_each_other_read_as_a_deadlock(
    pytester: pytest.Pytester, last: str
) -> None:
    """Though `Task.cancel` cannot end them, and goes round until the interpreter stops it."""
    result = run(
        pytester,
        """
@marked
async def test_it():
    tasks = []

    async def wait_for(other):
        await asyncio.sleep(0)
        await tasks[other]

    tasks += [asyncio.create_task(wait_for(1)), asyncio.create_task(wait_for(0))]
    await LAST
""".replace("LAST", last),
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *DeadlockError: deadlock: *"])
    assert not [line for line in failures(result) if "RecursionError" in line]


@pytest.mark.parametrize("style", ["short", "long"])
def test_finding_in_the_test_shows_its_line(pytester: pytest.Pytester, style: str) -> None:
    """What `explore` found shows the line that called it, the line that failed, and no other."""
    code = """
async def program():
    total = 0
    async def add():
        nonlocal total
        before = total
        await asyncio.sleep(0)
        total = before + 1
    await asyncio.gather(add(), add())
    assert total == 2, "lost"

def test_explores():
    explore(program)
"""
    result = run(pytester, code, f"--tb={style}")
    result.assert_outcomes(failed=1)
    section = failures(result)
    assert [line for line in section if "explore(program)" in line]
    assert [line for line in section if 'assert total == 2, "lost"' in line]
    assert not [line for line in section if "aioconc/" in line or "asyncio/" in line]


def test_full_trace_hides_nothing(pytester: pytest.Pytester) -> None:
    """Who wants to see the inside sees it."""
    result = run(pytester, DEADLOCK, "--full-trace")
    assert [line for line in failures(result) if "aioconc/testing/_idle.py" in line]


def test_other_failures_are_as_ever(pytester: pytest.Pytester) -> None:
    """The report of a failed assertion is the same with and without the mark."""
    code = "\nasync def test_it():\n    await asyncio.sleep(0)\n    assert 1 == 2\n"
    plain = failures(run(pytester, f"# comment{code}"))
    marked = failures(run(pytester, f"@marked{code}"))
    assert [line for line in marked if "@marked" not in line] == plain


def test_schedule_is_shown_with_the_line_that_replays_it(pytester: pytest.Pytester) -> None:
    """A test that fails under a schedule says which, and the command shown fails the same way."""
    code = """
@marked
@pytest.mark.parametrize("name", ["a b"])
async def test_order(name):
    done = []
    async def note(n): done.append(n)
    await asyncio.gather(note(1), note(2))
    assert done == [1, 2]
"""
    result = run(pytester, code, "--aioconc-schedules=6")
    shown = [line.strip() for line in result.outlines if "--aioconc-schedule=" in line]
    assert shown
    command, selected, option = shown[0].partition("pytest ")[2].rpartition(" --")
    assert command == "'test_it.py::test_order[a b]'"
    replayed = pytester.runpytest_inprocess(command.strip("'"), f"--{option}", "-p", "no:randomly")
    replayed.assert_outcomes(failed=1)
    usual = pytester.runpytest_inprocess(command.strip("'"), "--aioconc-schedule=fifo")
    passes(usual, 1)
    assert selected


def test_hang_leaves_the_loop_to_the_tests_that_share_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a deadlock on a loop of wider scope its tasks are gone, and the next test runs."""
    monkeypatch.setitem(no_leaks.__init__.__kwdefaults__, "patience", 0.02)  # type: ignore[index]
    code = """
pytestmark = [marked, pytest.mark.asyncio(loop_scope="module")]

kept = []

async def test_hangs():
    kept.append(asyncio.create_task(asyncio.Event().wait()))
    await asyncio.Event().wait()

async def test_next():
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await asyncio.sleep(10)

async def test_does_not_end_at_once():
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.Event().wait()
"""
    result = run(pytester, code)
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*when its tasks were cancelled, they did not end: deadlock*"])


def test_livelock_names_who_is_busy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that asks again and again while no time passes fails with the task's name."""
    monkeypatch.setattr(_order, "MAX_STEPS", 5_000)
    code = """
@marked
async def test_spins():
    asyncio.current_task().set_name("the busy one")
    while True:
        await asyncio.sleep(0)
"""
    result = run(pytester, code)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *LivelockError: *the busy one*"])


def test_cancel_and_verdict_of_the_tests_own_are_its_failures(pytester: pytest.Pytester) -> None:
    """A test that cancels itself, or raises what a nested run has found, has ended by itself."""
    code = """
from aioconc.errors import DeadlockError

@marked
async def test_cancels():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)

@marked
async def test_raises():
    raise DeadlockError("found by hand")
"""
    result = run(pytester, code)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E *CancelledError*",
            ">*raise DeadlockError(*",
            "E *DeadlockError: found by hand",
        ]
    )
