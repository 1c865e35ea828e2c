"""What the user sees while the demo runs: plain lines, a live view on a terminal, or nothing.

All three are told the same things and read the same `Run`, so they cannot disagree. Nothing here
changes what is done.
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from aioconc.demo._verdicts import Verdict

if TYPE_CHECKING:
    from aioconc.demo._compare import Compared
    from aioconc.demo._demo import Run


class Screen:
    """Shows nothing; the base of those that do."""

    def phase(self, title: str) -> None:
        """A new part of the run begins."""

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def progress(self, done: int, total: int, what: str) -> None:
        """So much of the present part is done."""

    def planned(self, run: "Run") -> None:
        """The faults are drawn."""

    def draw(self, run: "Run") -> None:
        """The crawl has moved on."""

    def compared(self, result: "Compared") -> None:
        """One more way to do the same is measured."""

    def close(self) -> None:
        """The run is over; leave the terminal as it was."""

    def summary(self, run: "Run", report: "Path") -> None:
        """What came of it, in a few lines."""


class PlainScreen(Screen):
    """One line for each thing worth a line; for logs and pipes."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._shown: set[str] = set()
        self._next_line = 0.0
        self._over = False  # the crawl's last line is said

    def _say(self, text: str = "") -> None:
        print(text, file=self._out, flush=True)

    def phase(self, title: str) -> None:
        self._say(title)

    def note(self, text: str) -> None:
        self._say(text)

    def progress(self, done: int, total: int, what: str) -> None:
        if done in (0, total):
            self._say(f"  {done} of {total} {what}")

    def planned(self, run: "Run") -> None:
        self._say(f"Faults on the way (seed {run.options.seed}):")
        for fault in run.faults:
            self._say(f"  [ ] {fault.title}  ({fault.page})")

    def draw(self, run: "Run") -> None:
        for verdict in run.verdicts():
            if verdict.state != "pending" and verdict.url not in self._shown:
                self._shown.add(verdict.url)
                self._say(verdict_line(verdict))
        if run.frontier is None or self._over:
            return
        self._over = run.journal.ended is not None
        if self._over or time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 1
            self._say(f"  {progress_line(run)}")

    def compared(self, result: "Compared") -> None:
        self._say(f"  {result.line()}")

    def summary(self, run: "Run", report: "Path") -> None:
        for line in summary_lines(run, report):
            self._say(line)


def summary_lines(run: "Run", report: "Path") -> list[str]:
    journal, verdicts = run.journal, run.verdicts()
    lines = []
    if verdicts:
        handled = sum(verdict.state == "handled" for verdict in verdicts)
        lines.append(
            f"{len(verdicts)} faults injected, {handled} handled, {len(journal.pages)} pages "
            f"indexed, {len(journal.failures)} given up"
        )
        lines += [
            f"Not handled yet: {verdict.fault.title}: {verdict.detail}"
            for verdict in verdicts
            if verdict.state != "handled"
        ]
    else:
        lines.append(f"{len(journal.pages)} pages indexed, {len(journal.failures)} given up")
    if run.interrupted:
        lines.append("Interrupted; what was done until then is kept.")
    return [*lines, f"Report: {report}"]


def choose_screen(out: TextIO) -> Screen:
    """A live view where `out` is a terminal that can show one, else plain lines."""
    if out.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from aioconc.demo._live import LiveScreen

        return LiveScreen(out)
    return PlainScreen(out)


def verdict_line(verdict: Verdict) -> str:
    mark = "x" if verdict.state == "handled" else "!"
    return f"  [{mark}] {verdict.fault.title}: {verdict.detail}"


def progress_line(run: "Run") -> str:
    journal = run.journal
    return (
        f"{len(journal.pages)} indexed, {len(journal.failures)} given up, {journal.found} found, "
        f"{journal.in_flight('fetch')} fetching, {journal.in_flight('parse')} parsing, "
        f"{journal.seconds:.1f} s"
    )
