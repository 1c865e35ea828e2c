"""What does it cost to await in plain code, and to make a call in a gevent hub?

Asks every answer in compare/greenlets to await a coroutine that gives 1 at once, many times in one
run; and for single calls of a function that does nothing, 16 at a time. Shows microseconds for each
and how many times the pace of a plain `await`, or of `asyncio.to_thread`.

    python benchmarks/bench_greenlets.py
    python benchmarks/bench_greenlets.py --what awaits --loop asyncio
"""

import asyncio
import operator
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import _harness as harness
from compare import greenlets

TOGETHER = 16
QUICK = 20
# Question -> the answers, the one they are compared with, and how many for one round.
QUESTIONS: dict[str, tuple[dict[str, str], str, int]] = {
    "awaits": (greenlets.AWAIT_ANSWERS, greenlets.AWAIT_BASE, 20_000),
    "calls": (greenlets.CALL_ANSWERS, greenlets.CALL_BASE, 2_000),
}

Answer = Callable[..., Awaitable[Any]]


async def _call(answer: Answer, count: int) -> int:
    arguments = iter(range(count))
    done = 0

    async def caller() -> None:
        nonlocal done
        for argument in arguments:
            result = await answer(operator.index, argument)
            done += result == argument

    await asyncio.gather(*(caller() for _ in range(TOGETHER)))
    return done


def contenders(what: str, *, quick: bool, only: Sequence[str] | None) -> list[harness.Contender]:
    """Everyone who is asked, or the reason why not."""
    answers, _, count = QUESTIONS[what]
    if quick:
        count = QUICK
    chosen = []
    for name, answer in harness.load("greenlets", answers).items():
        if not harness.wanted(name, only):
            continue
        if isinstance(answer, str):
            chosen.append(harness.Contender(name, None, missing=answer))
        elif what == "awaits":
            # A thread's way to the loop and back takes longer by far.
            fewer = count // 20 if "loop" in name and not quick else count
            chosen.append(harness.Contender(name, answer, fewer))
        else:
            ask = partial(_call, answer)
            chosen.append(harness.Contender(name, ask, count, warm=partial(ask, TOGETHER)))
    return chosen


def compare(what: str, loop: str, factory: Any, args: Any) -> None:
    """Measure and print one table."""
    timings = harness.measure(
        contenders(what, quick=args.quick, only=args.only),
        rounds=args.rounds,
        loop_factory=factory,
        check=lambda answer, count: answer == count,
        collector=args.gc == "on",
    )
    base_name = QUESTIONS[what][1]
    base = harness.named(timings, base_name)
    rows, results = [], []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds(args.clock)
        pace = harness.times_faster(timing, base, args.clock)
        rows.append([timing.name, harness.number(microseconds, 2), harness.number(pace, 3)])
        results.append({"name": timing.name, "us_each": microseconds, "times_base": pace})
    head = ["", "us each", f"x {base_name}"]
    title = {"awaits": "one await in plain code", "calls": f"one call, {TOGETHER} at a time"}[what]
    harness.report(f"{title}, {loop}", results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--what", action="append", choices=QUESTIONS, help="only this question")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    args = harness.parse(options, argv)
    for loop, factory in harness.loops_here(args.loop).items():
        if factory is None:
            harness.report(f"greenlets, {loop}", [], f"not installed: {loop}", as_json=args.json)
            continue
        for what in args.what or QUESTIONS:
            compare(what, loop, factory, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
