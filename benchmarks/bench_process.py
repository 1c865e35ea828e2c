"""What do single calls in worker processes cost, and what do a start, a cancel and a crash?

Asks every answer in compare/process_pool: for the latency of a trivial call (one at a time) and the
calls/s of 16 callers; for the time from a new pool to its first result, also with NumPy; for the
time until `while True: pass` has ended once it is cancelled, and until the next result; for the time
until a call whose worker died has its error, and until the next result; and for the longest time by
which the loop is late while 64 MiB arrays and a thousand calls wait for the pool. Each round has a
fresh loop and fresh pools, the rounds of all answers take turns.

    python benchmarks/bench_process.py
    python benchmarks/bench_process.py --question calls --loop uvloop
    python benchmarks/bench_process.py --acceptance
"""

import asyncio
import gc
import operator
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import _harness as harness
from compare import process_pool
from compare.process_pool import work

WORKERS = 2
CALLERS = 16
PATIENCE = 60.0
"""Seconds after which a call of a peer is taken to hang."""

# The trivial call: a builtin, so that no worker has a module of ours to import.
nothing = operator.index

Make = Callable[[int, "str | None"], Any]
Samples = dict[str, list[float]]
"""Column -> one figure for each time that it was measured, in the unit of the column."""


# ------------------------------------------------------------------ the questions


async def calls(make: Make, count: int) -> Samples:
    """Latency of one call at a time in microseconds, and calls/s of 16 callers."""
    pool = make(WORKERS, None)
    try:
        # So many at once that every worker has started.
        await asyncio.gather(*(answered(pool, time.sleep, 0.1) for _ in range(2 * WORKERS)))
        taken = []
        for number in range(5 * count):
            began = time.perf_counter()
            assert await pool.call(nothing, number) == number
            taken.append((time.perf_counter() - began) * 1e6)
        # At first the two processes often share a core; until the system moves one of them, a call
        # takes everybody half as long again.
        return {"us/call": taken[-count:], "calls/s": [await throughput(pool, 5 * count)]}
    finally:
        await pool.close()


async def throughput(pool: Any, count: int) -> float:
    numbers = iter(range(count))
    results = []

    async def caller() -> None:
        for number in numbers:
            results.append(await pool.call(nothing, number))  # noqa: PERF401  # several share it

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    taken = time.perf_counter() - began
    assert sorted(results) == list(range(count))
    return count / taken


async def start(make: Make, count: int) -> Samples:
    """Milliseconds from a new pool to its first result, with a trivial call and with NumPy."""
    samples: Samples = {"first result, ms": [], "with NumPy, ms": []}
    for column, module, fn in zip(samples, (None, "numpy"), (nothing, work.use_numpy), strict=True):
        for _ in range(count):
            began = time.perf_counter()
            pool = make(WORKERS, module)
            assert await answered(pool, fn, 1) == 1
            samples[column].append((time.perf_counter() - began) * 1e3)
            await pool.close()
    return samples


async def cancel(make: Make, count: int) -> Samples:
    """Milliseconds until a cancelled endless call is awaited, and until the next result."""
    samples: Samples = {"awaited, ms": [], "next result, ms": []}
    pool = make(1, None)
    try:
        for _ in range(count):
            assert await answered(pool, nothing, 1) == 1
            await asyncio.sleep(0.3)  # what is kept ready is ready
            endless = asyncio.ensure_future(pool.call(work.spin))
            await asyncio.sleep(0.1)
            cancelled = time.perf_counter()
            endless.cancel()
            await asyncio.wait([endless])
            awaited = time.perf_counter()
            assert endless.cancelled()
            assert await answered(pool, nothing, 2) == 2
            samples["awaited, ms"].append((awaited - cancelled) * 1e3)
            samples["next result, ms"].append((time.perf_counter() - awaited) * 1e3)
        return samples
    finally:
        await pool.close()


