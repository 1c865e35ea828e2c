"""How many items a second does a bounded map do, against the recipes and libraries in use?

Asks every answer in compare/bounded_map for the same work: 20,000 items, at most 100 at once, of
three kinds (return at once, suspend once, sleep 1 ms), on asyncio and uvloop. Shows microseconds
per item and how many times the items/s of gather + Semaphore (or of another one, with --against)
and of bare pulling workers.

    python benchmarks/bench_gather_limited.py
    python benchmarks/bench_gather_limited.py --only gather --kind suspends --loop uvloop
    python benchmarks/bench_gather_limited.py --variables 3     # in a caller with context variables
    python benchmarks/bench_gather_limited.py --acceptance      # the project's own targets
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import _harness as harness
from compare import bounded_map

LIMIT = 100
ITEMS = 20_000
QUICK_ITEMS = 300

Item = Callable[[int], Awaitable[int]]


async def returns(item: int) -> int:
    return item


async def suspends(item: int) -> int:
    await asyncio.sleep(0)
    return item


async def sleeps(item: int) -> int:
    await asyncio.sleep(0.001)
    return item


KINDS: dict[str, Item] = {"returns": returns, "suspends": suspends, "sleeps": sleeps}
"""What one item does: returns at once, suspends once, or sleeps one millisecond."""


def contenders(
    kind: str, *, items: int, only: Sequence[str] | None, full: bool = False
) -> list[harness.Contender]:
    """Everyone who is asked; `full` gives the slow ones as many items as the others."""
    chosen = []
    for name, answer in harness.load("bounded_map", bounded_map.ANSWERS).items():
        if not harness.wanted(name, only):
            continue
        if isinstance(answer, str):
            chosen.append(harness.Contender(name, None, missing=answer))
        else:
            count = items if full else max(1, items // bounded_map.SLOW.get(name, 1))
            chosen.append(harness.Contender(name, partial(_ask, answer, KINDS[kind]), count))
    return chosen


async def _ask(answer: Callable[..., Awaitable[list[int]]], fn: Item, count: int) -> list[int]:
    return await answer(fn, range(count), LIMIT)


def right(answer: object, count: int) -> bool:
    """Every result once; in which order is the contender's own business."""
    return isinstance(answer, list) and sorted(answer) == list(range(count))


def compare(kind: str, loop: str, factory: Any, args: Any) -> None:
    """Measure and print one table."""
    items = QUICK_ITEMS if args.quick else ITEMS
    timings = harness.measure(
        contenders(kind, items=items, only=args.only),
        rounds=args.rounds,
        loop_factory=factory,
        check=right,
        collector=args.gc == "on",
    )
    base = harness.named(timings, args.against)
    floor = harness.named(timings, bounded_map.FLOOR)
    rows, results = [], []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-", "-", "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds(args.clock)
        against_base = harness.times_faster(timing, base, args.clock)
        against_floor = harness.times_faster(timing, floor, args.clock)
        rows.append(
            [
                timing.name,
                harness.number(microseconds),
                harness.number(against_base),
                harness.number(against_floor),
                f"{timing.count:,}",
            ]
        )
        results.append(
            {
                "name": timing.name,
                "items": timing.count,
                "us_per_item": microseconds,
                "against": args.against,
                "times_as_fast": against_base,
                "times_pulling_workers": against_floor,
            }
        )
    head = ["", "us/item", f"x {args.against}", "x bare workers", "items"]
    title = f"bounded map, limit {LIMIT}, item {kind}, {loop}"
    if args.variables:
        title += f", {args.variables} context variables"
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--kind", action="append", choices=KINDS, help="only this kind of item")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    options.add_argument(
        "--variables",
        type=int,
        default=0,
        metavar="N",
        help="context variables that the caller has set, as most programs have (default: 0)",
    )
    options.add_argument(
        "--against",
        choices=bounded_map.ANSWERS,
        default=bounded_map.BASE,
        metavar="NAME",
        help=f"contender to show the ratio to (default: {bounded_map.BASE})",
    )
    options.add_argument(
        "--acceptance", action="store_true", help="PASS or FAIL for each target of the project"
    )
    args = harness.parse(options, argv)
    # Set outside the loop: every loop runs in a copy of this context.
    for number in range(args.variables):
        ContextVar[object](f"variable {number}").set(object())
    if args.acceptance:
        import _acceptance

        return _acceptance.main(args)
    for loop, factory in harness.loops_here(args.loop).items():
        if factory is None:
            harness.report(f"bounded map, {loop}", [], f"not installed: {loop}", as_json=args.json)
            continue
        for kind in args.kind or KINDS:
            compare(kind, loop, factory, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
