"""The life of a worker process: read a call from the socket, run it, send what came of it.

One call at a time, in the main thread. Nothing that a call does or is made of ends the worker, but
for what ends a process. Loads only what every call needs: `pickle`, `traceback` and the errors
come with the first error, asyncio with the first coroutine function.
"""

import sys
from _pickle import dumps
from time import perf_counter

from aioconc._wire import _call as layout, _frames as wire
from aioconc._wire._body import dump, load
from aioconc.worker._place import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    import socket
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from typing import Any

# Read at a time: one read is enough for nearly every call, and for a burst of credits.
_READ = 16_384

# Results of a map are sent together for so long, in seconds: short beside the 5 ms of work that a
# chunk is made for, long beside the 5 us that sending costs.
_TOGETHER = 0.001

# Bytes below which the pieces of a frame are joined: copying them costs less than telling the
# kernel of each.
_SMALL = 16_384

_DONT_WAIT = 0x40 if sys.platform.startswith("linux") else 0x80

_Frame = "tuple[int, int, memoryview | bytes, int]"


class Cord:
    """The worker's end of its socket; blocking."""

    def __init__(self, sock: "socket.socket") -> None:
        self._sock = sock
        self._decoder = wire.Decoder()
        self._frames: list[Any] = []

    def send(self, kind: int, number: int, *pieces: "bytes | memoryview") -> None:
        """Send one frame, whole."""
        frame = wire.encode(kind, number, *pieces)
        if sum(map(len, pieces)) < _SMALL:
            self._sock.sendall(b"".join(frame))
        else:
            self.send_all(frame)

    def send_all(self, pieces: "list[bytes | memoryview]") -> None:
        """Send what is encoded already."""
        sent = self._sock.sendmsg(pieces)
        if sent < sum(map(len, pieces)):
            for piece in pieces:
                if sent < len(piece):
                    self._sock.sendall(memoryview(piece)[sent:])
                    sent = 0
                else:
                    sent -= len(piece)

    def next(self) -> "Any":
        """The next frame; raises EOFError when the parent has closed its end."""
        while not self._frames:
            self._read(0)
        return self._frames.pop(0)

    def poll(self) -> "list[Any]":
        """The frames that have arrived, without waiting for any."""
        try:
            self._read(_DONT_WAIT)
        except BlockingIOError:
            pass
        frames, self._frames = self._frames, []
        return frames

    def _read(self, flags: int) -> None:
        data = self._sock.recv(max(_READ, self._decoder.missing), flags)
        if not data:
            raise EOFError
        self._frames += self._decoder.feed(data)


class Served:
    """One call, as `aioconc.worker` sees it: the way back to the task that awaits it."""

    # Of the class, until the call needs its own: most use none of them.
    _may_report = layout.REPORTS_UNREAD
    may_send = 0
    cancelled = False
    _answer: "Any" = None

    def __init__(
        self, cord: Cord, number: int, executor: str, label: str, attempt: int, reports: bool
    ) -> None:
        self._cord = cord
        self.number = number
        self.label = label
        self._executor = executor
        self._attempt = attempt
        self._reports = reports

    def describe(self) -> tuple[str, str, int]:
        return self._executor, self.label, self._attempt

    def check_cancelled(self) -> None:
        if not self.cancelled:
            self._take_in(self._cord.poll())
        if self.cancelled:
            from aioconc.worker._link import Cancelled

            raise Cancelled(f"{self.label} is no longer wanted")

    def report(self, value: object) -> None:
        if not self._reports or self.cancelled:
            return
        pieces = dump(value)
        while not self._may_report and not self.cancelled:
            self._take_in([self._cord.next()])
        self._may_report -= 1
        self._cord.send(wire.REPORT, self.number, *pieces)

    def call_in_loop(self, fn: "Callable[..., Any]", args: "Any", kwargs: "Any") -> "Any":
        self.check_cancelled()
        self._cord.send(wire.ASK, self.number, *dump((fn, args, kwargs)))
        while self._answer is None:
            self._take_in([self._cord.next()])
        answer, self._answer = self._answer, None
        good, value = load(answer)
        if good:
            return value
        self.check_cancelled()
        try:
            raise value
        finally:
            del value

    def send_items(self, items: "Iterable[Any]") -> None:
        """Send the items of a stream as they are wanted."""
        iterator = iter(items)
        try:
            while True:
                while not self.may_send and not self.cancelled:
                    self._take_in([self._cord.next()])
                self.check_cancelled()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                self.may_send -= 1
                self._cord.send(wire.ITEM, self.number, *dump(item))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _take_in(self, frames: "list[Any]") -> None:
        for kind, number, payload, _ in frames:
            if number != self.number:
                continue  # of a call that ended before its parent knew
            if kind == wire.CANCEL:
                self.cancelled = True
            elif kind == wire.CREDIT:
                what, count = layout.CREDIT_HEAD.unpack(payload)
                if what == layout.OF_ITEMS:
                    self.may_send += count
                else:
                    self._may_report += count
            elif kind == wire.ANSWER:
                self._answer = payload


