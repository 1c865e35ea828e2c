"""Runs a script in an interpreter of its own, as a user would, and shows all that it said."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Seconds. Only a program that leaves something behind, and fails its test, is watched so long.
PATIENCE = 10.0


@dataclass(frozen=True)
class Ended:
    """What is left of a program that has ended."""

    status: int
    out: str
    err: str
    # The processes that it started and that have not ended with it, one line each.
    left: list[str]

    @property
    def lines(self) -> list[str]:
        return self.out.split()


def run_script(folder: Path, code: str, *options: str, timeout: float = 40) -> Ended:
    """Run `code` as a file; a script that does not end is killed with all its children."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    return run_python(folder, [*options, str(script)], timeout=timeout)


def run_python(folder: Path, arguments: Sequence[str], timeout: float = 40) -> Ended:
    """Run Python with `arguments` in `folder`, to its end and to the end of its children."""
    process = start_python(folder, arguments)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _kill_all(process.pid)
        out, err = process.communicate()
        raise AssertionError(f"the program did not end\n{out}\n{err}") from None
    left = _left_of(process.pid)
    if left:
        _kill_all(process.pid)
    return Ended(process.returncode, out, err, left)


def start_script(script: Path, *options: str) -> "subprocess.Popen[str]":
    return start_python(script.parent, [*options, str(script)])


def start_python(folder: Path, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    )


def is_gone(pid: int) -> bool:
    """Does no process have this id any more, give or take the time a killed one needs to end?"""
    return _in_time(lambda: _status(pid) is None)


def _left_of(session: int) -> list[str]:
    """The live processes of this session, once they had time to end."""
    _in_time(lambda: not _members(session))
    return _members(session)


def _members(session: int) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _status(int(folder.name))
            if fields is not None and int(fields[3]) == session:
                with contextlib.suppress(OSError):
                    shown = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(f"{folder.name}: {shown}")
    return found


def _status(pid: int) -> list[str] | None:
    """State, parent, group, session, ... of a live process, as in /proc/PID/stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # A dead one that whoever inherited it has not looked at yet counts as gone.
    return None if fields[0] == "Z" else fields


def _in_time(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return met


def _kill_all(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
