"""What does an item cost on its way between two processes?

Asks every answer in compare/channels: small dictionaries one by one and many at once, the way there
and back, and arrays of 8 MB. aioconc is awaited in this process, the others block it; in the other
process all of them block. Shows microseconds per item, how many times as fast as each aioconc is,
and what an item costs the processors, which a busy machine changes less. `--question heartbeat` shows how late a timer beside a reader of a million items comes.

    python benchmarks/bench_channels.py
    python benchmarks/bench_channels.py --question "round trip" --only aioconc --only Pipe
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import _harness as harness
from compare import channels
from compare.channels.ends import SMALL, serve

CAPACITY = 1_000

# Arrays on their way, of which each takes its own memory.
FEW = 4

# Question -> items in a round, and with --quick.
COUNTS = {
    "one by one": (20_000, 200),
    "batches": (20_000, 200),
    "round trip": (2_000, 50),
    "8 MB arrays": (20, 2),
}
HEARTBEAT = 1_000_000


class Peer:
    """One answer, with its other process."""

    def __init__(self, make: Any, capacity: int = CAPACITY) -> None:
        self.ours, unwrap, theirs = make(capacity)
        context = multiprocessing.get_context("spawn")
        self.commands, there = context.Pipe()
        self.process = context.Process(target=serve, args=(unwrap, theirs, there))
        self.process.start()
        there.close()
        # Processor time of the other process for an item, one entry a call.
        self.there: list[float] = []

    async def ask(self, question: str, count: int) -> int:
        """Have so many items sent, and take them."""
        self.commands.send((question, count))
        ours, seen = self.ours, 0
        if question == "one by one":
            for _ in range(count):
                seen += await ours.receive() == SMALL
        elif question == "batches":
            while seen < count:
                seen += len(await ours.receive_many(CAPACITY))
        elif question == "8 MB arrays":
            for _ in range(count):
                seen += len(await ours.receive()) == 1_000_000
        else:
            for number in range(count):
                await ours.send(number)
                seen += await ours.receive() == number
        self.there.append(self.commands.recv() / count)
        return seen

    async def close(self) -> None:
        self.commands.send(None)
        await self.ours.close()
        self.process.join()
        self.commands.close()


class Peers:
    """The answers that have been asked already: their processes stay for the next question."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._started: dict[tuple[str, int], Peer] = {}

    def get(self, name: str, make: Any, capacity: int) -> Peer:
        peer = self._started.get((name, capacity))
        if peer is None:
            peer = self._started[name, capacity] = Peer(make, capacity)
            self._stack.callback(lambda: asyncio.run(peer.close()))
        peer.there.clear()
        return peer


def compare(peers: Peers, question: str, loop: str, factory: Any, args: Any) -> None:
    """Measure and print one table."""
    count = COUNTS[question][bool(args.quick)]
    capacity = FEW if question == "8 MB arrays" else CAPACITY
    chosen, asked = [], {}
    for name, answer in harness.load("channels", channels.CHANNELS).items():
        if not harness.wanted(name, args.only):
            continue
        if isinstance(answer, str):
            chosen.append(harness.Contender(name, None, missing=answer))
            continue
        peer = asked[name] = peers.get(name, answer, capacity)

        def ask(count: int, peer: Peer = peer) -> Any:
            return peer.ask(question, count)

        chosen.append(harness.Contender(name, ask, count))
    timings = harness.measure(
        chosen,
        rounds=args.rounds,
        loop_factory=factory,
        check=lambda answer, count: answer == count,
        collector=args.gc == "on",
    )
    ours = harness.named(timings, channels.OURS)
    rows, results = [], []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-", "-", "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds("wall")
        ratio = None if ours is None else harness.times_faster(ours, timing, "wall")
        here = timing.microseconds("cpu")
        # Without the round that only checks the answer.
        there = statistics.median(asked[timing.name].there[1:]) * 1e6
        figures = [microseconds, ratio, here, there]
        rows.append([timing.name, *map(harness.number, figures)])
        names = ("us", "aioconc_times", "us_cpu_here", "us_cpu_there")
        results.append({"name": timing.name, **dict(zip(names, figures, strict=True))})
    head = ["", "us each", "aioconc is x times as fast", "us of processor here", "and there"]
    harness.report(f"{question}, {loop}", results, harness.table(head, rows), as_json=args.json)


def heartbeat(peers: Peers, loop: str, factory: Any, args: Any) -> None:
    """How late a timer of a millisecond comes while items are received as fast as they come."""
    count = 1_000 if args.quick else HEARTBEAT
    answer = harness.load("channels", channels.CHANNELS)[channels.OURS]
    peer = peers.get(channels.OURS, answer, CAPACITY)
    rows, results = [], []

    async def measure(question: str) -> tuple[float, float]:
        late = [0.0]

        async def beat() -> None:
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                late.append(time.perf_counter() - before - 0.001)

        beating = asyncio.create_task(beat())
        before = time.perf_counter()
        assert await peer.ask(question, count) == count
        seconds = time.perf_counter() - before
        beating.cancel()
        late.sort()
        return late[int(len(late) * 0.99)] * 1e3, late[-1] * 1e3 if seconds else 0.0

    for question in ("one by one", "batches"):
        with asyncio.Runner(loop_factory=factory) as runner:
            most, worst = runner.run(measure(question))
        rows.append([question, harness.number(most), harness.number(worst)])
        results.append({"question": question, "p99_ms": most, "worst_ms": worst})
    head = ["", "99 of 100 are late by at most (ms)", "the latest (ms)"]
    title = f"heartbeat beside {count:,} items, {loop}"
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    questions = [*COUNTS, "heartbeat"]
    options.add_argument("--question", action="append", choices=questions, help="only this one")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    args = harness.parse(options, argv)
    with ExitStack() as stack:
        peers = Peers(stack)
        for loop, factory in harness.loops_here(args.loop).items():
            if factory is None:
                missing = f"not installed: {loop}"
                harness.report(f"channels, {loop}", [], missing, as_json=args.json)
                continue
            for question in args.question or questions:
                if question == "heartbeat":
                    heartbeat(peers, loop, factory, args)
                else:
                    compare(peers, question, loop, factory, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
