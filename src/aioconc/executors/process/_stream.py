"""Streams from worker processes: items come as frames, room for more goes back as credits.

The first credits travel with the call, later ones in batches of half the buffer. A reader that
leaves asks the generator to end and waits for its clean-up, for a while; one that is cancelled
does what `on_cancel` says.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aioconc._bridge._errand import run_errand
from aioconc._wire import _call as layout, _frames as wire
from aioconc.errors import SerializationError
from aioconc.executors._base import Fate
from aioconc.executors._call import Call, join_call, tell_cancelled
from aioconc.executors._stream import Stream
from aioconc.executors.process._jobs import ProcessCall, takes_long

if TYPE_CHECKING:
    from aioconc.executors.process._executor import ProcessExecutor
    from aioconc.executors.process._pool import ProcessPool

T = TypeVar("T")

# Seconds that a generator may take to end after its reader left early, unless `grace` says
# otherwise; what OTP gives a child to shut down.
GRACE: Final = 5.0


class StreamCall(ProcessCall):
    """The call that iterates a generator in a worker."""

    stream: "ProcessStream[Any]"

    def take_frame(self, kind: int, payload: "memoryview | bytes") -> None:
        if kind == wire.ITEM:
            self.stream.receive(payload)
        else:
            super().take_frame(kind, payload)


class _Item:
    """One item on its way to the reader, which gets them in the order in which they came."""

    __slots__ = ("error", "here", "value")

    def __init__(self) -> None:
        self.here = False
        self.value: Any = None
        self.error: SerializationError | None = None


class ProcessStream(Stream[T]):
    """A stream from a worker process."""

    _executor: "ProcessExecutor"

    # Rule 3: `_used` items were read, and the worker has not been told yet.
    _used = 0

    def _make_call(self) -> Call:
        executor = self._executor
        call = StreamCall(self._what[0], executor._options)
        call.stream = self
        call.credit = self._buffer
        executor._prepare(call, *self._what, layout.STREAM)
        return call

    # -- items --------------------------------------------------------------------------------

    def receive(self, payload: "memoryview | bytes") -> None:
        """An item has come; a large one is unpickled in a thread."""
        if self._left:
            return
        item = _Item()
        self._items.append(item)
        if takes_long(payload):
            run_errand(self._unpickle_elsewhere, item, payload)
        else:
            self._unpickle(item, payload)
            self._arrive(item)

    def _unpickle_elsewhere(self, item: _Item, payload: "memoryview | bytes") -> None:
        self._unpickle(item, payload)
        assert self._call is not None
        self._call.mailbox.post(self._call.loop, lambda: self._arrive(item))

    def _unpickle(self, item: _Item, payload: "memoryview | bytes") -> None:
        call = self._call
        assert isinstance(call, StreamCall)
        try:
            item.value = call.read(payload)
        except BaseException as problem:
            item.error = SerializationError(
                f"an item of {call.label} cannot be unpickled: {type(problem).__name__}: {problem}",
                where="result",
                side="parent",
            )
            item.error.__cause__ = problem

    def _arrive(self, item: _Item) -> None:
        item.here = True
        self._wake(None)

    def _has_item(self) -> bool:
        return bool(self._items) and self._items[0].here

    def _take_item(self) -> T:
        item: _Item = self._items.popleft()
        error, item.error = item.error, None
        if error is None:
            value: T = item.value
            return value
        try:
            raise error
        finally:
            del error

    def _item_read(self) -> None:
        self._used += 1
        if self._used * 2 >= self._buffer:
            assert isinstance(self._call, StreamCall)
            self._call.give_credit(layout.OF_ITEMS, self._used)
            self._used = 0

    # -- the end ------------------------------------------------------------------------------

    async def _end(
        self, call: Call, reason: type[BaseException] | None
    ) -> asyncio.CancelledError | None:
        executor = self._executor
        pool, options = executor._processes, executor._options
        was_cancelled = reason is not None and issubclass(reason, asyncio.CancelledError)
        killer = None
        if options.on_cancel in ("kill", "soft"):
            grace = options.grace
            if was_cancelled:
                grace = 0.0 if options.on_cancel == "kill" else grace or 0.0
            killer = call.loop.call_later(GRACE if grace is None else grace, pool.kill, call)
            if was_cancelled and options.on_cancel == "kill":
                pool.kill(call)

        def hurry(_: asyncio.CancelledError) -> None:
            if options.on_cancel == "kill":
                pool.kill(call)

        cancelled = await join_call(call, on_cancel=hurry)
        if killer is not None:
            killer.cancel()
        if call.killed or was_cancelled:
            self._tell(pool, call, "cancelled" if was_cancelled else "left")
        return cancelled

    def _tell(self, pool: "ProcessPool", call: Call, reason: str) -> None:
        with pool.lock:
            pool.cancelled += 1
        error, call.error = call.error, None
        tell_cancelled(call, pool.name, Fate.KILLED if call.killed else Fate.STOPPED, reason)
        call.error = error
