"""What processes do with their end of a channel before they are killed, or kill themselves."""

import os
import signal
import time
from typing import Any

from aioconc._wire._frames import encode
from aioconc.channels import Channel


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Bomb:
    """Kills the process that unpickles it."""

    def __reduce__(self) -> Any:
        return die, ()


def _half(channel: Channel[Any], size: int) -> None:
    """Send the first half of a frame, as a process does that is killed in the middle of it."""
    frame = b"".join(encode(34, 0, bytes(size)))
    channel._end._sock.setblocking(True)
    channel._end._sock.sendall(memoryview(frame)[: len(frame) // 2])


def at_once(channel: Channel[Any]) -> None:
    die()


def taken_by_a_bomb(bomb: Any, channel: Channel[Any]) -> None:
    """Never gets so far."""


def after_items(channel: Channel[Any]) -> None:
    channel.sync.send_many(range(5))
    die()


def in_a_header(channel: Channel[Any]) -> None:
    channel._end._sock.send(encode(34, 0, b"")[0][:7])
    die()


def in_a_small_item(channel: Channel[Any]) -> None:
    channel.sync.send_many(range(5))
    _half(channel, 100)
    die()


def in_eight_megabytes(channel: Channel[Any]) -> None:
    channel.sync.send_many(range(5))
    _half(channel, 8_000_000)
    die()


def after_an_arena(channel: Channel[Any]) -> None:
    channel.sync.send(bytearray(3_000_000))
    die()


def after_the_last_item(channel: Channel[Any]) -> None:
    channel.sync.send_many(range(5))
    channel.sync.close_send()
    die()


def with_items_taken(channel: Channel[Any]) -> None:
    for _ in range(3):
        channel.sync.receive()
    die()


def with_an_arena_in_hand(channel: Channel[Any]) -> None:
    kept = channel.sync.receive()
    assert len(kept) == 3_000_000
    die()


def while_it_waits_for_an_item(channel: Channel[Any]) -> None:
    channel.sync.send(os.getpid())
    channel.sync.receive()


def while_it_waits_for_room(channel: Channel[Any]) -> None:
    channel.sync.send(os.getpid())
    channel.sync.send_many(range(10_000))


def while_it_computes(channel: Channel[Any]) -> None:
    channel.sync.send(os.getpid())
    time.sleep(60)


def leave_a_megabyte(channel: Channel[Any]) -> None:
    """Return with items that nobody has taken, having closed in time or not."""
    channel.sync.send(bytes(1_000_000))
    channel.sync.send_many([bytes(60_000)] * 10, timeout=0.1)
    channel.sync.close(timeout=0.1)
