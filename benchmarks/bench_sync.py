"""What do locks and queues cost, alone and between tasks and threads?

Asks every answer in compare/sync: a lock that nobody else wants, a lock that ten tasks hand
around, and queues from a task to a task, from a thread to a task and from a thread to a thread, of
several bounds. Shows microseconds per block or item, and how many times as fast as each that is.

    python benchmarks/bench_sync.py
    python benchmarks/bench_sync.py --question thread-to-task --maxsize 100 --loop asyncio
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import _harness as harness
from compare import sync

SIZES = (0, 100, 1)
COUNT = 20_000
QUICK_COUNT = 500
# Slow at a bound of one, where each item is a switch of threads.
COUNT_OF_ONE = 2_000

QUESTIONS: dict[str, Mapping[str, str]] = {
    "lock, uncontended": sync.LOCKS,
    "lock, ten tasks": sync.LOCKS,
    "task-to-task": sync.TASK_QUEUES,
    "thread-to-task": sync.MIXED_QUEUES,
    "thread-to-thread": sync.THREAD_QUEUES,
}


async def uncontended(make: Callable[[], Any], count: int) -> int:
    lock = make()
    done = 0
    for _ in range(count):
        async with lock:
            done += 1
    return done


async def ten_tasks(make: Callable[[], Any], count: int) -> int:
    lock = make()
    done = 0

    async def task() -> None:
        nonlocal done
        for _ in range(count // 10):
            async with lock:
                done += 1
                await asyncio.sleep(0)

    await asyncio.gather(*(task() for _ in range(10)))
    return done


async def task_to_task(make: Callable[[int], Any], maxsize: int, count: int) -> int:
    put, get = make(maxsize)

    async def produce() -> None:
        for number in range(count):
            await put(number)

    producer = asyncio.create_task(produce())
    seen = 0
    for number in range(count):
        seen += await get() == number
    await producer
    return seen


async def thread_to_task(make: Callable[[int], Any], maxsize: int, count: int) -> int:
    put, get = make(maxsize)

    def produce() -> None:
        for number in range(count):
            put(number)

    producer = threading.Thread(target=produce)
    producer.start()
    seen = 0
    for number in range(count):
        seen += await get() == number
    producer.join()
    return seen


async def thread_to_thread(make: Callable[[int], Any], maxsize: int, count: int) -> int:
    put, get = make(maxsize)

    def produce() -> None:
        for number in range(count):
            put(number)

    def consume() -> int:
        return sum(get() == number for number in range(count))

    producer = threading.Thread(target=produce)
    producer.start()
    seen = await asyncio.to_thread(consume)
    producer.join()
    return seen


def asks(question: str, maxsize: int) -> Callable[..., Any]:
    """The function that answers, given a maker and a count."""
    if question.startswith("lock"):
        return uncontended if question.endswith("uncontended") else ten_tasks
    by_name = {
        "task-to-task": task_to_task,
        "thread-to-task": thread_to_task,
        "thread-to-thread": thread_to_thread,
    }
    return lambda make, count: by_name[question](make, maxsize, count)


def compare(question: str, maxsize: int, loop: str, factory: Any, args: Any) -> None:
    """Measure and print one table."""
    count = QUICK_COUNT if args.quick else COUNT_OF_ONE if maxsize == 1 else COUNT
    ask = asks(question, maxsize)
    chosen = []
    for name, answer in harness.load("sync", QUESTIONS[question]).items():
        if not harness.wanted(name, args.only):
            continue
        if isinstance(answer, str):
            chosen.append(harness.Contender(name, None, missing=answer))
        else:
            chosen.append(harness.Contender(name, partial(ask, answer), count))
    timings = harness.measure(
        chosen,
        rounds=args.rounds,
        loop_factory=factory,
        check=lambda answer, count: answer == count,
        collector=args.gc == "on",
    )
    ours = harness.named(timings, sync.OURS)
    rows, results = [], []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds(args.clock)
        ratio = None if ours is None else harness.times_faster(ours, timing, args.clock)
        rows.append([timing.name, harness.number(microseconds), harness.number(ratio)])
        results.append({"name": timing.name, "us": microseconds, "aioconc_times": ratio})
    bound = "" if question.startswith("lock") else f", maxsize {maxsize}"
    head = ["", "us each", "aioconc is x times as fast"]
    title = f"{question}{bound}, {loop}"
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--question", action="append", choices=QUESTIONS, help="only this one")
    options.add_argument("--maxsize", action="append", type=int, help="bound of queues; 0: none")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    args = harness.parse(options, argv)
    for loop, factory in harness.loops_here(args.loop).items():
        if factory is None:
            harness.report(f"sync, {loop}", [], f"not installed: {loop}", as_json=args.json)
            continue
        for question in args.question or QUESTIONS:
            lock = question.startswith("lock")
            for maxsize in (0,) if lock else args.maxsize or SIZES:
                compare(question, maxsize, loop, factory, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
