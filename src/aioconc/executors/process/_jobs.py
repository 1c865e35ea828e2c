"""Calls on their way to a worker process and back: how they are packed, and what comes of them.

One kind is awaited by a task and belongs to the task's loop; the other resolves a
`concurrent.futures.Future` and is served by the service's loop. Both are pickled before they wait
for a worker, so that what cannot be pickled fails at once and touches none.
"""

import asyncio
from _pickle import loads
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aioconc._bridge._errand import run_errand
from aioconc._bridge._loop_calls import LoopCalls
from aioconc._bridge._mailbox import Mailbox
from aioconc._bridge._service import service
from aioconc._wire import _call as layout, _frames as wire
from aioconc._wire._body import (
    RAW,
    Parts,
    dump,
    dump_plain_arguments,
    is_slow,
    load,
    loan_of,
    put_together,
    ready,
    take_apart,
)
from aioconc._wire._loans import scarce
from aioconc.errors import SerializationError
from aioconc.executors._call import Call
from aioconc.executors._callables import name_of
from aioconc.executors._futures_face import FutureJob
from aioconc.executors._remote import cannot_unpickle, take_error, take_value
from aioconc.executors.process._functions import Function, Functions
from aioconc.worker._failures import failed

if TYPE_CHECKING:
    import mmap

    from aioconc.executors.process._pool import ProcessPool
    from aioconc.executors.process._worker import WorkerProcess

# More arguments than a call has.
_MANY: Final = 64


def takes_long(payload: "memoryview | bytes") -> bool:
    """Whether unpickling this body would hold up a loop."""
    return is_slow(payload) or (loan_of(payload) is not None and scarce())


class ProcessJob:
    """What both kinds share, beside a `Job`."""

    loop: asyncio.AbstractEventLoop
    mailbox: Mailbox
    label: str
    attempt: int
    timeout: float | None
    value: Any
    error: BaseException | None
    flags: int = layout.KEEP
    # Items that the worker may send before it is told of more.
    credit: int = 0
    function: Function
    # The payload for a worker that has the function, if that is small and was easy to pickle.
    short: bytes | None = None
    # Else the body, or what it is made of if it has large buffers or descriptors.
    body: "list[bytes | memoryview]"
    cargo: "Parts | None"
    # Arrays arrive writable, on both sides.
    writable: bool = False
    # The worker that has the call, while it has it.
    worker: "WorkerProcess | None" = None
    # How many workers it was sent to: more than one, if they died before they had begun.
    sent: int = 0
    # Whether it ended with a value.
    good: bool = False
    # Whether a part of it has ended, though its worker has died.
    has_progressed: bool = False
    # A large outcome that is still pickled.
    unread: "bytes | memoryview | None" = None
    # The pool, which has counted that outcome already.
    counted_by: "ProcessPool"

    def pack(
        self,
        fn: Callable[..., Any],
        args: Any,
        kwargs: Any,
        functions: Functions,
        flags: int = 0,
        variables: Any = (),
    ) -> None:
        """Pickle function and arguments.

        Args:
            fn: the function.
            args: its arguments, or with `MANY` the items.
            kwargs: its keyword arguments.
            functions: those of the pool.
            flags: what kind of call it is.
            variables: context variables that go with it, as `((module, name), value)`.

        Raises:
            SerializationError: they cannot be pickled.
        """
        if self.writable:
            flags |= layout.WRITABLE
        try:
            function = functions.find(fn, self.label)
            if function is not None and not flags and not variables:
                plain = dump_plain_arguments(args, kwargs)
                if plain is not None:
                    self.function = function
                    self.short = function.head + plain
                    return
            args, kwargs = _ready(args), _ready_keywords(kwargs)
            content: Any
            if function is not None:
                flags |= layout.KEEP
                self.function = function
                content = args if flags & layout.MANY else (args, kwargs)
            else:
                flags |= layout.WHOLE
                self.function = Function(None, 0, b"".join(dump(self.label)))
                content = (fn, args) if flags & layout.MANY else (fn, args, kwargs)
            if variables:
                flags |= layout.CONTEXT
                content = (variables, content)
            self.flags = flags
            parts = take_apart(content)
            if parts.is_plain:
                self.body = put_together(parts, None)
            else:
                self.cargo, self.body = parts, []
        except Exception as error:
            also = " or the context variables that go with them" if variables else ""
            raise SerializationError(
                f"{self.label} or its arguments{also} cannot be pickled: "
                f"{type(error).__name__}: {error}",
                where="args",
                side="parent",
            ) from error

    def pack_again(self, before: "ProcessJob", cargo: Any) -> None:
        """Send what was pickled for another attempt."""
        self.flags, self.function, self.cargo = before.flags, before.function, cargo
        if before.short is None:
            self.body = before.body
        else:
            self.body = [before.short[layout.CALL_HEAD.size :]]

    def pieces(self, worker: "WorkerProcess") -> "list[bytes | memoryview]":
        """The payload of the call for this worker, without its cargo."""
        function = self.function
        number, record = function.number, function.record
        if number:
            if worker.known.get(number) is function:
                record = b""
            else:
                worker.known[number] = function
        head = layout.CALL_HEAD.pack(self.flags, self.attempt, number, len(record), self.credit)
        if self.short is not None:
            return [head, record, self.short[layout.CALL_HEAD.size :]]
        return [head, record, *self.body]

    # -- what comes back ------------------------------------------------------------------------

    def take_reply(self, good: bool, payload: "memoryview | bytes") -> None:
        """The call has ended; unpickled now, or later if it is large."""
        if good and type(payload) is bytes:  # small, and nothing came with it
            try:
                self.value = load(payload)
                self.good = True
            except BaseException as problem:
                self.error = cannot_unpickle(self.label, "result", problem)
            return
        self.good = good
        if type(payload) is not bytes and takes_long(payload):
            self.unread = payload
            assert self.worker is not None
            self.counted_by = self.worker.pool
        else:
            self._unpack(payload)

    def deliver(self) -> None:
        """Hand the outcome to whoever waits, in the thread of the job's loop."""
        if self.unread is None:
            self.hand_over()
        else:
            run_errand(self._unpack_elsewhere)

    def _unpack_elsewhere(self) -> None:
        payload, self.unread = self.unread, None
        assert payload is not None
        counted_as_good = self.good
        self._unpack(payload)
        if counted_as_good and not self.good:
            self.counted_by.count_as_failed()
        self.mailbox.post(self.loop, self.hand_over)

    def _unpack(self, payload: "memoryview | bytes") -> None:
        job: Any = self
        if self.good:
            # A value that cannot be unpickled here counts as a failure.
            self.good = take_value(job, self.read, payload)
        else:
            take_error(job, *loads(payload))

    def read(self, payload: "memoryview | bytes") -> Any:
        """The value of a body that came from the worker."""
        return load(payload, writable=self.writable)

    def hand_over(self) -> None:
        """The outcome is here."""
        raise NotImplementedError

    def take_frame(self, kind: int, payload: "memoryview | bytes") -> None:
        """Something that the running call sends."""

    def take_journal(self, journal: "mmap.mmap | None") -> None:
        """Its worker has died: read what it left behind, if it may have left anything."""

    def begin_clock(self) -> None:
        """A worker has it: a time limit counts from now."""


