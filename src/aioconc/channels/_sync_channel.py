"""The blocking face of a channel, for threads and for programs without an event loop.

It guarantees what the channel does, and that it never stops an event loop. It works on the socket
itself and starts no thread; all decisions are made by `_end`.
"""

import time
from collections.abc import Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aioconc._internal._check import check_count
from aioconc._wire import _channel as wire
from aioconc._wire._body import OUT_OF_BAND, Parts, fill_arena, ready, take_apart
from aioconc.channels._end import MOST_MANY, End
from aioconc.channels._errors import EndOfStream
from aioconc.channels._link import Parked
from aioconc.channels._packing import Raw, as_bytes, gather, pack, unpack
from aioconc.channels._peer import LastLook
from aioconc.sync._home import refuse
from aioconc.sync._wait_queue import check_blocking, check_wait, running_loop

if TYPE_CHECKING:
    from aioconc.channels._channel import Channel

T = TypeVar("T")


class SyncChannel(Generic[T]):
    """An end of a channel for threads: what waits, blocks the thread.

    Equals an end of `multiprocessing.Pipe()`. Raises RuntimeError in the thread of a running event
    loop, which it would stop. Several threads may use it at once.

    Example:
        >>> from aioconc.channels import open_channel
        >>> ours, theirs = open_channel()
        >>> with ours.sync as sender, theirs.sync as receiver:
        ...     sender.send_many([1, 2])
        ...     sender.close_send()
        ...     list(receiver)
        [1, 2]
    """

    __slots__ = ("_channel", "_end")

    def __init__(self, channel: "Channel[T]") -> None:
        self._channel = channel
        self._end: End = channel._end

    # ------------------------------------------------------------------ receiving

    def receive(self, *, timeout: float | None = None) -> T:
        """Block until there is an item, and take it.

        Args:
            timeout: seconds >= 0; None: no limit.

        Raises:
            EndOfStream: the other end sends no more, and all was received.
            PeerDied: the other end died; all that had arrived was received before.
            ChannelClosed: this end is closed, or has moved.
            SerializationError: the item cannot be unpickled here; it is gone, the next one is not.
            TimeoutError: the time was up; no item is lost.
            RuntimeError: an event loop runs in this thread, or in a forked child.
        """
        end = self._end
        if timeout is not None or running_loop() is not None or end._home.left:
            timeout = self._check("receive", timeout)
        raw = end.take_one()
        if raw is None and timeout is None:
            raw = end.take_leading()
        if raw is None:
            raw = self._take("receive", 1, timeout)[0]
        return unpack(raw)  # type: ignore[no-any-return]

    def receive_many(self, max_items: int, *, timeout: float | None = None) -> list[T]:
        """Block until there is an item, and take it, with what has arrived beside it.

        Args:
            max_items: most items to take, int >= 1.
            timeout: seconds >= 0 until the first; None: no limit.

        Returns:
            At least one item, in their order.

        Raises:
            Exception: as with `receive`.
        """
        check_count("max_items", max_items)
        return self._end.unpack_many(self._take("receive_many", max_items, timeout))

    def receive_bytes(self, *, timeout: float | None = None) -> bytes:
        """Block until the other end sends something with `send_bytes`, and take it.

        Args:
            timeout: seconds >= 0; None: no limit.

        Raises:
            TypeError: the next item was sent with `send`; it stays the next one.
            Exception: as with `receive`.
        """
        raws = self._take("receive_bytes", 1, timeout, only_bytes=True)
        return unpack(raws[0])  # type: ignore[no-any-return]

    def _take(
        self, name: str, most: int, timeout: float | None, *, only_bytes: bool = False
    ) -> list[Raw]:
        timeout = self._check(name, timeout)
        end = self._end
        raws = end.take_now(most, only_bytes=only_bytes)
        if raws is not None:
            return raws
        waiter = Parked(end._receivers, end)
        taken = end.take_or_queue(waiter, most, only_bytes=only_bytes)
        if taken is None:
            if not end._park(waiter, timeout):
                raise TimeoutError(f"no item arrived on the channel in {timeout} s")
            taken = end.take_granted(waiter, most, only_bytes=only_bytes)
        if isinstance(taken, str):
            self._learn()
            raise end.why_no_item()
        return taken

    # ------------------------------------------------------------------ sending

    def send(self, item: T, *, timeout: float | None = None) -> None:
        """Send an item, blocking until there is room for it and the system has taken it.

        Args:
            item: anything that can be pickled.
            timeout: seconds >= 0; None: no limit. If there is room in time and the system is slow
                to take the item, it counts as sent, and the rest of it goes with the next call.

        Raises:
            SerializationError: it cannot be pickled; nothing was sent.
            ValueError: it is larger than `max_frame`; nothing was sent.
            BrokenChannel: the other end was closed.
            PeerDied: the other end died.
            ChannelClosed: this end is closed, has moved, or `close_send` was called.
            TimeoutError: there was no room in time; nothing was sent.
            RuntimeError: an event loop runs in this thread, or in a forked child.
        """
        end = self._end
        until: float | None = None
        if timeout is not None or running_loop() is not None or end._home.left:
            timeout = self._check("send", timeout)
            until = None if timeout is None else monotonic() + timeout
        packed = pack(item, end.max_frame)
        if isinstance(packed, bytes):
            if not end.send_now(packed):
                self._place(1, timeout)
                self._sent(end.send_many([packed], 1))
        else:
            self._place(1, timeout)
            self._send_large(wire.ITEM, packed)
        if end._out:
            self._flush(until)

    def send_many(self, items: Iterable[T], *, timeout: float | None = None) -> None:
        """Send items, blocking whenever there is no room.

        Equals a `send` for each, and sends as many at once as there is room for: several times as
        fast.

        Args:
            items: read as there is room, one item ahead; so it may be endless.
            timeout: seconds >= 0 for all of them; None: no limit.

        Raises:
            SerializationError: an item cannot be pickled; those before it were sent.
            ValueError: an item is larger than `max_frame`; those before it were sent.
            TimeoutError: the time was up; some were sent.
            Exception: as with `send`.
        """
        timeout = self._check("send_many", timeout)
        end = self._end
        until = None if timeout is None else monotonic() + timeout
        source = iter(items)
        for item in source:
            first = pack(item, end.max_frame)
            places = self._place(MOST_MANY, _left(until))
            pickles: list[bytes] = []
            large: Parts | None = None
            try:
                large = gather(first, pickles, source, places, end.max_frame)
            finally:
                sent = end.send_many(pickles, places - (large is not None))
            if large is not None:
                self._send_large(wire.ITEM, large)
            else:
                self._sent(sent)
            self._flush(until)

    def send_bytes(self, data: Any, *, timeout: float | None = None) -> None:
        """Send bytes as they are, for `receive_bytes` or `receive` of the other end.

        Args:
            data: bytes, or anything that has a buffer.
            timeout: as with `send`.

        Raises:
            TypeError: it is nothing of the kind.
            Exception: as with `send`.
        """
        timeout = self._check("send_bytes", timeout)
        end = self._end
        until = None if timeout is None else monotonic() + timeout
        data = as_bytes(data, end.max_frame)
        if len(data) >= OUT_OF_BAND:
            self._place(1, timeout)
            self._send_large(wire.LARGE_BYTES, take_apart(ready(data)))
        else:
            self._place(1, timeout)
            self._sent(end.send_bytes(data))
        self._flush(until)

    def _place(self, most: int, timeout: float | None) -> int:
        """Reserve credits, at least one and at most so many."""
        end = self._end
        waiter = Parked(end._senders, end)
        places = end.place_or_queue(waiter, most)
        if places == 0:
            if not end._park(waiter, timeout):
                raise TimeoutError(f"there was no room in the channel in {timeout} s")
            places = end.more_places(waiter, most)
        if isinstance(places, str):
            self._sent(False)
            raise AssertionError
        return places

    def _send_large(self, kind: int, parts: Parts) -> None:
        end = self._end
        try:
            lease = fill_arena(parts, end._arenas)
        except BaseException:
            end.leave_places(1)
            raise
        self._sent(end.send_large(kind, parts, lease))

    def _sent(self, sent: bool) -> None:
        if not sent:
            self._learn()
            raise self._end.why_not_sent()

    def _flush(self, until: float | None) -> bool:
        """Block until the system has taken all, or the time is up."""
        end = self._end
        if not end._out:
            return True
        waiter = Parked(end._flushed, end)
        return end.flush_or_queue(waiter) or end._park(waiter, _left(until))

    # ------------------------------------------------------------------ closing

    def close_send(self) -> None:
        """Say that this end sends no more: the other end receives what was sent, then the end.

        This end can still receive. Called again, it does nothing.

        Raises:
            RuntimeError: an event loop runs in this thread, or in a forked child.
        """
        self._check("close_send", None)
        self._end.end()

    def close(self, *, timeout: float | None = 5) -> None:
        """As `Channel.aclose`, blocking.

        Args:
            timeout: seconds >= 0 that the other end may take to make room; None: no limit.

        Raises:
            BrokenChannel: it did not in time; the other end sees a death.
            RuntimeError: an event loop runs in this thread, or in a forked child.
        """
        timeout = self._check("close", timeout)
        end = self._end
        if not end.begin_close():
            return
        done = False
        try:
            self._flush(None if timeout is None else monotonic() + timeout)
        finally:
            done = end.finish_close()
        if not done:
            raise end.why_not_all_sent(timeout)

    def __enter__(self) -> "SyncChannel[T]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ looking

    def __iter__(self) -> Iterator[T]:
        """The items, until the other end sends no more."""
        while True:
            try:
                item = self.receive()
            except EndOfStream:
                return
            yield item

    def __repr__(self) -> str:
        return f"{self._channel!r}.sync"

    # ------------------------------------------------------------------ helpers

    def _check(self, name: str, timeout: Any) -> float | None:
        if running_loop() is not None:
            check_blocking(f"Channel.sync.{name}", _INSTEAD[name])
        if self._end._home.left:
            refuse(self._channel)
        return None if timeout is None else check_wait(timeout)

    def _learn(self) -> None:
        end = self._end
        if end.is_dead and end.exitcode is None:
            look = LastLook(end.machine.peer)
            while (seconds := look.pause()) is not None:
                time.sleep(seconds)
            end.exitcode = look.exitcode


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - monotonic())


_INSTEAD = {
    "receive": "item = await channel.receive()",
    "receive_many": "items = await channel.receive_many(n)",
    "receive_bytes": "data = await channel.receive_bytes()",
    "send": "await channel.send(item)",
    "send_many": "await channel.send_many(items)",
    "send_bytes": "await channel.send_bytes(data)",
    "close_send": "await channel.close_send()",
    "close": "await channel.aclose()",
}
