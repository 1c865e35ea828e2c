"""Channels: typed items both ways between two ends, wherever the two are.

It guarantees that no item is lost or doubled by who is cancelled when, that memory is bounded in
both directions, and that a peer that died is told from one that closed. The decisions are made by
`_end`; this is what tasks call.
"""

import asyncio
import types
import warnings
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from anyio.abc import ObjectStream

from aioconc._internal._check import check_count, check_timeout
from aioconc._wire import _channel as wire
from aioconc._wire._body import OUT_OF_BAND, Parts, ready, take_apart
from aioconc.channels import _moving
from aioconc.channels._end import MOST_MANY, End
from aioconc.channels._large import done, filled
from aioconc.channels._packing import (
    Raw,
    as_bytes,
    gather,
    in_thread,
    pack,
    takes_long,
    unpack,
)
from aioconc.channels._peer import LastLook
from aioconc.channels._prompt import PromptWaiter
from aioconc.channels._statistics import ChannelStatistics
from aioconc.sync._home import refuse
from aioconc.sync._wait_queue import TaskWaiter, waiting

if TYPE_CHECKING:
    from aioconc.channels._sync_channel import SyncChannel

T = TypeVar("T")

# Items of one end that need not wait, after which the next call lets the loop turn once. At some
# microseconds each it keeps others waiting for less than a millisecond.
_TURN: Final = 64


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the loop turn once."""
    yield


class Channel(ObjectStream[T]):
    """One end of a duplex stream of items; `open_channel` makes the two.

    Equals an end of `multiprocessing.Pipe()` that can be awaited, is bounded, and tells a peer that
    died from one that closed. Tasks of any loop call it, and threads through `sync`, several at
    once; each item goes to one of them. It is also an `anyio.abc.ObjectStream`.

    An end can be passed to another process: as an argument of `offload_cpu` or another process
    call, or to a process that `multiprocessing` starts by spawn or forkserver. It moves: this
    object is closed then, and the process has the end.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_channel
        >>> async def main():
        ...     ours, theirs = open_channel()
        ...     async with ours, theirs:
        ...         await ours.send("ping")
        ...         return await theirs.receive()
        >>> asyncio.run(main())
        'ping'
    """

    __slots__ = ("_end",)

    def __init__(self, end: End) -> None:
        """Made by `open_channel`."""
        self._end = end

    # ------------------------------------------------------------------ receiving

    async def receive(self, *, timeout: float | None = None) -> T:
        """Wait for an item and take it.

        Args:
            timeout: seconds >= 0; None: no limit.

        Raises:
            EndOfStream: the other end sends no more, and all was received.
            PeerDied: the other end died; all that had arrived was received before.
            ChannelClosed: this end is closed, or has moved.
            SerializationError: the item cannot be unpickled here; it is gone, the next one is not.
            TimeoutError: the time was up; no item is lost.
            RuntimeError: in a forked child.

        Cancellation:
            No item is lost: one that was granted to this task goes to the next one, or stays
            first. The place among those who wait is lost.

        Example:
            >>> import asyncio
            >>> from aioconc.channels import open_channel
            >>> async def main():
            ...     ours, theirs = open_channel()
            ...     async with ours, theirs:
            ...         await ours.send({"x": 1})
            ...         return await theirs.receive(timeout=1)
            >>> asyncio.run(main())
            {'x': 1}
        """
        end = self._end
        raw: Raw | None
        if timeout is None and not end._home.left:
            if end.streak >= _TURN:
                end.streak = 0
                await _turn()
            end.streak += 1
            raw = end.take_one()
            if raw is None:
                # `_take`, without two coroutines more.
                waiter = PromptWaiter(end._receivers)
                taken = end.take_or_queue(waiter, 1)
                if taken is None:
                    end.streak = 0
                    try:
                        await waiter.future
                    except BaseException:
                        end._give_up(waiter)
                        raise
                    taken = end.take_granted(waiter, 1)
                if isinstance(taken, str):
                    await self._learn()
                    raise end.why_no_item()
                raw = taken[0]
        else:
            raw = (await self._take(1, timeout))[0]
        if raw[0] == wire.PICKLE:
            return unpack(raw)  # type: ignore[no-any-return]
        return await self._unpack(raw)  # type: ignore[no-any-return]

    async def receive_many(self, max_items: int, *, timeout: float | None = None) -> list[T]:
        """Wait for an item and take it, with what has arrived beside it.

        Args:
            max_items: most items to take, int >= 1. Beyond 512, or some hundred kilobytes, they
                are taken by the next call, so that the loop is not held up.
            timeout: seconds >= 0 until the first; None: no limit.

        Returns:
            At least one item, in their order.

        Raises:
            SerializationError: the first item cannot be unpickled here; it is gone, the others are
                not.
            Exception: as with `receive`.

        Cancellation:
            As with `receive`.

        Example:
            >>> import asyncio
            >>> from aioconc.channels import open_channel
            >>> async def main():
            ...     ours, theirs = open_channel()
            ...     async with ours, theirs:
            ...         await ours.send_many("abc")
            ...         return await theirs.receive_many(100)
            >>> asyncio.run(main())
            ['a', 'b', 'c']
        """
        check_count("max_items", max_items)
        raws = await self._take(max_items, timeout)
        if len(raws) == 1:
            return [await self._unpack(raws[0])]
        self._end.streak += len(raws)
        return self._end.unpack_many(raws)

    async def receive_bytes(self, *, timeout: float | None = None) -> bytes:
        """Wait for what the other end sends with `send_bytes`, and take it.

        Args:
            timeout: seconds >= 0; None: no limit.

        Raises:
            TypeError: the next item was sent with `send`; it stays the next one.
            Exception: as with `receive`.

        Cancellation:
            As with `receive`.

        Example:
            >>> import asyncio
            >>> from aioconc.channels import open_channel
            >>> async def main():
            ...     ours, theirs = open_channel()
            ...     async with ours, theirs:
            ...         await ours.send_bytes(b"raw")
            ...         return await theirs.receive_bytes()
            >>> asyncio.run(main())
            b'raw'
        """
        raws = await self._take(1, timeout, only_bytes=True)
        return await self._unpack(raws[0])  # type: ignore[no-any-return]

    async def _take(
        self, most: int, timeout: float | None, *, only_bytes: bool = False
    ) -> list[Raw]:
        end = self._end
        if timeout is not None or end._home.left:
            timeout = self._check(timeout)
        if end.streak >= _TURN:
            end.streak = 0
            await _turn()
        end.streak += 1
        raws = end.take_now(most, only_bytes=only_bytes)
        if raws is not None:
            return raws
        waiter = PromptWaiter(end._receivers)
        taken = end.take_or_queue(waiter, most, only_bytes=only_bytes)
        if taken is None:
            end.streak = 0
            await self._wait(waiter, timeout, "no item arrived on the channel")
            taken = end.take_granted(waiter, most, only_bytes=only_bytes)
        if isinstance(taken, str):
            await self._learn()
            raise end.why_no_item()
        return taken

    async def _unpack(self, raw: Raw) -> Any:
        """The item, unpickled in a thread if that takes long."""
        if not takes_long(raw):
            return unpack(raw)
        raw = in_thread(raw)
        try:
            await done(raw[1])
        except BaseException:
            self._end.put_back([raw])
            raise
        return unpack(raw)

    # ------------------------------------------------------------------ sending

    async def send(self, item: T, *, timeout: float | None = None) -> None:
        """Send an item, once there is room for it.

        It is pickled at once, in this thread. Arrays and other buffers of 64 KiB and more are not
        copied into the pickle: they travel in shared memory, and arrive read-only.

        Args:
            item: anything that can be pickled; functions and classes of `__main__` too.
            timeout: seconds >= 0; None: no limit.

        Raises:
            SerializationError: it cannot be pickled; nothing was sent.
            ValueError: it is larger than `max_frame`; nothing was sent.
            BrokenChannel: the other end was closed.
            PeerDied: the other end died.
            ChannelClosed: this end is closed, has moved, or `close_send` was called.
            TimeoutError: there was no room in time; nothing was sent.
            RuntimeError: in a forked child.

        Cancellation:
            The item was not sent, never a part of it. The place among those who wait is lost.

        Example:
            >>> import asyncio
            >>> from aioconc.channels import open_channel
            >>> async def main():
            ...     ours, theirs = open_channel(capacity=1)
            ...     async with ours, theirs:
            ...         await ours.send(1)
            ...         try:
            ...             await ours.send(2, timeout=0.01)
            ...         except TimeoutError:
            ...             return "full"
            >>> asyncio.run(main())
            'full'
        """
        end = self._end
        if timeout is not None or end._home.left:
            timeout = self._check(timeout)
        packed = pack(item, end.max_frame)
        if end.streak >= _TURN:
            end.streak = 0
            await _turn()
        end.streak += 1
        if not isinstance(packed, bytes):
            await self._place(1, timeout)
            await self._send_large(wire.ITEM, packed)
        elif not end.send_now(packed):
            await self._place(1, timeout)
            if not end.send_many([packed], 1):
                raise await self._why_not_sent()

    async def send_many(self, items: Iterable[T], *, timeout: float | None = None) -> None:
        """Send items, waiting for room whenever there is none.

        Equals a `send` for each, and sends as many at once as there is room for: several times as
        fast. Items of others may come between.

        Args:
            items: read as there is room, one item ahead; so it may be endless. Each is pickled
                before the next one is read.
            timeout: seconds >= 0 for all of them; None: no limit.

        Raises:
            SerializationError: an item cannot be pickled; those before it were sent.
            ValueError: an item is larger than `max_frame`; those before it were sent.
            TimeoutError: the time was up; some were sent.
            Exception: as with `send`.

        Cancellation:
            What was sent before stays sent. One more may have been read from `items`, and is not.

        Example:
            >>> import asyncio
            >>> from aioconc.channels import open_channel
            >>> async def main():
            ...     ours, theirs = open_channel()
            ...     async with ours, theirs:
            ...         await ours.send_many(n * n for n in range(4))
            ...         await ours.close_send()
            ...         return [item async for item in theirs]
            >>> asyncio.run(main())
            [0, 1, 4, 9]
        """
        end = self._end
        timeout = self._check(timeout)
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        source = iter(items)
        for item in source:
            first = pack(item, end.max_frame)
            if end.streak >= _TURN:
                end.streak = 0
                await _turn()
            left = None if until is None else max(0.0, until - loop.time())
            places = await self._place(MOST_MANY, left)
            pickles: list[bytes] = []
            large: Parts | None = None
            try:
                large = gather(first, pickles, source, places, end.max_frame)
            finally:
                end.streak += len(pickles) + 1
                # A large one keeps a place of its own.
                sent = end.send_many(pickles, places - (large is not None))
            if large is not None:
                await self._send_large(wire.ITEM, large)
            elif not sent:
                raise await self._why_not_sent()

    async def send_bytes(self, data: Any, *, timeout: float | None = None) -> None:
        """Send bytes as they are, for `receive_bytes` or `receive` of the other end.

        Args:
            data: bytes, or anything that has a buffer.
            timeout: seconds >= 0; None: no limit.

        Raises:
            TypeError: it is nothing of the kind.
            Exception: as with `send`.

        Cancellation:
            As with `send`.
        """
        end = self._end
        timeout = self._check(timeout)
        data = as_bytes(data, end.max_frame)
        if end.streak >= _TURN:
            end.streak = 0
            await _turn()
        end.streak += 1
        if len(data) >= OUT_OF_BAND:
            await self._place(1, timeout)
            await self._send_large(wire.LARGE_BYTES, take_apart(ready(data)))
            return
        await self._place(1, timeout)
        if not end.send_bytes(data):
            raise await self._why_not_sent()

    async def _place(self, most: int, timeout: float | None) -> int:
        """Reserve credits, at least one and at most so many."""
        end = self._end
        waiter = PromptWaiter(end._senders)
        places = end.place_or_queue(waiter, most)
        if places == 0:
            end.streak = 0
            await self._wait(waiter, timeout, "there was no room in the channel")
            places = end.more_places(waiter, most)
        if isinstance(places, str):
            raise await self._why_not_sent()
        return places

    async def _send_large(self, kind: int, parts: Parts) -> None:
        """Send an item with a reserved credit, copying its buffers in a thread if that takes long."""
        end = self._end
        try:
            lease = await filled(end._arenas, parts)
        except BaseException:
            end.leave_places(1)
            raise
        if not end.send_large(kind, parts, lease):
            raise await self._why_not_sent()

    # ------------------------------------------------------------------ closing

    async def close_send(self) -> None:
        """Say that this end sends no more: the other end receives what was sent, then the end.

        This end can still receive. Called again, it does nothing.

        Raises:
            RuntimeError: in a forked child.

        Cancellation:
            It does not wait.

        Example:
            >>> import asyncio
            >>> from aioconc.channels import open_channel
            >>> async def main():
            ...     ours, theirs = open_channel()
            ...     async with ours, theirs:
            ...         await ours.close_send()
            ...         return [item async for item in theirs]
            >>> asyncio.run(main())
            []
        """
        self._check(None)
        self._end.end()

    async def send_eof(self) -> None:
        """As `close_send`, by the name that anyio's streams have for it."""
        await self.close_send()

    async def aclose(self, *, timeout: float | None = 5) -> None:
        """Send what was not sent yet, tell the other end, and close this one.

        The other end receives what was sent, then `EndOfStream`; what it sends meets
        `BrokenChannel`. What has arrived here and was not received is dropped. Called again, it
        does nothing.

        Args:
            timeout: seconds >= 0 that the other end may take to make room; None: no limit.

        Raises:
            BrokenChannel: it did not in time; the other end sees a death.
            RuntimeError: in a forked child.

        Cancellation:
            What was not sent yet is lost, and the other end sees a death. This end is closed.
        """
        timeout = self._check(timeout)
        end = self._end
        if not end.begin_close():
            return
        done = False
        try:
            waiter = PromptWaiter(end._flushed)
            if not end.flush_or_queue(waiter):
                try:
                    await self._wait(waiter, timeout, "")
                except TimeoutError:
                    pass
        finally:
            done = end.finish_close()
        if not done:
            raise end.why_not_all_sent(timeout)

    # ------------------------------------------------------------------ looking

    @property
    def sync(self) -> "SyncChannel[T]":
        """The same end for threads and plain programs: its names block."""
        from aioconc.channels._sync_channel import SyncChannel

        return SyncChannel(self)

    def statistics(self) -> ChannelStatistics:
        """What is on its way, and how many wait."""
        end = self._end
        with end._mutex:
            machine = end.machine
            return ChannelStatistics(
                *waiting(end._receivers, end._senders, end._flushed),
                machine.capacity,
                machine.ready - end._reserved,
                max(0, machine.credits - end._places),
                machine.undelivered,
                sum(len(each) for each in end._out if not isinstance(each, list)),
                machine.peer or None,
                end.closed,
            )

    def __repr__(self) -> str:
        end = self._end
        if end.moved is not None:
            return "<Channel, moved to another process>"
        if end.closed:
            return "<Channel, closed>"
        machine = end.machine
        return (
            f"<Channel with process {machine.peer or '?'}: {machine.ready} to receive, "
            f"{machine.undelivered} sent and not known to be taken>"
        )

    # ------------------------------------------------------------------ moving

    def __reduce__(self) -> tuple[Any, ...]:
        return _moving.leave(self, self._end)

    def __del__(self) -> None:
        end = getattr(self, "_end", None)
        if end is None or end._closed or end._home.left:
            return
        warnings.warn(
            f"{self!r} was dropped without being closed; write `async with channel:`",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )
        end.drop()

    # ------------------------------------------------------------------ helpers

    def _check(self, timeout: Any) -> float | None:
        if self._end._home.left:
            refuse(self)
        return check_timeout("timeout", timeout)

    async def _wait(self, waiter: TaskWaiter, timeout: float | None, what: str) -> None:
        """Until granted or refused."""
        end = self._end
        if timeout is None:
            await end._wait(waiter)
            return

        def time_is_up() -> None:
            with end._mutex:
                # A grant that comes in the same turn wins.
                if waiter.granted or waiter.future.done():
                    return
                end._take_back(waiter)
            waiter.future.set_result(None)

        timer = waiter.loop.call_later(timeout, time_is_up)
        try:
            await end._wait(waiter)
        finally:
            timer.cancel()
        if not waiter.granted:
            # Raised here: its future would hold the error, whose traceback holds the future.
            raise TimeoutError(f"{what} in {timeout} s")

    async def _learn(self) -> None:
        """How the peer has ended, if it died."""
        end = self._end
        if end.is_dead and end.exitcode is None:
            look = LastLook(end.machine.peer)
            while (seconds := look.pause()) is not None:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(seconds)
            end.exitcode = look.exitcode

    async def _why_not_sent(self) -> Exception:
        await self._learn()
        return self._end.why_not_sent()
