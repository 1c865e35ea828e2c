"""Items between tasks, threads and processes, both ways: awaited, bounded, and told of a death.

`open_channel` makes the two ends of a channel. An end is used where it is, or passed to another
process; who closes, who dies and who is slow is seen at the other end.
"""

from typing import TYPE_CHECKING

from aioconc._internal._public import publish
from aioconc.channels._channel import Channel
from aioconc.channels._errors import BrokenChannel, ChannelClosed, EndOfStream, PeerDied
from aioconc.channels._open import open_channel
from aioconc.channels._statistics import ChannelStatistics
from aioconc.channels._sync_channel import SyncChannel

if TYPE_CHECKING:
    from aioconc.channels._array_lock import (
        ArrayLock as ArrayLock,
        ArrayLockStatistics as ArrayLockStatistics,
        SyncArrayLock as SyncArrayLock,
    )
    from aioconc.channels._manager._open import (
        Manager as Manager,
        open_manager as open_manager,
    )
    from aioconc.channels._manager._shared import (
        Asked as Asked,
    )
    from aioconc.channels._manager._shared_condition import (
        SharedCondition as SharedCondition,
        SyncSharedCondition as SyncSharedCondition,
    )
    from aioconc.channels._manager._shared_dict import (
        SharedDict as SharedDict,
        SyncSharedDict as SyncSharedDict,
    )
    from aioconc.channels._manager._shared_list import (
        SharedList as SharedList,
        SyncSharedList as SyncSharedList,
    )
    from aioconc.channels._manager._shared_locks import (
        SharedBoundedSemaphore as SharedBoundedSemaphore,
        SharedLock as SharedLock,
        SharedRLock as SharedRLock,
        SharedSemaphore as SharedSemaphore,
        SyncSharedLock as SyncSharedLock,
        SyncSharedSemaphore as SyncSharedSemaphore,
    )
    from aioconc.channels._manager._shared_meeting import (
        SharedBarrier as SharedBarrier,
        SharedEvent as SharedEvent,
        SyncSharedBarrier as SyncSharedBarrier,
        SyncSharedEvent as SyncSharedEvent,
    )
    from aioconc.channels._manager._shared_queue import (
        SharedLifoQueue as SharedLifoQueue,
        SharedPriorityQueue as SharedPriorityQueue,
        SharedQueue as SharedQueue,
        SyncSharedQueue as SyncSharedQueue,
    )
    from aioconc.channels._manager._statistics import (
        SharedBarrierStatistics as SharedBarrierStatistics,
        SharedEventStatistics as SharedEventStatistics,
        SharedLockStatistics as SharedLockStatistics,
        SharedQueueStatistics as SharedQueueStatistics,
        SharedSemaphoreStatistics as SharedSemaphoreStatistics,
    )
    from aioconc.channels._shared_array import (
        SharedArray as SharedArray,
    )

# What a channel alone does not need is loaded when it is first touched: name -> file.
_LATER = {
    "ArrayLock": "_array_lock",
    "ArrayLockStatistics": "_array_lock",
    "Asked": "aioconc.channels._manager._shared",
    "Manager": "aioconc.channels._manager._open",
    "SharedArray": "_shared_array",
    "SharedBarrier": "aioconc.channels._manager._shared_meeting",
    "SharedBarrierStatistics": "aioconc.channels._manager._statistics",
    "SharedBoundedSemaphore": "aioconc.channels._manager._shared_locks",
    "SharedCondition": "aioconc.channels._manager._shared_condition",
    "SharedDict": "aioconc.channels._manager._shared_dict",
    "SharedEvent": "aioconc.channels._manager._shared_meeting",
    "SharedEventStatistics": "aioconc.channels._manager._statistics",
    "SharedLifoQueue": "aioconc.channels._manager._shared_queue",
    "SharedList": "aioconc.channels._manager._shared_list",
    "SharedLock": "aioconc.channels._manager._shared_locks",
    "SharedLockStatistics": "aioconc.channels._manager._statistics",
    "SharedPriorityQueue": "aioconc.channels._manager._shared_queue",
    "SharedQueue": "aioconc.channels._manager._shared_queue",
    "SharedQueueStatistics": "aioconc.channels._manager._statistics",
    "SharedRLock": "aioconc.channels._manager._shared_locks",
    "SharedSemaphore": "aioconc.channels._manager._shared_locks",
    "SharedSemaphoreStatistics": "aioconc.channels._manager._statistics",
    "SyncArrayLock": "_array_lock",
    "SyncSharedBarrier": "aioconc.channels._manager._shared_meeting",
    "SyncSharedCondition": "aioconc.channels._manager._shared_condition",
    "SyncSharedDict": "aioconc.channels._manager._shared_dict",
    "SyncSharedEvent": "aioconc.channels._manager._shared_meeting",
    "SyncSharedList": "aioconc.channels._manager._shared_list",
    "SyncSharedLock": "aioconc.channels._manager._shared_locks",
    "SyncSharedQueue": "aioconc.channels._manager._shared_queue",
    "SyncSharedSemaphore": "aioconc.channels._manager._shared_locks",
    "open_manager": "aioconc.channels._manager._open",
}

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

publish(globals(), _LATER)
