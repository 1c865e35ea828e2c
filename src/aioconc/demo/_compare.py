"""Compares five ways to do the same work: wall time, loop stalls, memory, and faults survived.

Every measurement is a process of its own. First each approach reads pages without faults, one
approach at a time, in several rounds, so that a busy moment of the machine hits all alike and the
spread is known; then each meets the faults, with a deadline, and what it printed until it ended
says what it survived. Nothing is assumed about any of them.
"""

import asyncio
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aioconc import gather_limited
from aioconc.demo._approaches import NAMES
from aioconc.demo._faults import CURABLE, Kind
from aioconc.demo._measured import Task
from aioconc.demo._server import Plan

# How long a page may take to parse, for the way that can say so, and how long a program that meets a
# hang may take: what was seen of it without faults, on this machine and now, and then some.
_PARSE_TIMEOUT = 1.5
DEADLINE = 3.0
_PATIENT_DEADLINE = 30.0  # for what is not expected to hang
# Rounds of the clean runs, and seconds after which no further one is begun; two are always made.
# Enough to see which differences are noise, in a demo that has to end soon.
ROUNDS = 3
_ROUNDS_BUDGET = 8.0
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
class Figure:
    """One quantity, measured once in each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one; NaN if no round ended."""
        return statistics.median(self.rounds) if self.rounds else math.nan

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest."""
        return (min(self.rounds), max(self.rounds)) if self.rounds else (math.nan, math.nan)

    def text(self, unit: str, *, factor: float = 1.0, digits: int = 0) -> str:
        """Median and spread for people: `1.2 s (1.1-1.5)`."""
        if not self.rounds:
            return "did not end"
        least, most = (f"{each * factor:.{digits}f}" for each in self.spread)
        between = f" ({least}-{most})" if least != most else ""
        return f"{self.median * factor:.{digits}f} {unit}{between}"


@dataclass(frozen=True, slots=True)
class Compared:
    """What was measured of one approach. `stall` is None where there is no event loop."""

    name: str
    pages: int
    wall: Figure  # seconds
    stall: Figure | None  # seconds: the worst of each round
    memory: Figure  # bytes: the peaks of its processes, added up
    processes: int
    survival: dict[Kind, Survival]

    @property
    def survived(self) -> int:
        return sum(each.survived for each in self.survival.values())

    def line(self) -> str:
        stall = "no loop" if self.stall is None else f"stall {self.stall.text('ms', factor=1000)}"
        return (
            f"{self.name:<24} {self.wall.text('s', digits=1):<17} {stall:<24} "
            f"{self.memory.median / 1e6:4.0f} MB  "
            f"{self.survived} of {len(self.survival)} faults survived"
        )


@dataclass
class Outcome:
    """What a measured process printed, and how it ended."""

    errors: dict[str, str | None] = field(default_factory=dict)  # address -> None or the error
    figures: dict[str, Any] = field(default_factory=dict)
    status: int | None = None  # None: killed at the deadline
    memory: dict[int, int] = field(default_factory=dict)  # pid -> peak in bytes
    deadline: float = DEADLINE

    @property
    def ended_well(self) -> bool:
        return self.status == 0 and bool(self.figures)

    @property
    def ending(self) -> str:
        if self.status is None:
            return f"never ended; killed after {self.deadline:.0f} s"
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
    ][: 8 if quick else 12]
    addresses = {
        fault.kind: f"http://{plan.pages[fault.page]}:{port}/{fault.page}" for fault in plan.faults
    }
    few = clean[:6]
    trials = [
        (name, kinds, _mixed(few, [addresses[kind] for kind in kinds]))
        for kinds in _GROUPS
        for name in NAMES
    ]
    done, rounds = 0, ROUNDS
    outcomes: dict[str, list[Outcome]] = {name: [] for name in NAMES}

    async def counted(task: Task, deadline: float) -> Outcome:
        nonlocal done
        outcome = await measure(task, deadline=deadline)
        done += 1
        told(done, len(NAMES) * rounds + len(trials), "programs measured")
        return outcome

    told(done, len(NAMES) * rounds + len(trials), "programs measured")
    started = time.monotonic()
    for number in range(ROUNDS):
        if number >= 2 and time.monotonic() - started > _ROUNDS_BUDGET:
            rounds = number
            break
        # Each time another one goes first, so that none always follows the same.
        for name in (*NAMES[number:], *NAMES[:number]):
            outcomes[name].append(await counted(Task(name, clean, "none"), _PATIENT_DEADLINE))

    slowest = {
        name: max((one.figures.get("wall", 0.0) for one in each), default=0.0)
        for name, each in outcomes.items()
    }
    # Several run at once now, so that each is slower than it was alone.
    parse_timeout = _PARSE_TIMEOUT + 2 * slowest["aioconc"]
    tried = await gather_limited(
        (
            counted(
                Task(name, urls, f"{name} {kinds[0]}", parse_timeout),
                DEADLINE + parse_timeout + slowest[name]
                if Kind.HANG in kinds
                else _PATIENT_DEADLINE,
            )
            for name, kinds, urls in trials
        ),
        limit=_AT_ONCE,
    )
    for name, clean_runs in outcomes.items():
        survival = {
            kind: _survived(kind, addresses[kind], few, outcome)
            for kind in Kind
            for (each, kinds, _), outcome in zip(trials, tried, strict=True)
            if each == name and kind in kinds
        }
        yield _compared(name, len(clean), clean_runs, survival)


def _compared(
    name: str, pages: int, clean_runs: Sequence[Outcome], survival: dict[Kind, Survival]
) -> Compared:
    """The figures of the rounds that ended, together."""
    ended = [each for each in clean_runs if each.ended_well]
    stalls = [each.figures["stall"] for each in ended]
    return Compared(
        name=name,
        pages=pages,
        wall=Figure(tuple(each.figures["wall"] for each in ended)),
        stall=None if None in stalls else Figure(tuple(stalls)),
        memory=Figure(tuple(float(sum(each.memory.values())) for each in ended)),
        processes=max((len(each.memory) for each in ended), default=0),
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
    outcome = Outcome(deadline=deadline)
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