async def crash(make: Make, count: int) -> Samples:
    """Milliseconds until a call whose worker dies has its error, and until the next result."""
    samples: Samples = {"error, ms": [], "next result, ms": [], "next with NumPy, ms": []}
    for module, fn in ((None, nothing), ("numpy", work.use_numpy)):
        pool = make(1, module)
        try:
            for _ in range(count):
                assert await answered(pool, fn, 1) == 1
                await asyncio.sleep(0.3)  # what is kept ready is ready
                began = time.perf_counter()
                try:
                    await answered(pool, os._exit, 1)
                except TimeoutError:
                    raise
                except Exception as error:
                    failed = error
                else:
                    raise AssertionError("the crash was not told")
                told = time.perf_counter()
                del failed
                assert await answered(pool, fn, 2) == 2
                taken = (time.perf_counter() - told) * 1e3
                samples["next result, ms" if module is None else "next with NumPy, ms"].append(
                    taken
                )
                if module is None:
                    samples["error, ms"].append((told - began) * 1e3)
        finally:
            await pool.close()
    return samples


async def heartbeat(make: Make, count: int) -> Samples:
    """Milliseconds by which the loop is late at most, beside arrays and queued calls."""
    import numpy as np

    array = np.ones((8 << 20) if count > 1 else 1_000)  # 64 MiB; next to nothing with --quick
    pool = make(WORKERS, None)
    slips: list[float] = []
    try:
        await asyncio.gather(*(answered(pool, time.sleep, 0.1) for _ in range(2 * WORKERS)))
        assert await answered(pool, work.size, array) == len(array)
        beating = asyncio.ensure_future(beat(slips))
        for _ in range(count):
            waiting: list[asyncio.Future[Any]] = []
            # Those who ask come in small parties, so that it is not they who hold up the loop.
            for party in range(100):
                waiting += [asyncio.ensure_future(pool.call(nothing, 1)) for _ in range(10)]
                if party % 25 == 10:
                    waiting.append(asyncio.ensure_future(pool.call(work.size, array)))
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*waiting)
            assert sorted(results) == [1] * 1_000 + [len(array)] * 4
        beating.cancel()
        await asyncio.wait([beating])
    finally:
        await pool.close()
    return {"late at most, ms": [max(slips)]}


