"""How every benchmark here measures: the same process, interleaved rounds, medians, ratios.

Contenders are checked for the right answer first and then timed in turn (A B C A B C ...), each
in a fresh event loop with all garbage collected before, so that a machine that is slow for a
moment is slow for all of them. What is measured and against what is
left to the files that ask a question; how each peer answers it is left to `compare/`.
"""

import argparse
import asyncio
import gc
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Ask = Callable[[int], Awaitable[object]]
"""Does so many items and returns something that `Contender.check` can judge."""

LOOPS = ("asyncio", "uvloop")


@dataclass(frozen=True)
class Contender:
    """One way of answering the question, or the reason why it cannot be asked here."""

    name: str
    ask: Ask | None
    count: int = 1
    """Items in one round; slow contenders may get fewer, as results are given per item."""
    missing: str | None = None
    warm: Callable[[], Awaitable[object]] | None = None
    """Awaited in the same loop before the clock starts, where workers must be up first."""


@dataclass
class Timing:
    """What one contender took, in seconds per item, one entry a round."""

    name: str
    count: int
    missing: str | None = None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def rounds(self, clock: str) -> list[float]:
        """Seconds per item of each round, by the clock on the wall or by processor time."""
        return self.cpu if clock == "cpu" else self.wall

    def microseconds(self, clock: str) -> float:
        """The median round, in microseconds per item."""
        return statistics.median(self.rounds(clock)) * 1e6


# ------------------------------------------------------------------ finding the contenders


def load(package: str, answers: Mapping[str, str]) -> dict[str, Callable[..., Any] | str]:
    """Import the answers of `compare.<package>`; one that is not installed becomes the reason.

    Args:
        package: folder below `compare/`.
        answers: name to show -> `"module:function"` in that folder.

    Returns:
        Name -> the function, or a text such as "not installed: aiometer".
    """
    found: dict[str, Callable[..., Any] | str] = {}
    for name, where in answers.items():
        module, _, function = where.partition(":")
        try:
            found[name] = getattr(importlib.import_module(f"compare.{package}.{module}"), function)
        except ModuleNotFoundError as error:
            found[name] = f"not installed: {error.name}"
    return found


def wanted(name: str, only: Sequence[str] | None) -> bool:
    """Whether `--only` (any of several pieces of a name) lets this contender run."""
    return not only or any(piece.lower() in name.lower() for piece in only)


def loops_here(asked: Sequence[str] | None) -> dict[str, Callable[[], Any] | None]:
    """Name of each event loop to run on -> its factory (None where it is not installed)."""
    factories: dict[str, Callable[[], Any] | None] = {"asyncio": asyncio.new_event_loop}
    try:
        factories["uvloop"] = importlib.import_module("uvloop").new_event_loop
    except ModuleNotFoundError:
        factories["uvloop"] = None
    return {name: factories[name] for name in asked or LOOPS}


# ------------------------------------------------------------------ measuring


def measure(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    loop_factory: Callable[[], Any],
    check: Callable[[object, int], bool],
    collector: bool = True,
) -> list[Timing]:
    """Check every contender once, then time all of them in interleaved rounds.

    Args:
        contenders: who is asked; those that are missing are passed through.
        rounds: timed rounds, int >= 1, after one untimed round that checks the answer.
        loop_factory: makes the event loop of one call.
        check: whether an answer for so many items is right.
        collector: whether the garbage collector runs during a call, as it does for users.

    Raises:
        AssertionError: a contender gave a wrong answer; its time would mean nothing.
    """
    timings = [Timing(c.name, c.count, c.missing) for c in contenders]
    for contender in contenders:
        if contender.ask is not None:
            count = min(contender.count, 1_000)
            answer = _timed(contender, count, loop_factory, collector)[2]
            if not check(answer, count):
                raise AssertionError(f"{contender.name} gave a wrong answer for {count} items")
    for _ in range(rounds):
        for contender, timing in zip(contenders, timings, strict=True):
            if contender.ask is not None:
                wall, cpu, _answer = _timed(contender, contender.count, loop_factory, collector)
                timing.wall.append(wall / contender.count)
                timing.cpu.append(cpu / contender.count)
    return timings


def _timed(
    contender: Contender, count: int, loop_factory: Callable[[], Any], collector: bool
) -> tuple[float, float, object]:
    ask = contender.ask
    assert ask is not None

    async def timed() -> tuple[float, float, object]:
        if contender.warm is not None:
            await contender.warm()
        # The clocks are read inside the loop: starting and closing a loop is not the question.
        wall, cpu = time.perf_counter(), time.process_time()
        answer = await ask(count)
        return time.perf_counter() - wall, time.process_time() - cpu, answer

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop()
        gc.collect()
        if not collector:
            gc.disable()
        try:
            return runner.run(timed())
        finally:
            gc.enable()


def times_faster(timing: Timing, base: Timing | None, clock: str = "wall") -> float | None:
    """How many times the items/s of `base`: the median over rounds, each against its own round."""
    if base is None or not base.rounds(clock) or not timing.rounds(clock):
        return None
    pairs = zip(base.rounds(clock), timing.rounds(clock), strict=True)
    return statistics.median(theirs / ours for theirs, ours in pairs)


def named(timings: Iterable[Timing], name: str) -> Timing | None:
    """The timing of that name, None where it was filtered out."""
    return next((timing for timing in timings if timing.name == name), None)


# ------------------------------------------------------------------ showing


def machine() -> dict[str, object]:
    """What the numbers depend on, without naming the machine."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def number(value: float | None, digits: int = 2) -> str:
    """A table cell: the number, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it also reads well in a terminal."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join(
        "-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)
    )
    return "\n".join([line(head), rule + "|", *map(line, rows)])


def report(title: str, results: object, text: str, *, as_json: bool) -> None:
    """Print one finished benchmark: a JSON line for programs or a table for people."""
    if as_json:
        print(json.dumps({"benchmark": title, "machine": machine(), "results": results}))
    else:
        here = machine()
        print(f"## {title}\n{here['python']}, {here['system']}, {here['cores']} cores\n\n{text}\n")
    sys.stdout.flush()


# ------------------------------------------------------------------ the command line


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark shares, but for which loops and kinds of work."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="print one JSON line per table")
    options.add_argument("--quick", action="store_true", help="few items, one round: does it run?")
    options.add_argument(
        "--gc", choices=["on", "off"], default="on", help="garbage collector during a call"
    )
    options.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine"
    )
    options.add_argument("--rounds", type=int, help="timed rounds (default: 5, quick: 1)")
    options.add_argument(
        "--only", action="append", metavar="TEXT", help="contenders with this in their name"
    )
    options.add_argument(
        "--python",
        action="append",
        metavar="PATH",
        help="run on this interpreter instead; may be repeated",
    )
    return options


def parse(options: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; where `--python` names others, run them and exit."""
    args = options.parse_args(argv)
    if args.python:
        # The same command line without --python, on each of them in turn.
        given = list(sys.argv[1:] if argv is None else argv)
        rest: list[str] = []
        while given:
            word = given.pop(0)
            if word == "--python":
                given.pop(0)
            elif not word.startswith("--python="):
                rest.append(word)
        commands = [[path, sys.argv[0], *rest] for path in args.python]
        codes = [subprocess.run(command, check=False).returncode for command in commands]
        raise SystemExit(max(codes))
    if args.rounds is None:
        args.rounds = 1 if args.quick else 5
    if args.rounds < 1:
        options.error(f"--rounds must be an int >= 1, got {args.rounds}")
    return args
