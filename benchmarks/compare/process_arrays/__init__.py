"""Send an array to a worker process and get a number, or an array, back.

Every answer is `async (fn, array) -> result`. One worker each, which lives as long as the process;
none of the answers pays for starting it.
"""

BASE = "ProcessPoolExecutor, spawn"
OURS = "aioconc"

ANSWERS = {
    BASE: "stdlib_arrays:spawned",
    "ProcessPoolExecutor, forkserver": "stdlib_arrays:from_forkserver",
    "multiprocessing.Pool": "stdlib_arrays:pool",
    "loky": "loky_arrays:call",
    OURS: "aioconc_arrays:call",
}
"""Name in the tables -> where the answer is."""
