"""The state of one end of a channel, for people and for tests."""

from dataclasses import dataclass

from aioconc.sync._wait_queue import WaitStatistics


@dataclass(frozen=True)
class ChannelStatistics(WaitStatistics):
    """The state of one end of a channel.

    Attributes:
        capacity: items that may be on their way in each direction.
        items_ready: items that have arrived and were not received.
        credits_free: items that may be sent at once.
        undelivered: items sent of which it is not known that the other end took them.
        bytes_unsent: bytes of sent items that the system has not taken yet.
        peer: process id of the other end; None: it is on its way there.
        closed: whether this end is closed, or has moved.
    """

    capacity: int
    items_ready: int
    credits_free: int
    undelivered: int
    bytes_unsent: int
    peer: int | None
    closed: bool