class ProcessCall(Call, ProcessJob):
    """A call that a task awaits."""

    carries_context = False
    unread_reports = 0

    # The clock begins when the worker has it.
    start = Call.claim

    def hand_over(self) -> None:
        if self.loop_calls is None:
            self.ended = True  # as in `arrive`
            if not self.waiter.done():
                self.waiter.set_result(None)
        else:
            # A worker that died has left behind what it called in the loop.
            self.loop_calls.close(self.arrive)

    def ask(self) -> None:
        Call.ask(self)
        if asyncio._get_running_loop() is self.loop:
            self._ask_worker()
        else:
            self.mailbox.post(self.loop, self._ask_worker)

    def _ask_worker(self) -> None:
        if self.worker is not None:
            self.worker.tell(wire.CANCEL)

    def take_frame(self, kind: int, payload: "memoryview | bytes") -> None:
        if kind == wire.REPORT:
            self._take_report(payload)
        elif kind == wire.ASK:
            self._call_in_loop(payload)

    def _take_report(self, payload: "memoryview | bytes") -> None:
        self.unread_reports += 1
        if self.unread_reports >= layout.REPORTS_UNREAD // 4:
            self.give_credit(layout.OF_REPORTS, self.unread_reports)
            self.unread_reports = 0
        try:
            value = self.read(payload)
        except BaseException as error:
            self.loop.call_exception_handler(
                {"message": f"a report of {self.label} cannot be unpickled", "exception": error}
            )
            return
        if self.on_report is not None and not self.asked:
            self.hear(value)

    def give_credit(self, what: int, count: int) -> None:
        """Let the worker send so many more."""
        if self.worker is not None:
            self.worker.tell(wire.CREDIT, layout.CREDIT_HEAD.pack(what, count))

    def _call_in_loop(self, payload: "memoryview | bytes") -> None:
        try:
            fn, args, kwargs = self.read(payload)
        except BaseException as problem:
            error = SerializationError(
                f"what {self.label} calls in the loop cannot be unpickled there: "
                f"{type(problem).__name__}: {problem}",
                where="args",
                side="parent",
            )
            self._answer(error, None)
            return
        calls = self.loop_calls
        if calls is None:
            calls = self.loop_calls = LoopCalls(self.loop, self.mailbox, self.label, self._unwanted)
        calls.begin(fn, name_of(fn), args, kwargs, self._answer)

    def _answer(self, error: BaseException | None, value: Any) -> None:
        if self.worker is None:
            return
        if error is None:
            try:
                parts = take_apart(ready((True, value)))
            except Exception as problem:
                error = SerializationError(
                    f"what {self.label} called in the loop gave a {type(value).__qualname__}, "
                    f"which cannot be pickled: {type(problem).__name__}: {problem}",
                    where="result",
                    side="parent",
                )
            else:
                if parts.is_plain:
                    self.worker.tell(wire.ANSWER, *put_together(parts, None))
                else:
                    self.worker.tell_large(wire.ANSWER, parts)
                return
        self.worker.tell(wire.ANSWER, *dump((False, failed(error, error)[1])))


class ProcessFutureJob(FutureJob, ProcessJob):
    """A call whose outcome goes to a `concurrent.futures.Future`."""

    def __init__(self, pool: "ProcessPool", fn: Callable[..., Any]) -> None:
        FutureJob.__init__(self, pool, fn)
        self.attempt = 1
        home = service()
        self.loop = home.loop
        self.mailbox = home.mailbox

    def hand_over(self) -> None:
        self.post()


def _ready(args: Any) -> Any:
    """The arguments, or the items of a map, so that their bytes are not copied into the pickle."""
    for each in args:
        if type(each) in RAW:
            return type(args)(map(ready, args))
        if len(args) > _MANY:
            break  # items of a map, which are nearly always of one kind
    return args


def _ready_keywords(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    for each in kwargs.values():
        if type(each) in RAW:
            return {name: ready(value) for name, value in kwargs.items()}
    return kwargs
