"""What does a child of a task group cost, from its start to the end of the group?

Asks every answer in compare/task_group for groups of 1, 10 and 1,000 children that end at once or
suspend once, on asyncio and uvloop. Shows microseconds per child, the group's own entry and exit
shared out over its children, and how many times the children/s of the others.

    python benchmarks/bench_task_group.py
    python benchmarks/bench_task_group.py --size 1000 --kind returns --loop uvloop
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import _harness as harness
from compare import task_group

SIZES = (1, 10, 1_000)
CHILDREN = 10_000
QUICK_CHILDREN = 1_000

Child = Callable[[list[int]], Coroutine[object, object, None]]


async def returns(seen: list[int]) -> None:
    seen.append(1)


async def suspends(seen: list[int]) -> None:
    await asyncio.sleep(0)
    seen.append(1)


KINDS: dict[str, Child] = {"returns": returns, "suspends": suspends}
"""What one child does: ends at once, or suspends once."""


def contenders(
    kind: str, size: int, *, children: int, only: Sequence[str] | None
) -> list[harness.Contender]:
    """Everyone who is asked for groups of that size, so many children in all."""
    chosen = []
    for name, answer in harness.load("task_group", task_group.ANSWERS).items():
        if not harness.wanted(name, only):
            continue
        if isinstance(answer, str):
            chosen.append(harness.Contender(name, None, missing=answer))
        else:
            ask = partial(_ask, answer, KINDS[kind], size)
            chosen.append(harness.Contender(name, ask, max(children, size)))
    return chosen


async def _ask(
    answer: Callable[..., Awaitable[None]], fn: Child, size: int, count: int
) -> list[int]:
    seen: list[int] = []
    for _ in range(count // size):
        await answer(fn, seen, size)
    return seen


def right(answer: object, count: int) -> bool:
    """Every child has run to its end before its group did."""
    return isinstance(answer, list) and sum(answer) == count


def compare(kind: str, size: int, loop: str, factory: Any, args: Any) -> None:
    """Measure and print one table."""
    timings = harness.measure(
        contenders(kind, size, children=QUICK_CHILDREN if args.quick else CHILDREN, only=args.only),
        rounds=args.rounds,
        loop_factory=factory,
        check=right,
        collector=args.gc == "on",
    )
    base = harness.named(timings, task_group.BASE)
    anyio = harness.named(timings, task_group.ANYIO)
    rows, results = [], []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-", "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds(args.clock)
        against_base = harness.times_faster(timing, base, args.clock)
        against_anyio = harness.times_faster(timing, anyio, args.clock)
        cells = [microseconds, against_base, against_anyio]
        rows.append([timing.name, *map(harness.number, cells)])
        results.append(
            {
                "name": timing.name,
                "us_per_child": microseconds,
                "times_asyncio": against_base,
                "times_anyio": against_anyio,
            }
        )
    title = f"task group of {size:,}, child {kind}, {loop}"
    head = ["", "us/child", "x asyncio", "x anyio"]
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--kind", action="append", choices=KINDS, help="only this kind of child")
    options.add_argument("--size", action="append", type=int, help="children in a group")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    args = harness.parse(options, argv)
    for loop, factory in harness.loops_here(args.loop).items():
        if factory is None:
            harness.report(f"task group, {loop}", [], f"not installed: {loop}", as_json=args.json)
            continue
        for kind in args.kind or KINDS:
            for size in args.size or SIZES:
                compare(kind, size, loop, factory, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