async def beat(slips: list[float]) -> None:
    """Note by how many milliseconds each sleep of a millisecond was too long."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        slips.append((time.perf_counter() - began - 0.001) * 1e3)


class Idle:
    """No pool at all: what the loop is late by itself on this machine."""

    def __init__(self, workers: int, module: str | None) -> None:
        pass

    async def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0.001)
        return args[0] if fn is nothing else len(args[0]) if fn is work.size else None

    async def close(self) -> None:
        pass


async def answered(pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
    """What the call gives; TimeoutError if it hangs."""
    async with asyncio.timeout(PATIENCE):
        return await pool.call(fn, *args)


@dataclass(frozen=True)
class Question:
    ask: Callable[[Make, int], Awaitable[Samples]]
    count: int
    """Times in one round."""
    quick: int
    more: dict[str, str] = field(default_factory=dict)
    """Answers that only this question is put to."""


QUESTIONS = {
    "calls": Question(calls, 500, 20),
    "start": Question(start, 1, 1),
    "cancel": Question(cancel, 5, 1, process_pool.SPARED),
    "crash": Question(crash, 3, 1, process_pool.SPARED),
    "heartbeat": Question(heartbeat, 2, 1),
}
LOOP_ALONE = "the loop alone"


# ------------------------------------------------------------------ measuring


@dataclass
class Contender:
    """One answer, its reason if it cannot be asked, and what was measured of it, round by round."""

    name: str
    answer: Callable[..., Any] | str
    question: str
    rounds: list[Samples] = field(default_factory=list)

    def reason(self, question: str) -> str | None:
        """Why it cannot be asked; None: it can."""
        if isinstance(self.answer, str):
            return self.answer
        return process_pool.UNASKED.get(question, {}).get(self.name)

    def __call__(self, workers: int, module: str | None) -> Any:
        assert callable(self.answer)
        return self.answer(workers, module)

    def columns(self) -> list[str]:
        return [*dict.fromkeys(column for each in self.rounds for column in each)]

    def all_of(self, column: str) -> list[float]:
        return sorted(value for each in self.rounds for value in each.get(column, ()))

    def median(self, column: str) -> float | None:
        values = self.all_of(column)
        return statistics.median(values) if values else None

    def p95(self, column: str) -> float | None:
        values = self.all_of(column)
        return values[min(len(values) - 1, int(len(values) * 0.95))] if values else None

    def times(self, other: "Contender | None", column: str) -> float | None:
        """How many times the figure of the other one: the median over rounds."""
        if other is None or not self.rounds:
            return None
        ratios = [
            statistics.median(mine[column]) / statistics.median(theirs[column])
            for mine, theirs in zip(self.rounds, other.rounds, strict=True)
            if mine.get(column) and theirs.get(column)
        ]
        return statistics.median(ratios) if ratios else None


def contenders(question: str, only: Sequence[str] | None) -> list[Contender]:
    answers = harness.load("process_pool", {**process_pool.ANSWERS, **QUESTIONS[question].more})
    found = [Contender(name, answer, question) for name, answer in answers.items()]
    if question == "heartbeat":
        found.insert(0, Contender(LOOP_ALONE, Idle, question))
    return [each for each in found if harness.wanted(each.name, only)]


def measure(question: str, asked: Iterable[Contender], factory: Any, args: Any) -> None:
    asked = [each for each in asked if each.reason(question) is None]
    kind = QUESTIONS[question]
    for _ in range(args.rounds):
        for each in asked:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.get_loop()
                gc.collect()
                if args.gc == "off":
                    gc.disable()
                try:
                    samples = runner.run(
                        answer_of(kind, each, kind.quick if args.quick else kind.count)
                    )
                finally:
                    gc.enable()
            each.rounds.append(samples)


async def answer_of(kind: Question, contender: Contender, count: int) -> Samples:
    return await kind.ask(contender, count)


# ------------------------------------------------------------------ showing


def row_of(question: str, each: Contender, found: Sequence[Contender]) -> dict[str, float | None]:
    """What is shown of one contender."""
    base, floor = named(found, process_pool.BASE), named(found, process_pool.FLOOR)
    if question == "calls":
        return {
            "p50, us": each.median("us/call"),
            "p95, us": each.p95("us/call"),
            "x floor": each.times(floor, "us/call"),
            "x standard": each.times(base, "us/call"),
            "calls/s, 16 callers": each.median("calls/s"),
            "of the floor": each.times(floor, "calls/s"),
            "x standard's": each.times(base, "calls/s"),
        }
    if question == "cancel":
        return {
            f"{column[:-4]} {name}, ms": value(column)
            for column in ("awaited, ms", "next result, ms")
            for name, value in (("p50", each.median), ("p95", each.p95))
        }
    columns = [*dict.fromkeys(column for one in found for column in one.columns())]
    return {column: each.median(column) for column in columns}


def named(found: Iterable[Contender], name: str) -> Contender | None:
    return next((each for each in found if each.name == name and each.rounds), None)


def compare(question: str, loop: str, factory: Any, args: Any) -> list[Contender]:
    """Measure and print one table."""
    found = contenders(question, args.only)
    measure(question, found, factory, args)
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    head: list[str] = []
    for each in found:
        row = row_of(question, each, found)
        head = [*row]
        if (reason := each.reason(question)) is not None:
            rows.append([each.name, reason, *["-"] * (len(row) - 1)])
            results.append({"name": each.name, "missing": reason})
        else:
            digits = 2 if question == "calls" else 1
            rows.append([each.name, *(harness.number(value, digits) for value in row.values())])
            results.append({"name": each.name, **row})
    text = harness.table(["", *head], rows) if rows else "nobody was asked"
    harness.report(f"processes: {question}, {loop}", results, text, as_json=args.json)
    return found


# ------------------------------------------------------------------ the targets

SPARE = next(iter(process_pool.SPARED))
OURS = process_pool.EXEC

Goal = tuple[str, str, Callable[[Sequence[Contender]], float | None], float, bool]
"""Question, what is held against what, the figure, the target, whether it may be no less (or no more)."""


def goals() -> list[Goal]:
    base, floor = process_pool.BASE, process_pool.FLOOR

    def ratio(column: str, peer: str, found: Sequence[Contender]) -> float | None:
        ours = named(found, OURS)
        return None if ours is None else ours.times(named(found, peer), column)

    def p95(column: str, name: str, found: Sequence[Contender]) -> float | None:
        ours = named(found, name)
        return None if ours is None else ours.p95(column)

    return [
        ("calls", f"p50 of a call / {base}", partial(ratio, "us/call", base), 0.3, False),
        ("calls", f"p50 of a call / {floor}", partial(ratio, "us/call", floor), 1.6, False),
        ("calls", f"calls/s / {base}", partial(ratio, "calls/s", base), 2.0, True),
        ("calls", f"calls/s / {floor}", partial(ratio, "calls/s", floor), 0.6, True),
        (
            "cancel",
            "cancelled call awaited, p95, ms",
            partial(p95, "awaited, ms", SPARE),
            50,
            False,
        ),
        (
            "cancel",
            "then the next result, p95, ms",
            partial(p95, "next result, ms", SPARE),
            50,
            False,
        ),
        ("heartbeat", "loop late at most, ms", partial(late, OURS), 20, False),
    ]


def late(name: str, found: Sequence[Contender]) -> float | None:
    ours = named(found, name)
    return None if ours is None else ours.median("late at most, ms")


def accept(args: Any) -> int:
    """Measure every target and print the verdicts; 0 if all are met."""
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    for loop, factory in harness.loops_here(args.loop).items():
        asked: dict[str, list[Contender]] = {}
        for question, what, figure, target, at_least in goals():
            got = None
            if factory is not None:
                if question not in asked:
                    names = (process_pool.BASE, process_pool.FLOOR, OURS, SPARE, LOOP_ALONE)
                    found = [each for each in contenders(question, None) if each.name in names]
                    measure(question, found, factory, args)
                    asked[question] = found
                got = figure(asked[question])
            if got is None:
                verdict = "NOT RUN"
            else:
                verdict = "PASS" if (got >= target if at_least else got <= target) else "FAIL"
            goal = f"{'>=' if at_least else '<='} {target}"
            rows.append([f"{what}, {loop}", goal, harness.number(got), verdict])
            results.append(
                {"what": what, "loop": loop, "target": goal, "measured": got, "verdict": verdict}
            )
        alone = late(LOOP_ALONE, asked.get("heartbeat", ()))
        rows.append([f"{LOOP_ALONE} late at most, ms, {loop}", "-", harness.number(alone), "-"])
    text = harness.table(["", "target", "measured", "verdict"], rows)
    harness.report("processes: acceptance", results, text, as_json=args.json)
    return 0 if all(each["verdict"] == "PASS" for each in results) else 1


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--question", action="append", choices=QUESTIONS, help="only this one")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    options.add_argument("--acceptance", action="store_true", help="judge the project's targets")
    args = harness.parse(options, argv)
    if args.acceptance:
        return accept(args)
    loops = args.loop or (["asyncio"] if args.quick else None)
    for loop, factory in harness.loops_here(loops).items():
        for question in args.question or QUESTIONS:
            if factory is None:
                missing = [{"name": loop, "missing": f"not installed: {loop}"}]
                harness.report(
                    f"processes: {question}, {loop}",
                    missing,
                    missing[0]["missing"],
                    as_json=args.json,
                )
            else:
                compare(question, loop, factory, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
