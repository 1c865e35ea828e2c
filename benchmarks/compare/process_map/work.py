"""What the workers do: so many turns of a loop. Loads nothing."""

import time

WORKERS = 2


def spin(turns: int) -> int:
    total = 0
    for each in range(turns):
        total += each
    return total


def turns_for(microseconds: float) -> int:
    """How many turns take so long on this machine, at its best."""
    turns = 1_000
    best = float("inf")
    for _ in range(200):
        start = time.perf_counter()
        spin(turns)
        best = min(best, time.perf_counter() - start)
    return max(1, round(turns * microseconds / (best * 1e6)))
