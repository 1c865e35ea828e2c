"""The suite's own guard: it fails a test that leaves something, and passes one that does not.

Each case is a test file that another pytest runs, under this project's configuration.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import loop_variants

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow  # a pytest process for each case, and the guard waits for ends


def outcome(folder: Path, code: str, *options: str) -> str:
    """What pytest prints about a test file with `code`, run inside the project."""
    file = folder / "test_case.py"
    file.write_text(
        f"import asyncio, gc, subprocess, sys, threading, time\nimport pytest\n{code}\n"
    )
    project = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", "-p", "tests.conftest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *project, *options, str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


LEAKS = {
    "task": (
        """
async def test():
    asyncio.get_running_loop().kept = asyncio.create_task(asyncio.sleep(9))
""",
        "the test left tasks:",
    ),
    "thread": (
        """
def test():
    threading.Thread(target=time.sleep, args=(6,), name="lingering").start()
""",
        "thread 'lingering'",
    ),
    "child": (
        """
def test():
    global kept
    kept = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
""",
        "child process",
    ),
    "descriptor": (
        """
def test():
    global kept
    kept = open("/dev/null")
""",
        "-> /dev/null",
    ),
    "coroutine": (
        """
async def test():
    asyncio.sleep(1)
""",
        "was never awaited",
    ),
    "exception": (
        """
async def boom():
    1 / 0
async def test():
    asyncio.create_task(boom())
    await asyncio.sleep(0.01)
""",
        "Task exception was never retrieved",
    ),
    "callback": (
        """
async def test():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
""",
        "Exception in callback",
    ),
}


@pytest.mark.parametrize(("code", "said"), LEAKS.values(), ids=LEAKS.keys())
def test_leak_fails_the_test(tmp_path: Path, code: str, said: str) -> None:
    """What is left behind is named, and the run is not a success."""
    text = outcome(tmp_path, code)
    assert said in text
    assert re.search(r"\d (error|failed).* in [\d.]+s", text), text


def test_clean_test_passes(tmp_path: Path) -> None:
    """What ends with the test is no leak: tasks, threads, children, descriptors."""
    text = outcome(
        tmp_path,
        "async def test():\n"
        "    await asyncio.gather(asyncio.to_thread(time.sleep, 0.01), asyncio.sleep(0))\n"
        "    process = await asyncio.create_subprocess_exec(sys.executable, '-c', 'pass')\n"
        "    await process.wait()\n"
        "    open('/dev/null').close()",
    )
    assert "2 passed" in text, text


def test_what_multiprocessing_keeps_is_no_leak(tmp_path: Path) -> None:
    """Its fork server and its resource tracker stay until the interpreter exits."""
    text = outcome(
        tmp_path,
        "def test():\n"
        "    import multiprocessing\n"
        "    process = multiprocessing.get_context('forkserver').Process(target=print)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    process.close()",
    )
    assert "1 passed" in text, text


def test_what_must_stay_is_named_with_a_reason(tmp_path: Path) -> None:
    """`may_leave` lets a kind of thing stay, and demands a reason."""
    code = "def test(): global F; F = open('/dev/null'); gc.collect()"
    allowed = outcome(tmp_path, f"@pytest.mark.may_leave('fds', reason='a case')\n{code}")
    assert "1 passed" in allowed, allowed
    refused = outcome(tmp_path, f"@pytest.mark.may_leave('fds')\n{code}")
    assert "may_leave needs a reason" in refused


def test_expected_reports_are_cleared(tmp_path: Path) -> None:
    """A test that provokes a report on purpose takes the list and clears it."""
    text = outcome(
        tmp_path,
        "async def test(loop_errors):\n"
        "    asyncio.get_running_loop().call_soon(lambda: 1 / 0)\n"
        "    await asyncio.sleep(0.01)\n"
        "    assert 'ZeroDivisionError' in loop_errors.pop()",
    )
    assert "2 passed" in text, text


def test_marker_chooses_the_loops(tmp_path: Path) -> None:
    """`loops` widens a test to every variant of this Python, or narrows it to those named."""
    everything = outcome(tmp_path, "@pytest.mark.loops('all')\nasync def test(): pass")
    assert f"{len(loop_variants())} passed" in everything, everything
    one = outcome(tmp_path, "@pytest.mark.loops('asyncio')\nasync def test(): pass")
    assert "1 passed" in one, one
    none = outcome(tmp_path, "@pytest.mark.loops('no such loop')\nasync def test(): pass")
    assert "skipped" in none.splitlines()[-1], none
    assert "passed" not in none.splitlines()[-1], none
