"""Items between tasks, threads and processes, both ways: awaited, bounded, and told of a death.

`open_channel` makes the two ends of a channel. An end is used where it is, or passed to another
process; who closes, who dies and who is slow is seen at the other end.
"""

from aioconc._internal._public import publish
from aioconc.channels._array_lock import ArrayLock, ArrayLockStatistics, SyncArrayLock
from aioconc.channels._channel import Channel, ChannelStatistics, open_channel
from aioconc.channels._errors import BrokenChannel, ChannelClosed, EndOfStream, PeerDied
from aioconc.channels._manager._open import Manager, open_manager
from aioconc.channels._manager._shared import Asked
from aioconc.channels._manager._shared_condition import SharedCondition, SyncSharedCondition
from aioconc.channels._manager._shared_dict import SharedDict, SyncSharedDict
from aioconc.channels._manager._shared_list import SharedList, SyncSharedList
from aioconc.channels._manager._shared_locks import (
    SharedBoundedSemaphore,
    SharedLock,
    SharedRLock,
    SharedSemaphore,
    SyncSharedLock,
    SyncSharedSemaphore,
)
from aioconc.channels._manager._shared_meeting import (
    SharedBarrier,
    SharedEvent,
    SyncSharedBarrier,
    SyncSharedEvent,
)
from aioconc.channels._manager._shared_queue import (
    SharedLifoQueue,
    SharedPriorityQueue,
    SharedQueue,
    SyncSharedQueue,
)
from aioconc.channels._manager._statistics import (
    SharedBarrierStatistics,
    SharedEventStatistics,
    SharedLockStatistics,
    SharedQueueStatistics,
    SharedSemaphoreStatistics,
)
from aioconc.channels._shared_array import SharedArray
from aioconc.channels._sync_channel import SyncChannel

__all__ = [
    "ArrayLock",
    "ArrayLockStatistics",
    "Asked",
    "BrokenChannel",
    "Channel",
    "ChannelClosed",
    "ChannelStatistics",
    "EndOfStream",
    "Manager",
    "PeerDied",
    "SharedArray",
    "SharedBarrier",
    "SharedBarrierStatistics",
    "SharedBoundedSemaphore",
    "SharedCondition",
    "SharedDict",
    "SharedEvent",
    "SharedEventStatistics",
    "SharedLifoQueue",
    "SharedList",
    "SharedLock",
    "SharedLockStatistics",
    "SharedPriorityQueue",
    "SharedQueue",
    "SharedQueueStatistics",
    "SharedRLock",
    "SharedSemaphore",
    "SharedSemaphoreStatistics",
    "SyncArrayLock",
    "SyncChannel",
    "SyncSharedBarrier",
    "SyncSharedCondition",
    "SyncSharedDict",
    "SyncSharedEvent",
    "SyncSharedList",
    "SyncSharedLock",
    "SyncSharedQueue",
    "SyncSharedSemaphore",
    "open_channel",
    "open_manager",
]

publish(globals())
