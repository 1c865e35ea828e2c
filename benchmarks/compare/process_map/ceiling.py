"""What is at all reachable: processes that get nothing but a number, and compute."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from compare.process_map.work import WORKERS

HERE = Path(__file__).parent.parent.parent

PROGRAM = """
import sys
sys.path.insert(0, {path!r})
from compare.process_map.work import spin
for line in sys.stdin:
    turns, count = map(int, line.split())
    for _ in range(count):
        result = spin(turns)
    print(result, flush=True)
"""


@cache
def _workers() -> list[Any]:
    command = [sys.executable, "-c", PROGRAM.format(path=str(HERE))]
    made = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    return made


async def compute(_: Callable[[int], int], items: Sequence[int]) -> list[int]:
    share = -(-len(items) // WORKERS)
    workers = _workers()
    for worker in workers:
        stdin: IO[str] = worker.stdin
        stdin.write(f"{items[0]} {share}\n")
        stdin.flush()
    (result,) = {int(worker.stdout.readline()) for worker in workers}
    return [result] * len(items)
