"""What does it cost to leave the event loop for one trivial call?

Asks every answer in compare/offload for calls of a function that does nothing, in threads and in
processes: one after the other (the latency of a call) and 16 at a time. All workers are up before
the clock starts. Shows microseconds per call and how many times the calls/s of the standard
library's own way.

    python benchmarks/bench_offload.py
    python benchmarks/bench_offload.py --where threads --loop asyncio
"""

import asyncio
import operator
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import _harness as harness
from compare import offload

TOGETHER = 16
CALLS = {"threads": 2_000, "processes": 500}
QUICK_CALLS = 20
AT_ONCE = {"one at a time": 1, f"{TOGETHER} at a time": TOGETHER}
PLACES = {
    "threads": (offload.IO_ANSWERS, offload.IO_BASE),
    "processes": (offload.CPU_ANSWERS, offload.CPU_BASE),
}

Answer = Callable[[Callable[[int], int], int], Awaitable[int]]

# The call itself: a builtin, so that no worker has a module of ours to import.
nothing = operator.index


def contenders(
    where: str, at_once: int, *, calls: int, only: Sequence[str] | None
) -> list[harness.Contender]:
    """Everyone who is asked for calls in threads or in processes."""
    chosen = []
    for name, answer in harness.load("offload", PLACES[where][0]).items():
        if not harness.wanted(name, only):
            continue
        if isinstance(answer, str):
            chosen.append(harness.Contender(name, None, missing=answer))
        else:
            ask = partial(_ask, answer, at_once)
            # So many at once that every worker of any of the pools has started.
            warm = partial(_ask, answer, 2 * TOGETHER, 4 * TOGETHER)
            chosen.append(harness.Contender(name, ask, calls, warm=warm))
    return chosen


async def _ask(answer: Answer, at_once: int, count: int) -> list[int]:
    results: list[int] = []
    arguments = iter(range(count))

    async def caller() -> None:
        for argument in arguments:
            results.append(await answer(nothing, argument))  # noqa: PERF401  # several share it

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return results


def right(answer: object, count: int) -> bool:
    """Every call came back with its own argument."""
    return isinstance(answer, list) and sorted(answer) == list(range(count))


def compare(where: str, pace: str, loop: str, factory: Any, args: Any) -> None:
    """Measure and print one table."""
    timings = harness.measure(
        contenders(
            where,
            AT_ONCE[pace],
            calls=QUICK_CALLS if args.quick else CALLS[where],
            only=args.only,
        ),
        rounds=args.rounds,
        loop_factory=factory,
        check=right,
        collector=args.gc == "on",
    )
    base = harness.named(timings, PLACES[where][1])
    rows, results = [], []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds(args.clock)
        against_base = harness.times_faster(timing, base, args.clock)
        rows.append([timing.name, harness.number(microseconds, 1), harness.number(against_base)])
        results.append(
            {"name": timing.name, "us_per_call": microseconds, "times_standard": against_base}
        )
    title = f"one call in {where}, {pace}, {loop}"
    head = ["", "us/call", f"x {PLACES[where][1]}"]
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--where", action="append", choices=PLACES, help="only there")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    args = harness.parse(options, argv)
    for loop, factory in harness.loops_here(args.loop).items():
        if factory is None:
            harness.report(f"one call, {loop}", [], f"not installed: {loop}", as_json=args.json)
            continue
        for where in args.where or PLACES:
            for pace in AT_ONCE:
                compare(where, pace, loop, factory, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
