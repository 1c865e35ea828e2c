"""What cancelling at every await has shown: one `CancelPoint` for each, and all of them as a table.

Values only, made of text and numbers, so that a report holds no task alive and can be pickled.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aioconc.testing._probe import Phase


@dataclass(frozen=True)
class CancelPoint:
    """One place at which the target was cancelled, and what came of it.

    Attributes:
        k: number of the suspension of the target tasks, from 1; for "start": of the target, from 0.
        phase: "start": before the first step of the task. "suspended": while what it awaited was
            pending. "ready": when that was done, and the task had not gone on yet.
        task: name of the task that was cancelled; "root" for the one that runs `fn`.
        site: `file:line in function` of the await.
        source: text of that line.
        outcome: how the cancelled task ended. "cancelled"; "swallowed": by returning, or by the
            exception that it also raises undisturbed; "raised": by another exception; "hung": not
            at all; "not reached": it was not cancelled, since the run ended before or went another
            way.
        delays: `file:line in function: source` of the awaits that the task began after it was
            cancelled: clean-up, or a swallowed cancel. The first five of them.
        delay_count: how many those were.
        problems: what was wrong, one text each; empty if nothing was.
    """

    k: int
    phase: Phase
    task: str
    site: str
    source: str
    outcome: Literal["cancelled", "swallowed", "raised", "hung", "not reached"]
    delays: tuple[str, ...] = ()
    delay_count: int = 0
    problems: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether anything was wrong."""
        return bool(self.problems)

    @property
    def where(self) -> str:
        """Site and source on one line, as seen from the working directory."""
        site = self.site.removeprefix(str(Path.cwd()) + os.sep)
        return f"{site}: {self.source}" if self.source else site

    def __str__(self) -> str:
        label = f"FAILED, {self.outcome}" if self.failed else self.outcome
        if self.delay_count:
            label += f" after {self.delay_count} more"
        lines = [f"{self.k:5d} {self.phase:<9} {label:<22} {self.task}  {self.where}"]
        for each in self.problems:
            first, *more = each.splitlines()
            lines += [f"        ! {first}", *(f"          {line}" for line in more)]
        if self.delay_count:
            lines += [f"        - then at {each}" for each in self.delays]
            if self.delay_count > len(self.delays):
                lines.append(f"        - and {self.delay_count - len(self.delays)} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class CancelReport:
    """What `cancel_everywhere` has done; its text is a table of the points.

    Attributes:
        name: of the function.
        points: each place and phase, in the order of the run.
        suspensions: how often the target tasks suspended in the undisturbed run.
        undisturbed: how that run ended: "returned", or "raised ValueError: ...".
    """

    name: str
    points: tuple[CancelPoint, ...]
    suspensions: int
    undisturbed: str = "returned"

    @property
    def failures(self) -> tuple[CancelPoint, ...]:
        """Those at which something was wrong."""
        return tuple(each for each in self.points if each.failed)

    @property
    def swallowed(self) -> tuple[CancelPoint, ...]:
        """Those at which the task that was cancelled ended as if it had not been."""
        return self._with("swallowed")

    @property
    def delayed(self) -> tuple[CancelPoint, ...]:
        """Those at which the task went on to further awaits before it ended."""
        return tuple(each for each in self.points if each.delay_count)

    @property
    def not_reached(self) -> tuple[CancelPoint, ...]:
        """Those at which nothing was cancelled: the run ended before, or went another way."""
        return self._with("not reached")

    def _with(self, outcome: str) -> tuple[CancelPoint, ...]:
        return tuple(each for each in self.points if each.outcome == outcome)

    @property
    def summary(self) -> str:
        """The counts, on one line."""
        counts = (
            (len(self.failures), "failed"),
            (len(self.swallowed), "swallowed"),
            (len(self.delayed), "delayed"),
            (len(self.not_reached), "not reached"),
        )
        told = [f"{len(self.points)} points"] + [f"{count} {what}" for count, what in counts]
        text = f"{self.name}: {self.suspensions} suspensions, {', '.join(told)}"
        if self.undisturbed != "returned":
            # Such a test may be about less than it seems: the same is no finding after a cancel.
            text += f" (undisturbed it {self.undisturbed})"
        return text

    def __str__(self) -> str:
        return "\n".join([self.summary, *map(str, self.points)])


def failure_text(report: CancelReport, most: int = 20) -> str:
    """The message of a `CancelFailure`: every failing point, in full for the first ones."""
    failures = report.failures
    lines: Iterable[str] = map(str, failures[:most])
    text = "\n".join([report.summary, *lines])
    if len(failures) > most:
        others = ", ".join(f"{each.k} {each.phase}" for each in failures[most:])
        text += f"\n... and at {others}"
    return text
