"""What does it cost to send an array to a worker process, and to get one back?

Asks every answer in compare/process_arrays for calls of one worker with float64 arrays of several
sizes: a number comes back, of the first element or of all of them, or an array does. All workers
are up, and have had such an array, before the clock starts. Shows milliseconds per call and how
many times the calls/s of `ProcessPoolExecutor`.

    python benchmarks/bench_process_arrays.py
    python benchmarks/bench_process_arrays.py --ask "64 MiB in" --acceptance
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import _harness as harness
from compare import process_arrays
from compare.process_arrays import work

MIB = 1 << 20

# What is asked -> the function, bytes of the array, calls in a round.
ASKED: dict[str, tuple[Callable[[Any], Any], int, int]] = {
    "64 MiB in, first element out": (work.first, 64 * MIB, 2),
    "64 MiB in, sum out": (work.total, 64 * MIB, 2),
    "8 MiB in and out": (work.same, 8 * MIB, 8),
    "8 MiB in, new array out": (work.twice, 8 * MIB, 8),
    "1 MiB in and out": (work.same, MIB, 50),
    "64 KiB in and out": (work.same, MIB // 16, 200),
    "1 KiB in and out": (work.same, MIB // 1024, 200),
}
WARM = 3
# With `--quick`: where memory is dear, 64 MiB would take it longer than all else.
QUICK_SHARE = 8

TARGETS = {"64 MiB in, sum out": 10.0, "8 MiB in and out": 15.0}
"""At least so many times the calls/s of `process_arrays.BASE`."""

Answer = Callable[[Callable[[Any], Any], Any], Awaitable[Any]]


def contenders(
    what: str, array: Any, *, quick: bool, only: Sequence[str] | None
) -> list[harness.Contender]:
    """Everyone who is asked for one kind of call."""
    fn, _, count = ASKED[what]
    chosen = []
    for name, answer in harness.load("process_arrays", process_arrays.ANSWERS).items():
        if not harness.wanted(name, only):
            continue
        if isinstance(answer, str):
            chosen.append(harness.Contender(name, None, missing=answer))
            continue
        ask = partial(_ask, answer, fn, array)
        calls = 2 if quick else count
        chosen.append(harness.Contender(name, ask, calls, warm=partial(ask, WARM)))
    return chosen


async def _ask(answer: Answer, fn: Callable[[Any], Any], array: Any, count: int) -> Any:
    """One call after the other; the last result, as a program that works on them has it."""
    result = None
    for _ in range(count):
        del result
        result = await answer(fn, array)
    return result


def compare(what: str, loop: str, factory: Any, args: Any) -> bool:
    """Measure and print one table; returns whether the target was met."""
    import numpy as np

    fn, size, _ = ASKED[what]
    if args.quick:
        size //= QUICK_SHARE
    array = np.arange(size // 8, dtype=float)
    expected = fn(array)

    def right(answer: Any, count: int) -> bool:
        return bool(np.array_equal(answer, expected))

    timings = harness.measure(
        contenders(what, array, quick=args.quick, only=args.only),
        rounds=args.rounds,
        loop_factory=factory,
        check=right,
        collector=args.gc == "on",
    )
    base = harness.named(timings, process_arrays.BASE)
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        milliseconds = timing.microseconds(args.clock) / 1e3
        against = harness.times_faster(timing, base, args.clock)
        rows.append([timing.name, harness.number(milliseconds), harness.number(against)])
        results.append(
            {"name": timing.name, "ms_per_call": milliseconds, "times_standard": against}
        )
    head = ["", "ms/call", f"x {process_arrays.BASE}"]
    harness.report(f"{what}, {loop}", results, harness.table(head, rows), as_json=args.json)
    ours = harness.named(timings, process_arrays.OURS)
    if not args.acceptance or what not in TARGETS or ours is None:
        return True
    reached = harness.times_faster(ours, base)
    met = reached is not None and reached >= TARGETS[what]
    print(f"{'PASS' if met else 'FAIL'}: {what}, at least {TARGETS[what]} x {process_arrays.BASE}")
    return met


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--ask", action="append", metavar="TEXT", help="calls with this in them")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    options.add_argument("--acceptance", action="store_true", help="judge the targets")
    args = harness.parse(options, argv)
    met = True
    for loop, factory in harness.loops_here(args.loop).items():
        if factory is None:
            harness.report(f"arrays, {loop}", [], f"not installed: {loop}", as_json=args.json)
            continue
        for what in ASKED:
            if harness.wanted(what, args.ask):
                met &= compare(what, loop, factory, args)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