class Worker:
    """A worker process."""

    def __init__(self, cord: Cord, executor: str, journal: "mmap.mmap | None") -> None:
        self._cord = cord
        self._executor = executor
        self._journal = journal
        # Number of a function that is found by its name -> the function and its label.
        self._known: dict[int, tuple[Callable[..., Any], str]] = {}

    def serve(self) -> None:
        """Run calls until the parent closes its end."""
        while True:
            kind, number, payload, _ = self._cord.next()
            if kind == wire.CALL:
                self._call(number, payload)
            elif kind == wire.BYE:
                return

    def _call(self, number: int, payload: "memoryview | bytes") -> None:
        view = memoryview(payload)
        flags, attempt, fn_number, length = layout.CALL_HEAD.unpack_from(view)
        start = layout.CALL_HEAD.size
        record, body = view[start : start + length], view[start + length :]
        label = "a function"
        try:
            if length:
                made = load(record)
                if flags & layout.WHOLE:
                    fn, label = None, made
                else:
                    fn, label = self._known[fn_number] = made
            else:
                fn, label = self._known[fn_number]
            arguments = load(body)
        except BaseException as error:
            self._fail_args(number, label, error)
            return
        finally:
            del view, record, body, payload
        if flags & layout.WHOLE:
            fn, *arguments = arguments
        served = Served(
            self._cord, number, self._executor, label, attempt, bool(flags & layout.REPORTS)
        )
        place.link = served
        try:
            if flags & layout.MANY:
                self._run_many(served, fn, arguments)
            elif flags & layout.STREAM:
                self._run_stream(served, fn, *arguments)
            else:
                self._run(served, fn, *arguments)
        finally:
            place.link = None

    # -- kinds of call ------------------------------------------------------------------------

    def _run(self, served: Served, fn: "Any", args: "Any", kwargs: "Any") -> None:
        try:
            value = fn(*args, **kwargs)
            if hasattr(value, "__await__"):
                value = self._run_async(value)
        except BaseException as error:
            self._fail(served.number, error, error)
            return
        del args, kwargs
        try:
            pieces = dump(value)
        except BaseException as error:
            self._fail(served.number, *_not_picklable(served.label, value, error))
            return
        self._cord.send(wire.RESULT, served.number, *pieces)

    def _run_stream(self, served: Served, fn: "Any", args: "Any", kwargs: "Any") -> None:
        try:
            items = fn(*args, **kwargs)
            if hasattr(items, "__aiter__"):
                items = self._iterate_async(items)
            served.send_items(items)
        except BaseException as error:
            self._fail(served.number, error, error)
            return
        self._cord.send(wire.RESULT, served.number, *dump(None))

    def _run_many(self, served: Served, fn: "Any", items: "list[Any]") -> None:
        outbox = Outbox(self._cord, served.number, self._journal)
        for index, item in enumerate(items):
            outbox.begin(index)
            try:
                good, pieces = True, dump(fn(item))
            except BaseException as error:
                good, pieces = False, [_reply(error, error)]
            outbox.add(index, good, pieces)
        outbox.flush()
        self._cord.send(wire.RESULT, served.number, *dump(None))

    # -- coroutines ---------------------------------------------------------------------------

    def _run_async(self, aw: "Awaitable[Any]") -> "Any":
        from aioconc.worker._coroutines import run_in_loop

        return run_in_loop(aw)

    def _iterate_async(self, items: "Any") -> "Iterator[Any]":
        from aioconc.worker._coroutines import iterate_in_loop

        return iterate_in_loop(items)

    # -- failures -----------------------------------------------------------------------------

    def _fail(self, number: int, error: BaseException, origin: BaseException) -> None:
        self._cord.send(wire.ERROR, number, _reply(error, origin))

    def _fail_args(self, number: int, label: str, origin: BaseException) -> None:
        from aioconc.errors import SerializationError

        error = SerializationError(
            f"the worker cannot unpickle {label} or its arguments: "
            f"{type(origin).__name__}: {origin}",
            where="args",
            side="worker",
        )
        self._fail(number, error, origin)


class Outbox:
    """Results of a map that are sent together, and are not lost if the worker dies before.

    What is not sent yet is written to a journal that the parent reads after a crash.
    """

    def __init__(self, cord: Cord, number: int, journal: "mmap.mmap | None") -> None:
        self._cord = cord
        self._number = number
        self._journal = journal
        self._at = layout.JOURNAL_HEAD.size
        self._pieces: list[bytes | memoryview] = []
        self._last = perf_counter()
        self._index = 0

    def begin(self, index: int) -> None:
        """The item is about to be worked on."""
        self._index = index
        if self._journal is not None:
            layout.JOURNAL_HEAD.pack_into(self._journal, 0, self._at, index)

    def add(self, index: int, good: bool, pieces: "list[bytes | memoryview]") -> None:
        """The item has this outcome."""
        head = layout.ITEM_HEAD.pack(index, good)
        frame = b"".join(wire.encode(wire.ITEM, self._number, head, *pieces))
        end = self._at + len(frame)
        if self._journal is None or end > layout.JOURNAL_SIZE:
            self._pieces.append(frame)
            self.flush()
            return
        self._journal[self._at : end] = frame
        self._at = end
        # From here on the item is done, whatever happens to this process.
        layout.JOURNAL_HEAD.pack_into(self._journal, 0, end, index + 1)
        self._pieces.append(frame)
        now = perf_counter()
        if now - self._last > _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Send what is there."""
        if self._pieces:
            self._cord.send_all([b"".join(self._pieces)])
            self._pieces.clear()
        self._at = layout.JOURNAL_HEAD.size
        if self._journal is not None:
            layout.JOURNAL_HEAD.pack_into(self._journal, 0, self._at, self._index)
        self._last = perf_counter()


def _reply(error: BaseException, origin: BaseException) -> bytes:
    """An error as `(pickled error, traceback as text, traceback as data)`."""
    from aioconc.worker._entry import failed

    return dumps(failed(error, origin)[1:], 5)


def _not_picklable(
    label: str, value: object, origin: BaseException
) -> tuple[BaseException, BaseException]:
    from aioconc.errors import SerializationError

    error = SerializationError(
        f"the result of {label}, a {type(value).__qualname__}, cannot be pickled: "
        f"{type(origin).__name__}: {origin}",
        where="result",
        side="worker",
    )
    return error, origin
