"""The project's own performance targets, each measured afresh and judged PASS or FAIL.

`bench_gather_limited.py --acceptance` runs this. Beside a ratio stands what is at all reachable
against the same peer in the same rounds: what bare pulling workers do, or asyncio's own task
group. A target above that says more about the peer on that machine than about aioconc.
"""

from typing import Any

import _harness as harness
import bench_gather_limited as bounded
import bench_memory as memory
import bench_task_group as groups
from compare import bounded_map, task_group

BOUNDED = {bounded_map.BASE: 5.0, "aiometer": 20.0, "anyio group + CapacityLimiter": 20.0}
"""At least so many times the items/s of each."""
FLOOR_SHARE = 0.7
BOUNDED_OURS = ("aioconc gather_limited", "aioconc map_limited, awaited")
MEMORY_SLACK = 20 * memory.MEGABYTE
"""Bytes that a million items may add, above the list of results where one is asked for."""
MEMORY_STREAMS = ("aioconc map_limited, stream", "aioconc map_limited, stream unordered")
GROUPS = {task_group.BASE: 0.9, task_group.ANYIO: 3.5}
"""At least so many times the children/s of each."""

Line = tuple[str, str, str, float | None, str]
"""What is held against what, the target, the figure, what is reachable, the verdict."""


def main(args: Any) -> int:
    """Measure every target and print the verdicts.

    Returns:
        0 if every line passes, 1 if any fails or could not be measured.
    """
    lines: list[Line] = []
    for loop, factory in harness.loops_here(args.loop).items():
        if factory is None:
            lines.append((f"all of {loop}", "-", f"not installed: {loop}", None, "NOT RUN"))
            continue
        lines += bounded_lines(loop, factory, args)
        lines += group_lines(loop, factory, args)
    lines += memory_lines(args)
    head = ["", "target", "measured", "reachable", "verdict"]
    rows = [[what, goal, got, harness.number(floor), end] for what, goal, got, floor, end in lines]
    results = [
        {"what": what, "target": goal, "measured": got, "reachable": floor, "verdict": end}
        for what, goal, got, floor, end in lines
    ]
    text = harness.table(head, rows)
    harness.report("acceptance", results, text, as_json=args.json)
    return 0 if all(line[-1] == "PASS" for line in lines) else 1


def bounded_lines(loop: str, factory: Any, args: Any) -> list[Line]:
    """Items/s of the awaited forms; everyone gets the same 20,000 items."""
    timings = harness.measure(
        bounded.contenders(
            "suspends",
            items=bounded.QUICK_ITEMS if args.quick else bounded.ITEMS,
            only=[*BOUNDED, bounded_map.FLOOR, *BOUNDED_OURS],
            full=True,
        ),
        rounds=args.rounds,
        loop_factory=factory,
        check=bounded.right,
        collector=args.gc == "on",
    )
    floor = harness.named(timings, bounded_map.FLOOR)
    lines = []
    for ours in BOUNDED_OURS:
        for peer, target in {**BOUNDED, bounded_map.FLOOR: FLOOR_SHARE}.items():
            what = f"{ours} / {peer}, {loop}"
            lines.append(ratio_line(what, target, timings, ours, peer, floor, args.clock))
    return lines


def group_lines(loop: str, factory: Any, args: Any) -> list[Line]:
    """Children/s of a group, from the first start to the end of the group."""
    lines = []
    for size in groups.SIZES:
        timings = harness.measure(
            groups.contenders(
                "returns",
                size,
                children=groups.QUICK_CHILDREN if args.quick else groups.CHILDREN,
                only=[task_group.BASE, task_group.ANYIO, task_group.OURS],
            ),
            rounds=args.rounds,
            loop_factory=factory,
            check=groups.right,
            collector=args.gc == "on",
        )
        standard = harness.named(timings, task_group.BASE)
        for peer, target in GROUPS.items():
            what = f"{task_group.OURS} / {peer}, group of {size:,}, {loop}"
            ours = task_group.OURS
            lines.append(ratio_line(what, target, timings, ours, peer, standard, args.clock))
    return lines


def ratio_line(
    what: str,
    target: float,
    timings: list[harness.Timing],
    ours: str,
    peer: str,
    floor: harness.Timing | None,
    clock: str,
) -> Line:
    """One line: how many times the peer ours is, and how many times the peer the floor is."""
    mine, theirs = harness.named(timings, ours), harness.named(timings, peer)
    goal = f">= {target:g}x"
    ratio = None if mine is None else harness.times_faster(mine, theirs, clock)
    if ratio is None:
        missing = next((t.missing for t in (mine, theirs) if t and t.missing), "not measured")
        return (what, goal, missing, None, "NOT RUN")
    best = None if floor is None else harness.times_faster(floor, theirs, clock)
    return (what, goal, f"{ratio:.2f}x", best, "PASS" if ratio >= target else "FAIL")


def memory_lines(args: Any) -> list[Line]:
    """Growth of the peak for a million items: streams alone, collectors above their results."""
    items = memory.QUICK_ITEMS if args.quick else memory.ITEMS
    alone = memory.measure(memory.RESULTS_ALONE, items, 1)
    assert not isinstance(alone, str)
    lines: list[Line] = []
    for name in (*MEMORY_STREAMS, *BOUNDED_OURS):
        what = f"{name}, {items:,} items: peak growth"
        allowed = MEMORY_SLACK + (0 if name in MEMORY_STREAMS else memory.median(alone))
        goal = f"< {allowed / memory.MEGABYTE:.1f} MB"
        growths = memory.measure(name, items, 1)
        if isinstance(growths, str):
            lines.append((what, goal, growths, None, "NOT RUN"))
            continue
        growth = memory.median(growths)
        verdict = "PASS" if growth < allowed else "FAIL"
        lines.append((what, goal, f"{growth / memory.MEGABYTE:.1f} MB", None, verdict))
    return lines
