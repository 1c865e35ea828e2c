"""What does it cost to watch an event loop all the time?

Runs a program that idles, one whose loop turns as fast as it can, and one whose steps compute for a
millisecond each; with nothing, with `watch_loop`, and in asyncio's debug mode, in turn, each for
some seconds. Shows processor time in percent of one core: of the process, of the watching thread, and what the
same work costs more than with nothing (median of the rounds; on a machine that others use this
wavers, and the thread's own time hardly does).

    python benchmarks/bench_watch_loop.py --rounds 9
    python benchmarks/bench_watch_loop.py --what idle --threshold 0.05 --seconds 10
"""

import asyncio
import logging
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import _harness as harness

from aioconc.runtime import run, watch_loop

WHAT = ("idle", "turning", "computing")
WAYS = ("nothing", "watch_loop", "asyncio debug mode")
TASKS = 100
STEP = 0.001  # seconds
QUICK = 0.1


# ------------------------------------------------------------------ the programs


async def idle(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


async def turning(seconds: float) -> int:
    """Tasks that do nothing but wait for their next turn; gives the number of turns."""
    end = time.perf_counter() + seconds
    turns = 0

    async def task() -> None:
        nonlocal turns
        while time.perf_counter() < end:
            turns += 1
            await asyncio.sleep(0)

    await asyncio.gather(*(task() for _ in range(TASKS)))
    return turns


async def computing(seconds: float) -> int:
    """Steps of about a millisecond; gives their number."""
    end = time.perf_counter() + seconds
    steps = 0
    while time.perf_counter() < end:
        sum(range(40_000))
        steps += 1
        await asyncio.sleep(0)
    return steps


PROGRAMS: dict[str, Callable[[float], Awaitable[int]]] = {
    "idle": idle,
    "turning": turning,
    "computing": computing,
}


# ------------------------------------------------------------------ measuring


def thread_seconds() -> float:
    """Processor time of the watching thread so far; 0.0 where there is none, or it is not told."""
    for thread in threading.enumerate():
        if thread.name == "watch_loop" and thread.ident is not None:
            return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return 0.0


def measure(what: str, way: str, args: Any) -> dict[str, float]:
    """One run: percent of a core for the process and the thread, and per unit of work."""

    async def main() -> dict[str, float]:
        watch: AbstractContextManager[object] = nullcontext()
        if way == "watch_loop":
            watch = watch_loop(args.threshold, lambda _: None)
        with watch:
            await asyncio.sleep(0.05)
            wall, cpu, own = time.perf_counter(), time.process_time(), thread_seconds()
            done = await PROGRAMS[what](args.seconds)
            wall = time.perf_counter() - wall
            cpu = time.process_time() - cpu
            own = thread_seconds() - own
        return {"core": 100 * cpu / wall, "thread": 100 * own / wall, "each": cpu / done}

    return run(main, loop=args.loop, debug=way == "asyncio debug mode")


def extra(what: str, watched: dict[str, float], bare: dict[str, float]) -> float:
    """How much more the same work costs when it is watched, in percent of one core."""
    if what == "idle":
        return watched["core"] - bare["core"]
    return watched["core"] * (1 - bare["each"] / watched["each"])


def compare(what: str, args: Any) -> None:
    """Measure all ways in turn, and print a table."""
    ways = [way for way in WAYS if harness.wanted(way, args.only)]
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way in ways:
            rounds[way].append(measure(what, way, args))
    rows, results = [], []
    for way in ways:
        core = statistics.median(each["core"] for each in rounds[way])
        thread = statistics.median(each["thread"] for each in rounds[way])
        more = None
        if "nothing" in rounds and way != "nothing":
            pairs = zip(rounds[way], rounds["nothing"], strict=True)
            more = statistics.median(extra(what, a, b) for a, b in pairs)
        rows.append([way, harness.number(core), harness.number(thread, 3), harness.number(more, 2)])
        results.append({"way": way, "core": core, "thread": thread, "more": more})
    head = ["", "% of a core", "its thread, %", "more than nothing, % of a core"]
    title = f"watching a loop: {what}, {args.loop}, threshold {args.threshold:g} s"
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--what", choices=WHAT, action="append", help="default: all")
    options.add_argument("--loop", choices=harness.LOOPS, default="asyncio")
    options.add_argument("--threshold", type=float, default=0.1, help="seconds (default: 0.1)")
    options.add_argument("--seconds", type=float, help="of each run (default: 3)")
    args = harness.parse(options, argv)
    if args.seconds is None:
        args.seconds = QUICK if args.quick else 3.0
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # debug mode tells of slow steps
    for what in args.what or WHAT:
        compare(what, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
