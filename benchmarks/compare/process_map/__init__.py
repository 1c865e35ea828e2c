"""Map a plain function over many items in two worker processes.

Every answer is `async (fn, items) -> list of results`; those that block the loop do so, since it
has nothing else to do here. Workers live as long as the process, as a program's own would; none of
the answers pays for starting them.
"""

CEILING = "two processes that only compute"
BASE = "ProcessPoolExecutor.map(chunksize=n/8)"
JOBLIB = "joblib, batch_size=auto"

ANSWERS = {
    CEILING: "ceiling:compute",
    BASE: "stdlib_maps:executor_chunks",
    "ProcessPoolExecutor.map": "stdlib_maps:executor_single",
    "multiprocessing.Pool.map": "stdlib_maps:pool_map",
    "multiprocessing.Pool.imap(chunksize=n/8)": "stdlib_maps:pool_imap",
    JOBLIB: "joblib_maps:auto",
    "loky map(chunksize=n/8)": "loky_maps:chunks",
    "aioconc map, awaited": "aioconc_maps:awaited",
    "aioconc map, stream": "aioconc_maps:stream",
    "aioconc map, item by item": "aioconc_maps:item_wise",
}
"""Name in the tables -> where the answer is."""

ONE_BY_ONE = ("ProcessPoolExecutor.map",)
"""Send each item by itself, and get fewer of them where they are quick."""
