"""Work of some milliseconds that must not hold up a loop: copying and unpickling of much data.

Each errand has a thread of its own, which costs a tenth of the least that is worth one; nobody
waits for it at exit. How its outcome gets back to a loop is the business of whoever sends it.
"""

import _thread
from collections.abc import Callable
from typing import TypeVarTuple

Ts = TypeVarTuple("Ts")


def run_errand(fn: Callable[[*Ts], object], *args: *Ts) -> None:
    """Have a thread call `fn(*args)`, which must not raise; here, if there can be no more threads."""
    try:
        _thread.start_new_thread(fn, args)
    except RuntimeError:
        fn(*args)
