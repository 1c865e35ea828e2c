"""Call an async function on many items, at most `limit` at once, and hand back the results.

Every answer is `async (fn, items, limit) -> list of results`, written as that library's own
documentation would write it. Order is not asked for, so nobody is slowed down by keeping it.
"""

BASE = "gather + Semaphore"
FLOOR = "bare pulling workers"

ANSWERS = {
    BASE: "gather_semaphore:collect",
    "TaskGroup + Semaphore": "taskgroup_semaphore:collect",
    "aiometer": "aiometer_amap:collect",
    "anyio group + CapacityLimiter": "anyio_limiter:collect",
    "aiostream": "aiostream_map:collect",
    FLOOR: "pulling_workers:collect",
    "fixed lanes, no map": "fixed_lanes:collect",
    "aioconc gather_limited": "aioconc_flow:gathered",
    "aioconc map_limited, awaited": "aioconc_flow:awaited",
    "aioconc map_limited, stream": "aioconc_flow:streamed",
    "aioconc map_limited, stream unordered": "aioconc_flow:streamed_unordered",
}
"""Name in the tables -> where the answer is."""

SLOW = {"aiometer": 5, "anyio group + CapacityLimiter": 5, "aiostream": 5}
"""These get a fifth of the items, so that a round stays within seconds."""

STREAMS = {
    "aiometer, stream": "aiometer_amap:consume",
    "aiostream, stream": "aiostream_map:consume",
    "aioconc map_limited, stream": "aioconc_flow:consume",
    "aioconc map_limited, stream unordered": "aioconc_flow:consume_unordered",
}
"""For memory: the same, but each result is forgotten as it comes; returns how many came."""

TASK_PER_ITEM = {
    BASE,
    "TaskGroup + Semaphore",
    "aiometer",
    "aiometer, stream",
    "anyio group + CapacityLimiter",
    "aiostream",
    "aiostream, stream",
}
"""Slow or large: these get a tenth of the items where memory is measured."""
