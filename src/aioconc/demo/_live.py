"""The live view on a terminal: one screen that is redrawn in place.

`picture` makes the lines from the state of a run, so it can be read and tested without a
terminal; `LiveScreen` puts them there with a few escape sequences, leaves the cursor as it was,
and shows no colours where NO_COLOR is set (no-color.org).
"""

import os
import platform
import re
import shutil
import time
from typing import TYPE_CHECKING, TextIO

from aioconc.demo._screen import Screen, summary_lines

if TYPE_CHECKING:
    from pathlib import Path

    from aioconc.demo._compare import Compared
    from aioconc.demo._demo import Run

_STYLES = {"bold": "1", "dim": "2", "green": "32", "red": "31", "cyan": "36", "blue": "34"}
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = 34


class Style:
    """Colours and signs, as far as the terminal has them."""

    def __init__(self, *, colour: bool, unicode: bool) -> None:
        self._colour = colour
        self.full, self.empty = ("\u2588", "\u2591") if unicode else ("#", ".")
        self.yes, self.no, self.wait = (
            ("\u2713", "\u2717", "\u00b7") if unicode else ("x", "!", " ")
        )
        self.dot = " \u00b7 " if unicode else ", "

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colour else text

    def bar(self, done: int, total: int) -> str:
        filled = round(_BAR * done / total) if total else 0
        return self("cyan", self.full * filled) + self("dim", self.empty * (_BAR - filled))


class LiveScreen(Screen):
    """Redraws one picture until it is closed; the last one stays."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = 0  # lines of the picture on the terminal
        self._progress: dict[str, tuple[int, int, str]] = {}
        self._phase = ""
        self._notes: list[str] = []  # said at the end, where the picture stays
        self._run: Run | None = None
        self._started = time.monotonic()
        self._style = Style(
            colour=not os.environ.get("NO_COLOR"),
            unicode=(out.encoding or "").lower().replace("-", "") == "utf8",
        )
        out.write("\x1b[?25l")

    def phase(self, title: str) -> None:
        self._phase = title.partition(":")[0]
        self._redraw()

    def note(self, text: str) -> None:
        self._notes.append(text)

    def progress(self, done: int, total: int, what: str) -> None:
        self._progress[self._phase] = (done, total, what)
        self._redraw()

    def planned(self, run: "Run") -> None:
        self.draw(run)

    def draw(self, run: "Run") -> None:
        self._run = run
        self._redraw()

    def compared(self, result: "Compared") -> None:
        self._redraw()

    def close(self) -> None:
        self._redraw()
        self._out.write("\x1b[?25h")
        self._out.flush()

    def summary(self, run: "Run", report: "Path") -> None:
        self._out.write("\n")
        for line in [*self._notes, *summary_lines(run, report)]:
            self._out.write(f" {line}\n")
        self._out.flush()

    def _redraw(self) -> None:
        if self._run is None:
            return
        width, height = shutil.get_terminal_size()
        elapsed = time.monotonic() - self._started
        lines = picture(self._run, self._progress, elapsed, self._style)[: height - 1]
        # Back to the first line of the last picture; each line clears what is left of the old.
        text = f"\x1b[{self._drawn}F" if self._drawn else ""
        text += "".join(f"{clip(line, width)}\x1b[K\n" for line in lines)
        self._out.write(text + "\x1b[J")
        self._out.flush()
        self._drawn = len(lines)


def clip(line: str, width: int) -> str:
    """The line cut to `width` columns, its escape sequences kept."""
    shown, parts, at = 0, [], 0
    for escape in _ESCAPES.finditer(line):
        text = line[at : escape.start()][: max(0, width - shown)]
        shown += len(text)
        parts += [text, escape.group()]
        at = escape.end()
    return "".join(parts) + line[at:][: max(0, width - shown)]


def picture(
    run: "Run", progress: dict[str, tuple[int, int, str]], elapsed: float, style: Style
) -> list[str]:
    """All lines of the view."""
    title = style.dot.join(
        (f"Python {platform.python_version()}", f"{os.cpu_count()} cores")
        + ((f"seed {run.options.seed}",) if run.faults else ())
    )
    lines = ["", f" {style('bold', 'aioconc demo')}   {style('dim', title)}   {elapsed:.1f} s", ""]
    if "Pages" in progress:
        lines.append(_bar_line("pages", *progress["Pages"], style=style))
    if run.frontier is not None:
        lines += _crawl_lines(run, style)
    if run.faults:
        lines += _fault_lines(run, style)
    if "Comparison" in progress:
        lines += ["", _bar_line("compare", *progress["Comparison"], style=style)]
        lines += [f"           {_compared_line(each, style)}" for each in run.compared]
    return lines


def _bar_line(name: str, done: int, total: int, what: str, *, style: Style) -> str:
    return f" {style('bold', f'{name:<9}')} {style.bar(done, total)}  {done} of {total} {what}"


def _crawl_lines(run: "Run", style: Style) -> list[str]:
    journal = run.journal
    done = len(journal.pages) + len(journal.failures)
    lost = f", {len(journal.failures)} given up" if journal.failures else ""
    indexed = f"pages done, {len(journal.pages)} indexed{lost}"
    facts = style.dot.join(
        (
            f"{journal.in_flight('fetch')} fetching",
            f"{journal.in_flight('parse')} parsing",
            f"longest loop stall {run.heart.worst * 1000:.0f} ms",
            f"{journal.seconds:.1f} s",
        )
    )
    hosts: dict[str, list[int]] = {}
    for span in journal.spans:
        if span.stage == "fetch":
            counts = hosts.setdefault(span.host, [0, 0])
            counts[span.ended is None] += 1
    lines = [
        _bar_line("crawl", done, journal.found, indexed, style=style),
        f"           {style('dim', facts)}",
    ]
    for host, (ended, open_) in [*hosts.items()][:4]:
        dots = style("blue", style.full * open_) if open_ else style("dim", "idle")
        lines.append(f"           {host:<18} {ended:>4} requests  {dots}")
    return lines


def _fault_lines(run: "Run", style: Style) -> list[str]:
    lines = ["", f" {style('bold', 'faults')}"]
    for verdict in run.verdicts():
        match verdict.state:
            case "handled":
                sign = style("green", style.yes)
            case "pending":
                sign = style("dim", style.wait)
            case _:
                sign = style("red", style.no)
        title = f"{verdict.fault.title:<40}"
        shown = style("dim", title) if verdict.state == "pending" else title
        detail = verdict.detail or verdict.fault.page.removesuffix(".html")
        lines.append(f"   {sign} {shown} {style('dim', detail)}")
    return lines


def _compared_line(result: "Compared", style: Style) -> str:
    return style("bold", result.line()) if result.name == "aioconc" else result.line()
