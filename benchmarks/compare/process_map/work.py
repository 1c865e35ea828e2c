"""What the workers do: so many turns of a loop. Loads nothing."""

import time

WORKERS = 2

# Seconds of tries at so many turns: the machine has slow and fast moments.
_CALIBRATE = 2.0
_TURNS = 1_000


def spin(turns: int) -> int:
    total = 0
    for each in range(turns):
        total += each
    return total


def turns_for(microseconds: float) -> int:
    """How many turns take so long on this machine, at its best."""
    best = float("inf")
    until = time.perf_counter() + _CALIBRATE
    while (start := time.perf_counter()) < until:
        spin(_TURNS)
        best = min(best, time.perf_counter() - start)
    return max(1, round(_TURNS * microseconds / (best * 1e6)))
