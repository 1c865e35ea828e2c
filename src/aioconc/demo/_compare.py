"""Compares five ways to do the same work: wall time, loop stalls, memory, and faults survived.

Every measurement is a process of its own. First each approach reads pages without faults, one
approach at a time, for the figures; then each meets the faults, with a deadline, and what it
printed until it ended says what it survived. Nothing is assumed about any of them.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aioconc import gather_limited
from aioconc.demo._approaches import NAMES
from aioconc.demo._faults import CURABLE, Kind
from aioconc.demo._measured import Task
from aioconc.demo._server import Plan

# More than the longest honest answer to a hang: the parse timeout of 1.5 s, and a start.
DEADLINE = 5.0
_CLEAN_DEADLINE = 60.0
# How many of the measurements with faults run at once; they are not timed, and most of them wait.
_AT_ONCE = 7
# Faults that a run can have together without one hiding what another does.
# Those that wait longest come first, so that the others run beside them.
_GROUPS: tuple[tuple[Kind, ...], ...] = (
    (Kind.HANG,),
    (Kind.FLAKY, Kind.BROKEN, Kind.THROTTLED, Kind.SLOW, Kind.RESET),
    (Kind.UNPICKLABLE,),
    (Kind.CRASH,),
)


@dataclass(frozen=True, slots=True)
class Survival:
    """Whether one approach survived one fault, and what happened."""

    survived: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What was measured of one approach. `stall` is None where there is no event loop."""

    name: str
    pages: int
    wall: float
    stall: float | None
    memory: int  # bytes: the peaks of its processes, added up
    processes: int
    survival: dict[Kind, Survival]

    @property
    def survived(self) -> int:
        return sum(each.survived for each in self.survival.values())

    def line(self) -> str:
        stall = "no loop" if self.stall is None else f"{self.stall * 1000:.0f} ms worst stall"
        return (
            f"{self.name:<24} {self.wall:5.1f} s  {stall:<20} {self.memory / 1e6:5.0f} MB  "
            f"{self.survived} of {len(self.survival)} faults survived"
        )


@dataclass
class Outcome:
    """What a measured process printed, and how it ended."""

    errors: dict[str, str | None] = field(default_factory=dict)  # address -> None or the error
    figures: dict[str, Any] = field(default_factory=dict)
    status: int | None = None  # None: killed at the deadline
    memory: dict[int, int] = field(default_factory=dict)  # pid -> peak in bytes

    @property
    def ended_well(self) -> bool:
        return self.status == 0 and bool(self.figures)

    @property
    def ending(self) -> str:
        if self.status is None:
            return f"never ended; killed after {DEADLINE:g} s"
        if self.status < 0:
            return f"the program was killed by {signal.Signals(-self.status).name}"
        return f"the whole program ended with exit status {self.status}"


async def compare(
    plan: Plan, port: int, *, quick: bool, told: Callable[[int, int, str], object]
) -> AsyncIterator[Compared]:
    """Measure every approach; gives each when all of it is known.

    `told(done, total, what)` hears of every measurement that is done.
    """
    faulty = {fault.page: fault.kind for fault in plan.faults}
    clean = [
        f"http://{host}:{port}/{page}" for page, host in plan.pages.items() if page not in faulty
    ][: 12 if quick else 30]
    addresses = {
        fault.kind: f"http://{plan.pages[fault.page]}:{port}/{fault.page}" for fault in plan.faults
    }
    few = clean[:6]
    trials = [
        (name, kinds, _mixed(few, [addresses[kind] for kind in kinds]))
        for kinds in _GROUPS
        for name in NAMES
    ]
    done = 0

    async def counted(task: Task, deadline: float = DEADLINE) -> Outcome:
        nonlocal done
        outcome = await measure(task, deadline=deadline)
        done += 1
        told(done, len(NAMES) + len(trials), "programs measured")
        return outcome

    told(done, len(NAMES) + len(trials), "programs measured")
    timed = [await counted(Task(name, clean, "none"), _CLEAN_DEADLINE) for name in NAMES]
    outcomes = await gather_limited(
        (counted(Task(name, urls, f"{name} {kinds[0]}")) for name, kinds, urls in trials),
        limit=_AT_ONCE,
    )
    for name, clean_run in zip(NAMES, timed, strict=True):
        survival = {
            kind: _survived(kind, addresses[kind], few, outcome)
            for kind in Kind
            for (each, kinds, _), outcome in zip(trials, outcomes, strict=True)
            if each == name and kind in kinds
        }
        yield Compared(
            name=name,
            pages=len(clean),
            wall=clean_run.figures.get("wall", float("nan")),
            stall=clean_run.figures.get("stall"),
            memory=sum(clean_run.memory.values()),
            processes=len(clean_run.memory),
            survival=survival,
        )


def _mixed(clean: Sequence[str], faulty: Sequence[str]) -> list[str]:
    """The faulty pages in the midst of the others."""
    return [*clean[:2], *faulty, *clean[2:]]


def _survived(kind: Kind, url: str, clean: Sequence[str], outcome: Outcome) -> Survival:
    """Judge by what was printed: the page itself, its neighbours, and the end of the program."""
    unread = [each for each in clean if outcome.errors.get(each, "") is not None]
    error = outcome.errors.get(url, "never read")
    if not outcome.ended_well:
        lost = f"; {len(unread)} of {len(clean)} good pages lost" if unread else ""
        return Survival(False, f"{outcome.ending}{lost}")
    if unread:
        reason = outcome.errors.get(unread[0]) or "never read"
        return Survival(
            False,
            f"{len(unread)} of {len(clean)} good pages lost with it: {reason}",
        )
    if kind in CURABLE:
        return Survival(error is None, "page read" if error is None else f"page lost: {error}")
    if error is None:
        return Survival(False, "the fault was not met")
    return Survival(url in outcome.errors, f"page reported: {error}")


async def measure(task: Task, *, deadline: float = DEADLINE) -> Outcome:
    """Run one approach in a process of its own, for at most `deadline` seconds."""
    outcome = Outcome()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aioconc.demo._measured",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # How the naive approaches die is told by what they did, not by pages of traceback.
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # so that all of its processes can be killed together
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(task.to_json().encode() + b"\n")
        async with asyncio.timeout(deadline):
            await _listen(process, outcome)
            outcome.status = await process.wait()
    except TimeoutError:
        outcome.status = None
    finally:
        _kill_group(process.pid)
        process.stdin.close()
        await process.wait()
    return outcome


async def _listen(process: asyncio.subprocess.Process, outcome: Outcome) -> None:
    assert process.stdout is not None
    watch = asyncio.create_task(_watch_memory(process.pid, outcome.memory))
    try:
        async for line in process.stdout:
            message = json.loads(line)
            if "url" in message:
                outcome.errors[message["url"]] = message["error"]
            else:
                outcome.figures = message
                _note_memory(process.pid, outcome.memory)
    finally:
        watch.cancel()
        await asyncio.wait((watch,))


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it and all that it started are gone


async def _watch_memory(pid: int, peaks: dict[int, int]) -> None:
    while True:
        _note_memory(pid, peaks)
        await asyncio.sleep(0.1)


def _note_memory(pid: int, peaks: dict[int, int]) -> None:
    """Take down the peak of a process and of all its descendants, as the kernel counts it.

    Not `getrusage`: its peak of a program started from here would begin with this one's.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, ValueError):
        return  # gone, or a system without /proc
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            peaks[pid] = max(peaks.get(pid, 0), int(line.split()[1]) * 1024)
    for child in children:
        _note_memory(child, peaks)
