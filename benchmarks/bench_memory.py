"""What does a bounded map of a million items need in memory?

Runs every answer in compare/bounded_map in a fresh process of its own, with items that suspend
once, and reads the growth of the process's peak from the kernel: nothing traces allocations, so
nothing is slowed down or counted twice. Answers that collect are shown beside the list of results
alone; streams forget each result as it comes.

    python benchmarks/bench_memory.py
    python benchmarks/bench_memory.py --only aioconc --items 100000
"""

import asyncio
import gc
import json
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _harness as harness
from bench_gather_limited import LIMIT, suspends
from compare import bounded_map

ITEMS = 1_000_000
QUICK_ITEMS = 2_000
WARM_UP = 1_000
RESULTS_ALONE = "the list of results alone"
MEGABYTE = 1_000_000


def answers() -> dict[str, tuple[str, str]]:
    """Name in the table -> (the form of answer, where it is)."""
    collecting = {
        name: ("collects", where)
        for name, where in bounded_map.ANSWERS.items()
        if not name.startswith("aioconc map_limited, stream")
    }
    streaming = {name: ("streams", where) for name, where in bounded_map.STREAMS.items()}
    return {RESULTS_ALONE: ("collects", "")} | collecting | streaming


# ------------------------------------------------------------------ in the process measured


def grow(name: str, count: int) -> int:
    """Bytes by which the peak grows above the memory held before `count` items."""
    where = answers()[name][1]
    if not where:
        before = _bytes_now()
        kept = list(range(count))
        growth = _bytes_peak() - before
        kept.clear()
        return growth
    found = harness.load("bounded_map", {name: where})[name]
    if isinstance(found, str):
        raise ModuleNotFoundError(found)

    async def measured() -> int:
        await found(suspends, range(WARM_UP), LIMIT)
        gc.collect()
        _forget_peak()
        before = _bytes_now()
        answer = await found(suspends, range(count), LIMIT)
        peak = _bytes_peak()
        if (answer if isinstance(answer, int) else len(answer)) != count:
            raise AssertionError(f"{name} gave a wrong answer for {count} items")
        return peak - before

    return asyncio.run(measured())


def _bytes_now() -> int:
    return _from_status("VmRSS")


def _bytes_peak() -> int:
    return _from_status("VmHWM")


def _from_status(key: str) -> int:
    # Not ru_maxrss where it can be helped: the kernel carries that one over from the parent
    # through fork and exec, so that a child of a large process seems never to grow.
    try:
        status = Path("/proc/self/status").read_text()
        found = re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)
    except FileNotFoundError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _forget_peak() -> None:
    """Set the kernel's peak back to what is held now; where it refuses, the peak is only higher."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


# ------------------------------------------------------------------ in the process that asks


def measure(name: str, count: int, rounds: int) -> list[int] | str:
    """Growth in bytes, once for each fresh process; a text where it cannot be asked here."""
    growths = []
    for _ in range(rounds):
        child = subprocess.run(
            [sys.executable, __file__, "--child", name, "--items", str(count)],
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode != 0:
            last = child.stderr.strip().splitlines()[-1]
            if last.startswith("ModuleNotFoundError: "):
                return last.removeprefix("ModuleNotFoundError: ")
            raise RuntimeError(f"{name} failed:\n{child.stderr}")
        growths.append(int(json.loads(child.stdout)))
    return growths


def median(growths: Sequence[int]) -> int:
    return sorted(growths)[len(growths) // 2]


def compare(args: Any) -> None:
    """Measure and print the table."""
    items = args.items or (QUICK_ITEMS if args.quick else ITEMS)
    rows, results = [], []
    for name, (form, _where) in answers().items():
        if not harness.wanted(name, args.only):
            continue
        count = max(1, items // 10) if name in bounded_map.TASK_PER_ITEM else items
        growths = measure(name, count, args.rounds)
        if isinstance(growths, str):
            rows.append([name, form, growths, "-", "-"])
            results.append({"name": name, "form": form, "missing": growths})
            continue
        growth = median(growths)
        megabytes, per_item = growth / MEGABYTE, growth / count
        rows.append(
            [
                name,
                form,
                f"{count:,}",
                harness.number(megabytes, 1),
                harness.number(per_item, 0 if per_item >= 10 else 1),
            ]
        )
        results.append({"name": name, "form": form, "items": count, "peak_growth_bytes": growth})
    head = ["", "form", "items", "peak growth MB", "bytes/item"]
    title = f"memory of a bounded map, limit {LIMIT}, item suspends, asyncio"
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.set_defaults(rounds=1)
    options.add_argument("--items", type=int, help=f"default: {ITEMS:,}; a tenth for slow ones")
    options.add_argument("--child", metavar="NAME", help="measure this one in this very process")
    args = harness.parse(options, argv)
    if args.child:
        print(json.dumps(grow(args.child, args.items)))
    else:
        compare(args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
