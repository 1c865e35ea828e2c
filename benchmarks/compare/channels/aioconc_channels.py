"""aioconc: awaited here, blocking there."""

from typing import Any

from aioconc.channels import open_channel


class _Awaited:
    def __init__(self, channel: Any) -> None:
        self.send = channel.send
        self.receive = channel.receive
        self.receive_many = channel.receive_many
        self.close = channel.aclose


def _unwrap(channel: Any) -> Any:
    return channel.sync


def channel(capacity: int) -> Any:
    """A channel."""
    ours, theirs = open_channel(capacity=capacity)
    return _Awaited(ours), _unwrap, theirs
