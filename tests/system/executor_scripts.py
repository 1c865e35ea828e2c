"""Runs a script in an interpreter of its own, as a user would, and shows all that it said."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """What is left of a script that has ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.split()


def run_script(folder: Path, code: str, *options: str, timeout: float = 40) -> Ended:
    """Run `code` as a file; a script that does not end is killed with all its children."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    process = start_script(script, *options)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the script did not end\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def start_script(script: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *options, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=script.parent,
        start_new_session=True,
    )


def is_gone(pid: int) -> bool:
    """Does no process have this id any more, give or take the time a killed one needs to end?"""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # dead; whoever inherited it has not looked yet
            return True
        time.sleep(0.01)
    return False
