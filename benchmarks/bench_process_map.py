"""How near does a map over worker processes come to processes that only compute?

Asks every answer in compare/process_map for a function of 1 us, 20 us, 1 ms and 100 ms, over as
many items as take about a second, in two processes. All workers are up before the clock starts.
Shows microseconds per item, the share of the ceiling that is reached (two processes that compute
and send nothing), and how many times joblib's items/s.

    python benchmarks/bench_process_map.py
    python benchmarks/bench_process_map.py --length 20us --acceptance
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import _harness as harness
from compare import process_map
from compare.process_map import work

# Length of one call -> its microseconds, items, and items for those who send each by itself.
LENGTHS = {
    "1us": (1.0, 200_000, 2_000),
    "20us": (20.0, 100_000, 2_000),
    "1ms": (1_000.0, 2_000, 2_000),
    "100ms": (100_000.0, 20, 20),
}
QUICK_SHARE = 20

OURS = "aioconc map, awaited"
TARGETS = {process_map.CEILING: 0.85, process_map.JOBLIB: 1.2}
"""At 20 us, at least so many times the items/s of each."""

Answer = Callable[[Callable[[int], int], Sequence[int]], Any]


def contenders(length: str, *, quick: bool, only: Sequence[str] | None) -> list[harness.Contender]:
    """Everyone who is asked for calls of one length."""
    microseconds, many, few = LENGTHS[length]
    turns = work.turns_for(microseconds)
    chosen = []
    for name, answer in harness.load("process_map", process_map.ANSWERS).items():
        if not harness.wanted(name, only):
            continue
        if isinstance(answer, str):
            chosen.append(harness.Contender(name, None, missing=answer))
            continue
        count = few if name in process_map.ONE_BY_ONE else many
        if quick:
            count = max(4, count // QUICK_SHARE)
        ask = partial(_ask, answer, turns)
        chosen.append(harness.Contender(name, ask, count, warm=partial(ask, 4)))
    return chosen


async def _ask(answer: Answer, turns: int, count: int) -> list[int]:
    found: list[int] = await answer(work.spin, [turns] * count)
    return found


def right(answer: object, count: int) -> bool:
    """As many results as items, and all the same."""
    return isinstance(answer, list) and len(answer) == count and len(set(answer)) == 1


def compare(length: str, loop: str, factory: Any, args: Any) -> bool:
    """Measure and print one table; returns whether the targets were met."""
    timings = harness.measure(
        contenders(length, quick=args.quick, only=args.only),
        rounds=args.rounds,
        loop_factory=factory,
        check=right,
        collector=args.gc == "on",
    )
    ceiling = harness.named(timings, process_map.CEILING)
    joblib = harness.named(timings, process_map.JOBLIB)
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-", "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds("wall")
        share = harness.times_faster(timing, ceiling)
        against = harness.times_faster(timing, joblib)
        rows.append(
            [
                timing.name,
                harness.number(microseconds, 1),
                harness.number(share),
                harness.number(against),
            ]
        )
        results.append(
            {
                "name": timing.name,
                "us_per_item": microseconds,
                "share_of_ceiling": share,
                "times_joblib": against,
            }
        )
    head = ["", "us/item", "of the ceiling", "x joblib"]
    harness.report(
        f"map of {length}, {loop}", results, harness.table(head, rows), as_json=args.json
    )
    met = True
    ours = harness.named(timings, OURS)
    if args.acceptance and length == "20us" and ours is not None:
        for peer, target in TARGETS.items():
            reached = harness.times_faster(ours, harness.named(timings, peer))
            good = reached is not None and reached >= target
            met = met and good
            shown = f"{OURS} / {peer}: {harness.number(reached)}, target {target}"
            harness.report(
                "acceptance", [], f"{'PASS' if good else 'FAIL'}  {shown}", as_json=False
            )
    return met


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--length", action="append", choices=LENGTHS, help="only calls so long")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    options.add_argument("--acceptance", action="store_true", help="judge the figures of 20 us")
    args = harness.parse(options, argv)
    met = True
    for loop, factory in harness.loops_here(args.loop or ["asyncio"]).items():
        if factory is None:
            harness.report(f"map, {loop}", [], f"not installed: {loop}", as_json=args.json)
            continue
        for length in args.length or LENGTHS:
            met = compare(length, loop, factory, args) and met
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
