"""What does it cost to choose the order of a program's steps, and to let its clock jump?

Three tables: schedules per second for a program of fifteen steps, the cost of one step beside
asyncio's own loop with 10, 1,000 and 100,000 tasks ready, and 10,000 sleeps over 199 virtual
seconds. Every answer in compare/simulation is asked that can do the work.

    python benchmarks/bench_testing.py --clock cpu
    python benchmarks/bench_testing.py --what steps --ready 1000 --only aioconc --only asyncio
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import _harness as harness
from compare import simulation

WHAT = ("schedules", "steps", "sleeps")
READY = (10, 1_000, 100_000)
SCHEDULES = 500
STEPS = 100_000
SLEEPS = 10_000
QUICK = 20
# 300,000 steps were not through in 100 seconds.
MOST_READY = {"simloop, random": 1_000}
FEWER_SCHEDULES = {"simloop explore": 10}

Answer = Callable[[int], object]


# ------------------------------------------------------------------ the work


async def steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def fifteen_steps() -> None:
    """Three tasks; with those of the main task about fifteen steps and as many choices."""
    await asyncio.gather(steps(5), steps(4), steps(3))


def run_ready(new_loop: Callable[[], asyncio.AbstractEventLoop], ready: int, count: int) -> int:
    """So many steps in all, with `ready` tasks ready at each of them."""
    ran = 0

    async def task() -> None:
        nonlocal ran
        for _ in range(count // ready):
            await asyncio.sleep(0)
            ran += 1

    async def main() -> None:
        await asyncio.gather(*(task() for _ in range(ready)))

    loop = new_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return ran


# ------------------------------------------------------------------ measuring


def measure(
    answers: dict[str, tuple[Answer | str, int]],
    right: Callable[[object, int], bool],
    args: Any,
) -> list[harness.Timing]:
    """As the harness does, but for answers that bring their own event loops.

    Args:
        answers: name -> (the answer or why it cannot be asked, items in one round).
        right: whether what came back for so many items is right.
        args: of the command line.
    """
    timings = [
        harness.Timing(name, count, answer if isinstance(answer, str) else None)
        for name, (answer, count) in answers.items()
    ]
    for number in range(args.rounds + 1):
        for timing, (answer, count) in zip(timings, answers.values(), strict=True):
            if isinstance(answer, str):
                continue
            gc.collect()
            if args.gc == "off":
                gc.disable()
            try:
                wall, cpu = time.perf_counter(), time.process_time()
                result = answer(count)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            finally:
                gc.enable()
            if not right(result, count):
                raise AssertionError(f"{timing.name} gave a wrong answer: {result!r}")
            if number:  # the first round warms up and checks
                timing.wall.append(wall / count)
                timing.cpu.append(cpu / count)
    return timings


def found(table: dict[str, str], only: Sequence[str] | None) -> dict[str, Any]:
    """The answers that are wanted, by name; a text where one is not installed."""
    loaded = harness.load("simulation", table)
    return {name: each for name, each in loaded.items() if harness.wanted(name, only)}


def show(title: str, head: list[str], timings: list[harness.Timing], base: str, args: Any) -> None:
    """One table: a figure for each, and how it compares with `base`."""
    against = harness.named(timings, base)
    rows, results = [], []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-", "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds(args.clock)
        faster = harness.times_faster(timing, against, args.clock)
        per_second = 1e6 / microseconds
        cost = None if faster is None else 1 / faster
        rows.append(
            [
                timing.name,
                harness.number(microseconds),
                harness.number(per_second, 0),
                harness.number(cost),
            ]
        )
        results.append(
            {"name": timing.name, "us": microseconds, "per_second": per_second, "cost": cost}
        )
    harness.report(title, results, harness.table(["", *head], rows), as_json=args.json)


def schedules(args: Any) -> None:
    """Runs of one small program."""
    count = QUICK if args.quick else SCHEDULES
    answers = {
        name: (
            answer if isinstance(answer, str) else partial(answer, fifteen_steps),
            min(count, FEWER_SCHEDULES.get(name, count)),
        )
        for name, answer in found(simulation.SCHEDULES, args.only).items()
    }
    timings = measure(answers, lambda result, asked: result == asked, args)
    head = ["us/schedule", "schedules/s", f"x {simulation.BASE}"]
    show("schedules of a program of fifteen steps", head, timings, simulation.BASE, args)


def cost_of_steps(ready: int, args: Any) -> None:
    """One loop with many tasks ready."""
    count = 2 * ready if args.quick else max(STEPS, 3 * ready)
    answers = {}
    for name, answer in found(simulation.LOOPS, args.only).items():
        asked: Answer | str = (
            answer if isinstance(answer, str) else partial(run_ready, answer, ready)
        )
        if ready > MOST_READY.get(name, ready):
            asked = "not asked: takes minutes"
        answers[name] = (asked, count)
    timings = measure(answers, lambda result, asked: result == asked, args)
    head = ["us/step", "steps/s", f"x {simulation.BASE}"]
    show(f"a step with {ready:,} tasks ready", head, timings, simulation.BASE, args)


def sleeps(args: Any) -> None:
    """Many sleeps at once, that take no time."""
    count = 200 if args.quick else SLEEPS
    answers = {
        name: (answer, count) for name, answer in found(simulation.SLEEPS, args.only).items()
    }
    timings = measure(
        answers, lambda result, _: abs(result - simulation.VIRTUAL_SECONDS) < 0.01, args
    )
    head = ["us/sleep", "sleeps/s", f"x {simulation.SLEEPS_BASE}"]
    title = f"{count:,} sleeps over {simulation.VIRTUAL_SECONDS} virtual seconds"
    show(title, head, timings, simulation.SLEEPS_BASE, args)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--what", action="append", choices=WHAT, help="only this table")
    options.add_argument("--ready", action="append", type=int, help="only so many tasks ready")
    args = harness.parse(options, argv)
    what = args.what or WHAT
    if "schedules" in what:
        schedules(args)
    if "steps" in what:
        for ready in args.ready or READY[: 2 if args.quick else 3]:
            cost_of_steps(ready, args)
    if "sleeps" in what:
        sleeps(args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
