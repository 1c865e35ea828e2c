"""What does it cost a process to use a lock, a dict or a queue of another process?

Beside `multiprocessing.Manager`, which has a process and a thread for each connection. aioconc's
broker is in the event loop of this process, which is idle otherwise. A lock is taken and given
back, a dict is set and asked, an item is put and got: microseconds for the pair, as the processes
that do it say, and how many times as fast as `multiprocessing` each is. With several processes, the
slowest of them counts, for as many pairs as all of them do.

    python benchmarks/bench_manager.py
    python benchmarks/bench_manager.py --question lock --processes 4
"""

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import _harness as harness
from compare.manager import asks

from aioconc import ProcessExecutor
from aioconc.channels import open_manager

COUNT = 2_000
QUICK_COUNT = 30
ROUNDS = 5

BASE = "multiprocessing"

# Question -> what makes the object, of either manager.
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "lock": lambda manager: manager.Lock(),
    "table": lambda manager: manager.dict(),
    "queue": lambda manager: manager.Queue(),
}

# Who is asked: how its functions end, where they are not those of plain code.
CONTENDERS = {BASE: "", "aioconc, plain code": "", "aioconc, async code": "_async"}


async def compare(question: str, processes: int, args: Any) -> None:
    """Measure and print one table."""
    count = QUICK_COUNT if args.quick else COUNT // processes
    make = QUESTIONS[question]
    names = [name for name in CONTENDERS if harness.wanted(name, args.only)]
    timings = {name: harness.Timing(name, count * processes) for name in names}
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        theirs = stack.enter_context(context.Manager())
        peers = stack.enter_context(context.Pool(processes))
        async with open_manager() as ours, ProcessExecutor(processes) as pool:
            for number in range(args.rounds + 1):
                for name in names:
                    ask = getattr(asks, question + CONTENDERS[name])
                    if name == BASE:
                        shared = make(theirs)
                        job = peers.starmap_async(ask, [(shared, count)] * processes, 1)
                        told = await asyncio.to_thread(job.get)
                    else:
                        shared = make(ours)
                        calls = (pool.run(ask, shared, count) for _ in range(processes))
                        told = await asyncio.gather(*calls)
                    if number:  # the first one warms up
                        timing = timings[name]
                        wall, cpu = max(each[0] for each in told), sum(each[1] for each in told)
                        timing.wall.append(wall / count / processes)
                        timing.cpu.append(cpu / count / processes)
    base = timings.get(BASE)
    rows, results = [], []
    for timing in timings.values():
        microseconds = timing.microseconds(args.clock)
        ratio = harness.times_faster(timing, base, args.clock)
        rows.append([timing.name, harness.number(microseconds, 1), harness.number(ratio)])
        results.append({"name": timing.name, "us": microseconds, "times": ratio})
    head = ["", "us for a pair", "times as fast as multiprocessing"]
    title = f"{question}, {processes} process{'' if processes == 1 else 'es'}"
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--question", action="append", choices=QUESTIONS, help="only this one")
    options.add_argument("--processes", action="append", type=int, help="how many use it at once")
    args = harness.parse(options, argv)
    for question in args.question or QUESTIONS:
        for processes in args.processes or ([1] if args.quick else [1, 4]):
            asyncio.run(compare(question, processes, args))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
