"""Coordinate tasks and threads: locks, events, semaphores, barriers and queues, on any event loop.

Each is awaited by tasks; threads use the same object through its `sync`, where the same names
block. Waiters are served in the order in which they came, and what was granted to one that is
cancelled goes to the next.
"""

from aioconc._internal._public import publish
from aioconc.sync._barrier import Barrier, BarrierStatistics, SyncBarrier
from aioconc.sync._capacity_limiter import (
    CapacityLimiter,
    CapacityLimiterStatistics,
    SyncCapacityLimiter,
)
from aioconc.sync._condition import Condition, SyncCondition
from aioconc.sync._errors import BarrierBroken, QueueEmpty, QueueFull, QueueShutDown
from aioconc.sync._event import Event, EventStatistics, SyncEvent
from aioconc.sync._lock import Lock, LockStatistics, SyncLock
from aioconc.sync._queue import Queue, QueueStatistics
from aioconc.sync._queue_orders import LifoQueue, PriorityQueue
from aioconc.sync._rlock import RLock, SyncRLock
from aioconc.sync._semaphore import (
    BoundedSemaphore,
    Semaphore,
    SemaphoreStatistics,
    SyncSemaphore,
)
from aioconc.sync._sync_queue import SyncQueue
from aioconc.sync._timer import Timer, every
from aioconc.sync._wait_queue import WaitStatistics

__all__ = [
    "Barrier",
    "BarrierBroken",
    "BarrierStatistics",
    "BoundedSemaphore",
    "CapacityLimiter",
    "CapacityLimiterStatistics",
    "Condition",
    "Event",
    "EventStatistics",
    "LifoQueue",
    "Lock",
    "LockStatistics",
    "PriorityQueue",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "QueueStatistics",
    "RLock",
    "Semaphore",
    "SemaphoreStatistics",
    "SyncBarrier",
    "SyncCapacityLimiter",
    "SyncCondition",
    "SyncEvent",
    "SyncLock",
    "SyncQueue",
    "SyncRLock",
    "SyncSemaphore",
    "Timer",
    "WaitStatistics",
    "every",
]

publish(globals())
