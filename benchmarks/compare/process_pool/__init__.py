"""Run single calls in worker processes: how long they take, and what a cancel or a crash costs.

Every answer is a class: `Answer(workers, module)` in a running loop makes a pool, `await call(fn,
*args)` runs one call in it, and `await close()` ends it. `module` is one that workers should have
imported beforehand, where the pool can do that. Where a crash breaks the pool, `call` makes a new
one, as its user would have to.
"""

BASE = "ProcessPoolExecutor, spawn"
FLOOR = "bare exchange over a socketpair"
EXEC = "aioconc ProcessExecutor"
FORKED = "aioconc, start=forkserver"
JOBLIB = "joblib, a list of one"

ANSWERS = {
    FLOOR: "bare_pool:Bare",
    BASE: "stdlib_pools:Spawned",
    "ProcessPoolExecutor, forkserver": "stdlib_pools:Forked",
    "multiprocessing.Pool, spawn": "stdlib_pools:MpPool",
    "loky": "loky_pool:Loky",
    JOBLIB: "joblib_pool:Joblib",
    "pebble": "pebble_pool:Pebble",
    "anyio.to_process": "anyio_pool:Anyio",
    EXEC: "aioconc_pools:Exec",
    FORKED: "aioconc_pools:Forked",
}
"""Name in the tables -> where the answer is."""

SPARED = {
    f"{EXEC}, spares=1": "aioconc_pools:Spared",
}
"""Asked about what happens after a kill alone."""

NO_KILL = "cannot end a running call"
LISTS = "runs lists of calls"

UNASKED = {
    "calls": {JOBLIB: LISTS},
    "start": {FLOOR: "runs nothing but builtins"},
    "cancel": {
        FLOOR: NO_KILL,
        BASE: NO_KILL,
        "ProcessPoolExecutor, forkserver": NO_KILL,
        "multiprocessing.Pool, spawn": NO_KILL,
        "loky": NO_KILL,
        JOBLIB: NO_KILL,
    },
    "crash": {
        FLOOR: "knows nothing of crashes",
        "multiprocessing.Pool, spawn": "the call never ends",
        JOBLIB: LISTS,
    },
    "heartbeat": {FLOOR: "knows nothing of large values", JOBLIB: LISTS},
}
"""Question -> those who cannot be asked it, and why."""
