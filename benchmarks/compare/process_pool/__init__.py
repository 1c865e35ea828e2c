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
PEBBLE = "pebble"
ANYIO = "anyio.to_process"

ANSWERS = {
    FLOOR: "bare_pool:Bare",
    BASE: "stdlib_pools:Spawned",
    "ProcessPoolExecutor, forkserver": "stdlib_pools:Forked",
    "multiprocessing.Pool, spawn": "stdlib_pools:MpPool",
    "loky": "loky_pool:Loky",
    "joblib, a list of one": "joblib_pool:Joblib",
    PEBBLE: "pebble_pool:Pebble",
    ANYIO: "anyio_pool:Anyio",
    EXEC: "aioconc_pools:Exec",
    FORKED: "aioconc_pools:Forked",
}
"""Name in the tables -> where the answer is."""

SPARED = {
    f"{EXEC}, spares=1": "aioconc_pools:Spared",
}
"""Asked about what happens after a kill alone."""

UNASKED = {
    "start": {
        FLOOR: "runs nothing but builtins",
    },
    "cancel": {
        FLOOR: "cannot end a running call",
        BASE: "cannot end a running call",
        "ProcessPoolExecutor, forkserver": "cannot end a running call",
        "multiprocessing.Pool, spawn": "cannot end a running call",
        "loky": "cannot end a running call",
        "joblib, a list of one": "cannot end a running call",
    },
    "crash": {
        FLOOR: "knows nothing of crashes",
        "multiprocessing.Pool, spawn": "the call never ends",
    },
    "at once": {
        "joblib, a list of one": "runs one list at a time",
    },
    "heartbeat": {
        FLOOR: "knows nothing of large values",
        "joblib, a list of one": "runs one list at a time",
    },
}
"""Question -> those who cannot be asked it, and why."""
