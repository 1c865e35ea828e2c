"""Locks and queues: who is asked, and where the answer is.

Every maker gives a fresh object for one round. Locks are entered with `async with`, or `with`
between threads; queues give the methods that put and get.
"""

BASE = "asyncio"
OURS = "aioconc"

LOCKS = {
    BASE: "asyncio_sync:Lock",
    OURS: "aioconc_sync:Lock",
    "anyio": "anyio_sync:Lock",
    "anyio fast_acquire": "anyio_sync:fast_lock",
    "aiologic": "aiologic_sync:Lock",
}
"""Locks that tasks enter."""

TASK_QUEUES = {
    BASE: "asyncio_sync:task_queue",
    OURS: "aioconc_sync:task_queue",
    "anyio memory stream": "anyio_sync:task_queue",
    "aiologic": "aiologic_sync:task_queue",
    "culsans": "culsans_sync:task_queue",
    "janus": "janus_sync:task_queue",
}
"""From a task to a task of the same loop: `maxsize -> (put, get)`, both awaited."""

MIXED_QUEUES = {
    OURS: "aioconc_sync:mixed_queue",
    "aiologic": "aiologic_sync:mixed_queue",
    "culsans": "culsans_sync:mixed_queue",
    "janus": "janus_sync:mixed_queue",
}
"""From a thread to a task: `maxsize -> (blocking put, awaited get)`."""

THREAD_QUEUES = {
    "queue": "queue_sync:thread_queue",
    OURS: "aioconc_sync:thread_queue",
    "culsans": "culsans_sync:thread_queue",
}
"""From a thread to a thread: `maxsize -> (put, get)`, both blocking."""
