"""The life of a worker process: read a call from the socket, run it, send what came of it.

One call at a time, in the main thread. Nothing that a call does or is made of ends the worker, but
for what ends a process. Loads only what every call needs: `pickle`, `traceback` and the errors
come with the first error, asyncio with the first coroutine function.
"""

import sys
from _contextvars import copy_context

from aioconc._wire import _call as layout, _frames as wire
from aioconc._wire._body import dump, dump_plain, has_descriptors, load
from aioconc.worker._cord import Cord
from aioconc.worker._logs import Logs
from aioconc.worker._place import at_end, place
from aioconc.worker._served import Served

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable
    from contextvars import ContextVar
    from typing import Any


_CALL = wire.CALL
_KEEP = layout.KEEP
_unpack_head = layout.CALL_HEAD.unpack_from
_HEAD_SIZE = layout.CALL_HEAD.size


class Worker:
    """A worker process."""

    def __init__(
        self, cord: Cord, executor: str, journal: "mmap.mmap | None", levels: "Any" = None
    ) -> None:
        self._cord = cord
        self._executor = executor
        self._journal = journal
        # Where it is written which call has begun.
        self._begun = (
            None if journal is None else memoryview(journal)[layout.JOURNAL_SIZE :].cast("I")
        )
        # Of the running call.
        self._label = ""
        # None: log records stay here.
        self._logs = None if levels is None else Logs(cord, levels, lambda: self._label)
        # Number of a function that is found by its name -> the function and its label.
        self._known: dict[int, tuple[Callable[..., Any], str]] = {}

    def serve(self) -> None:
        """Run calls until the parent closes its end."""
        while True:
            kind, number, payload, descriptors = self._cord.next()
            if kind == _CALL:
                if type(payload) is not bytes or not self._call_known(number, payload):
                    self._call(number, payload, descriptors)
            elif kind == wire.LEVELS:
                if self._logs is not None:
                    self._logs.take_levels(load(payload))
            elif kind == wire.BYE:
                return

    def _call_known(self, number: int, payload: bytes) -> bool:
        """Run a small call of a function that is known, as nearly all are; False: it is another."""
        flags, attempt, fn_number, length, _ = _unpack_head(payload)
        known = self._known.get(fn_number)
        if flags != _KEEP or length or known is None:
            return False
        if self._begun is not None:
            self._begun[0] = number
        fn, label = known
        try:
            arguments = [*load(payload[_HEAD_SIZE:])]
        except BaseException as error:
            self._did_not_arrive(number, label, error)
            return True
        served = Served(self._cord, number, self._executor, label, attempt)
        place.link, self._label = served, label
        try:
            copy_context().run(self._run, served, (), fn, arguments)
        finally:
            self._leave(served)
        return True

    def _call(self, number: int, payload: "memoryview | bytes", descriptors: int) -> None:
        if self._begun is not None:
            self._begun[0] = number
        # All of it works on bytes, which a small payload is, and on views of them.
        flags, attempt, fn_number, length, credit = _unpack_head(payload)
        record, body = payload[_HEAD_SIZE : _HEAD_SIZE + length], payload[_HEAD_SIZE + length :]
        label = "a function"
        variables: Any = ()
        try:
            if length:
                self._known.pop(fn_number, None)  # the number may have stood for another one
                made = load(record)
                if flags & layout.WHOLE:
                    fn, label = None, made
                else:
                    fn, label = self._known[fn_number] = made
            else:
                fn, label = self._known[fn_number]
            told = descriptors and has_descriptors(payload)
            arguments = load(body, writable=bool(flags & layout.WRITABLE))
            if told:
                # The parent closes its own: who reads what they lead to waits for the end of it.
                self._cord.send(wire.TAKEN, number)
            if flags & layout.CONTEXT:
                named, arguments = arguments
                variables = [(_variable(*name), value) for name, value in named]
        except BaseException as error:
            self._did_not_arrive(number, label, error)
            return
        finally:
            del record, body, payload
        arguments = [*arguments]
        if flags & layout.WHOLE:
            fn = arguments.pop(0)
        reports = bool(flags & layout.REPORTS)
        served = Served(self._cord, number, self._executor, label, attempt, reports, credit)
        place.link, self._label = served, label
        try:
            # In a context of its own, so that what it sets does not reach the next call.
            if flags & layout.MANY:
                items = arguments[0] if flags & layout.WHOLE else arguments
                copy_context().run(self._run_many, served, variables, fn, items)
            elif flags & layout.STREAM:
                copy_context().run(self._run_stream, served, variables, fn, *arguments)
            else:
                # `_run` empties the list, so that nothing holds the arguments longer than it.
                copy_context().run(self._run, served, variables, fn, arguments)
        finally:
            self._leave(served)

    def _leave(self, served: Served) -> None:
        """The call has ended."""
        place.link = None
        self._label = ""
        while at_end:
            at_end.pop()(served)

    # -- kinds of call ------------------------------------------------------------------------

    def _run(self, served: Served, variables: "Any", fn: "Any", arguments: "list[Any]") -> None:
        args, kwargs = arguments
        arguments.clear()
        for variable, content in variables:
            variable.set(content)
        try:
            value = fn(*args, **kwargs)
            if hasattr(value, "__await__"):
                from aioconc.worker._coroutines import await_in_loop

                value = await_in_loop(served, value)
        except BaseException as error:
            self._fail(served.number, error, error)
            return
        del args, kwargs
        if (body := dump_plain(value)) is not None:
            logs = self._logs
            if logs is not None and (logs.waiting or logs.dropped):
                logs.flush()
            self._cord.send_small(wire.RESULT, served.number, body)
            return
        try:
            pieces = self._cord.dump(value)
        except BaseException as error:
            from aioconc.worker._failures import cannot_pickle

            self._fail(
                served.number, cannot_pickle(f"the result of {served.label}", value, error), error
            )
            return
        self._end(wire.RESULT, served.number, *pieces)

    def _run_stream(
        self, served: Served, variables: "Any", fn: "Any", args: "Any", kwargs: "Any"
    ) -> None:
        for variable, content in variables:
            variable.set(content)
        try:
            items = fn(*args, **kwargs)
            if hasattr(items, "__aiter__"):
                from aioconc.worker._coroutines import send_items_in_loop

                send_items_in_loop(served, items)
            else:
                served.send_items(items)
        except BaseException as error:
            from aioconc.worker._link import Cancelled

            if not (served.cancelled and isinstance(error, Cancelled)):
                self._fail(served.number, error, error)
                return
        self._end(wire.RESULT, served.number, *dump(None))

    def _run_many(self, served: Served, variables: "Any", fn: "Any", items: "list[Any]") -> None:
        for variable, content in variables:
            variable.set(content)
        from aioconc.worker._many import run_many

        run_many(served, fn, items, self._journal, self._cord.send)

    def _end(self, kind: int, number: int, *pieces: "bytes | memoryview") -> None:
        """Send the outcome of a call, after all that it has logged."""
        if self._logs is not None:
            self._logs.flush()
        self._cord.send(kind, number, *pieces)

    # -- failures -----------------------------------------------------------------------------

    def _did_not_arrive(self, number: int, label: str, error: BaseException) -> None:
        from aioconc.worker._failures import cannot_unpickle

        self._fail(number, cannot_unpickle(label, error), error)

    def _fail(self, number: int, error: BaseException, origin: BaseException) -> None:
        from aioconc.worker._failures import packed

        self._end(wire.ERROR, number, packed(error, origin))


# (module, name) -> the context variable of that name there.
_variables: "dict[tuple[str, str], ContextVar[Any]]" = {}


def _variable(module: str, name: str) -> "ContextVar[Any]":
    found = _variables.get((module, name))
    if found is None:
        try:
            __import__(module)
            found = _variables[module, name] = getattr(sys.modules[module], name)
        except (ImportError, AttributeError) as error:
            raise LookupError(
                f"the context variable {name} of module {module} is not found in the worker: "
                f"{error}"
            ) from error
    return found
