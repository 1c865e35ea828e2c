"""What does a connection cost a server, and what an exchange on one that is open?

Asks every answer in compare/servers with the same clients, which run in the same loop on bare
sockets: a connection with one exchange each, and exchanges on connections that stay, 8 at a time.
What the clients cost is in every row, so the ratios are smaller than those of the servers alone.

    python benchmarks/bench_servers.py
    python benchmarks/bench_servers.py --loop uvloop --clock cpu
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import _harness as harness
from compare import servers

TOGETHER = 8
COUNTS = {"connections": 1_000, "exchanges": 5_000}
QUICK = 40
TEXT = b"x" * 100

Answer = Callable[[], AbstractAsyncContextManager[int]]


async def _connect(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


async def _exchange(sock: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, TEXT)
    got = 0
    while got < len(TEXT):
        data = await loop.sock_recv(sock, 1_000)
        assert data, "the server has closed the connection"
        got += len(data)
    return got


async def connections(answer: Answer, count: int) -> int:
    """So many connections with one exchange each; bytes that came back."""
    turns = iter(range(count))
    total = 0

    async def caller(port: int) -> None:
        nonlocal total
        for _ in turns:
            sock = await _connect(port)
            with sock:
                got = await _exchange(sock)
                total += got

    async with answer() as port:
        await asyncio.gather(*(caller(port) for _ in range(TOGETHER)))
    return total


async def exchanges(answer: Answer, count: int) -> int:
    """So many exchanges on a few connections; bytes that came back."""
    turns = iter(range(count))
    total = 0

    async def caller(port: int) -> None:
        nonlocal total
        sock = await _connect(port)
        with sock:
            for _ in turns:
                got = await _exchange(sock)
                total += got

    async with answer() as port:
        await asyncio.gather(*(caller(port) for _ in range(TOGETHER)))
    return total


def right(answer: object, count: int) -> bool:
    """Everything that was sent came back."""
    return answer == count * len(TEXT)


def compare(what: str, loop: str, factory: Any, args: Any) -> None:
    """Measure and print one table."""
    ask = {"connections": connections, "exchanges": exchanges}[what]
    contenders = []
    for name, answer in harness.load("servers", servers.ANSWERS).items():
        if not harness.wanted(name, args.only):
            continue
        if isinstance(answer, str):
            contenders.append(harness.Contender(name, None, missing=answer))
        else:
            count = QUICK if args.quick else COUNTS[what]
            contenders.append(harness.Contender(name, partial(ask, answer), count))
    timings = harness.measure(
        contenders,
        rounds=args.rounds,
        loop_factory=factory,
        check=right,
        collector=args.gc == "on",
    )
    base = harness.named(timings, servers.BASE)
    rows, results = [], []
    for timing in timings:
        if timing.missing:
            rows.append([timing.name, timing.missing, "-"])
            results.append({"name": timing.name, "missing": timing.missing})
            continue
        microseconds = timing.microseconds(args.clock)
        against_base = harness.times_faster(timing, base, args.clock)
        rows.append([timing.name, harness.number(microseconds, 1), harness.number(against_base)])
        results.append({"name": timing.name, "us": microseconds, "times_asyncio": against_base})
    title = f"{what}, {TOGETHER} at a time, {loop}"
    head = ["", f"us/{what[:-1]}", f"x {servers.BASE}"]
    harness.report(title, results, harness.table(head, rows), as_json=args.json)


def main(argv: Sequence[str] | None = None) -> int:
    options = harness.parser(__doc__)
    options.add_argument("--what", action="append", choices=COUNTS, help="only this question")
    options.add_argument("--loop", action="append", choices=harness.LOOPS, help="only this loop")
    args = harness.parse(options, argv)
    for loop, factory in harness.loops_here(args.loop).items():
        if factory is None:
            harness.report(f"servers, {loop}", [], f"not installed: {loop}", as_json=args.json)
            continue
        for what in args.what or COUNTS:
            compare(what, loop, factory, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
