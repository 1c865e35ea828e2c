"""Items between tasks, threads and processes, both ways: awaited, bounded, and told of a death.

`open_channel` makes the two ends of a channel. An end is used where it is, or passed to another
process; who closes, who dies and who is slow is seen at the other end.
"""

from aioconc._internal._public import publish
from aioconc.channels._channel import Channel, ChannelStatistics, open_channel
from aioconc.channels._errors import BrokenChannel, ChannelClosed, EndOfStream, PeerDied
from aioconc.channels._sync_channel import SyncChannel

__all__ = [
    "BrokenChannel",
    "Channel",
    "ChannelClosed",
    "ChannelStatistics",
    "EndOfStream",
    "PeerDied",
    "SyncChannel",
    "open_channel",
]

publish(globals())
