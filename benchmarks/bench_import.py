"""What does `import aioconc` cost, and what does each of its names add?

Starts a fresh interpreter for every statement and adds up what `-X importtime` says of the modules
that a bare interpreter does not load; the statements take turns, round after round. Shows the
median, how many modules came, and which of the heavy ones were among them.

    python benchmarks/bench_import.py
    python benchmarks/bench_import.py --only map_limited
"""

import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import _harness as harness

HEAVY = ("asyncio", "multiprocessing", "concurrent.futures", "anyio", "cloudpickle", "uvloop")
REFERENCES = ("import asyncio", "import concurrent.futures", "import anyio")
_LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", re.MULTILINE)


def statements() -> list[str]:
    """What is timed: some references, the bare import, and each public name."""
    import aioconc

    return [
        *REFERENCES,
        "import aioconc",
        *(f"from aioconc import {name}" for name in aioconc.__all__),
    ]


def imported(statement: str) -> dict[str, int] | str:
    """Each module that the statement loads -> its own microseconds; a text where it cannot."""
    child = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        error = child.stderr.strip().splitlines()[-1]
        return f"not available: {error.partition(':')[0]}"
    return {module: int(own) for own, module in _LINE.findall(child.stderr)}


def heavy(modules: Sequence[str]) -> str:
    """Which of the packages that cost most were loaded."""
    loaded = set(modules)
    return " ".join(name for name in HEAVY if name in loaded) or "-"


def measure(asked: Sequence[str], rounds: int) -> dict[str, list[dict[str, int]] | str]:
    """The modules of each statement, round by round, without those of a bare interpreter."""
    bare = imported("pass")
    assert isinstance(bare, dict)
    found: dict[str, list[dict[str, int]] | str] = {statement: [] for statement in asked}
    for _ in range(rounds):
        for statement in asked:
            modules = imported(statement)
            before = found[statement]
            if isinstance(modules, str) or isinstance(before, str):
                found[statement] = modules if isinstance(modules, str) else before
            else:
                before.append({name: own for name, own in modules.items() if name not in bare})
    return found


def compare(args: Any) -> None:
    """Measure and print the table."""
    asked = [statement for statement in statements() if harness.wanted(statement, args.only)]
    if args.quick and not args.only:
        asked = ["import asyncio", "import aioconc"]
    rows, results = [], []
    for statement, runs in measure(asked, args.rounds).items():
        if isinstance(runs, str):
            rows.append([statement, runs, "-", "-", "-"])
            results.append({"name": statement, "missing": runs})
            continue
        milliseconds = statistics.median(sum(run.values()) for run in runs) / 1_000
        modules = list(runs[0])
        own = sum(name.partition(".")[0] == "aioconc" for name in modules)
        counts = [str(len(modules)), str(own)]
        rows.append([statement, harness.number(milliseconds), *counts, heavy(modules)])
        results.append(
            {
                "name": statement,
                "milliseconds": milliseconds,
                "modules": len(modules),
                "aioconc_modules": own,
                "heavy": heavy(modules).split(),
            }
        )
    head = ["", "ms", "modules", "of aioconc", "loads"]
    title = "import, in a fresh interpreter"
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    compare(harness.parse(harness.parser(__doc__), argv))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
