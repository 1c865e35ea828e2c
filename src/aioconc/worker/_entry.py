"""What runs in a worker process for each call: unpickle, call, pickle the outcome.

Nothing that the call does or is made of can hurt the worker: every failure, also of pickling,
becomes part of the reply. Exceptions are tried out before they are sent. Loads no asyncio, and
cloudpickle and tblib only when they are needed.
"""

import pickle
import signal
from typing import Any

from aioconc.errors import RemoteError, SerializationError
from aioconc.worker._link import Link
from aioconc.worker._place import set_link

# A reply is (good, data, text, frames): the pickled value or error, the formatted traceback, and
# the traceback itself as plain data, if tblib is there.
Reply = tuple[bool, bytes, str, Any]


class ProcessLink(Link):
    """A process of a `concurrent.futures` pool has no way back to the loop."""

    __slots__ = ("_description",)

    def __init__(self, description: tuple[str, str, int]) -> None:
        self._description = description

    def describe(self) -> tuple[str, str, int]:
        return self._description


def dump(value: Any) -> bytes:
    """Pickle; through cloudpickle what pickle cannot do or could only do by naming `__main__`.

    A worker has no `__main__` of the user's, so what lives there is sent by value.
    """
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        data = b""
    if data and b"__main__" not in data:
        return data
    import cloudpickle  # type: ignore[import-untyped]  # it has no annotations

    by_value: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return by_value


def quiet() -> None:
    """Set up a worker: Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_pickled(data: bytes, description: tuple[str, str, int]) -> Reply:
    """Run one pickled call `(fn, args, kwargs)`."""
    before = set_link(ProcessLink(description))
    label = description[1]
    try:
        try:
            fn, args, kwargs = pickle.loads(data)
        except BaseException as error:
            return failed(
                SerializationError(
                    f"the worker cannot unpickle {label} or its arguments: "
                    f"{type(error).__name__}: {error}",
                    where="args",
                    side="worker",
                ),
                error,
            )
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            return failed(error, error)
        del fn, args, kwargs
        try:
            return True, dump(value), "", None
        except BaseException as error:
            return failed(
                SerializationError(
                    f"the result of {label}, a {type(value).__qualname__}, cannot be pickled: "
                    f"{type(error).__name__}: {error}",
                    where="result",
                    side="worker",
                ),
                error,
            )
    finally:
        set_link(before)


class Chunk:
    """Calls a function for each tuple of arguments that it is given, and is called like it."""

    def __init__(self, fn: Any, name: str) -> None:
        self._fn = fn
        self.__qualname__ = name

    def __call__(self, rows: list[tuple[Any, ...]]) -> list[Any]:
        """One result for each."""
        return [self._fn(*row) for row in rows]


def failed(error: BaseException, origin: BaseException) -> Reply:
    """The reply that carries `error`, whose traceback is that of `origin`."""
    import traceback

    if origin.__traceback__ is not None:  # without the frame of this module
        origin.__traceback__ = origin.__traceback__.tb_next or origin.__traceback__
    try:
        text = "".join(traceback.format_exception(origin))
    except BaseException as problem:  # a __str__ that raises
        text = f"{type(origin).__qualname__} (its traceback cannot be shown: {problem!r})\n"
    frames = None
    try:
        from tblib import Traceback

        if error.__traceback__ is not None:
            frames = Traceback(error.__traceback__).to_dict()
    except Exception:  # tblib is a help, never a need
        frames = None
    return False, _dump_error(error), text, frames


def _dump_error(error: BaseException) -> bytes:
    data = _try(error)
    if data is None and isinstance(error, BaseExceptionGroup):
        # Keep the group and replace only the leaves that cannot travel.
        try:
            data = _try(error.derive([_portable(each) for each in error.exceptions]), error)
        except BaseException:
            data = None
    if data is None:
        data = pickle.dumps(_stand_in(error), pickle.HIGHEST_PROTOCOL)
    return data


def _try(error: BaseException, notes_of: BaseException | None = None) -> bytes | None:
    """Pickled, if it comes back as the same class, else None."""
    try:
        for note in getattr(notes_of, "__notes__", ()):
            error.add_note(note)
        data = dump(error)
        back = pickle.loads(data)
    except BaseException:
        return None
    return data if type(back).__qualname__ == type(error).__qualname__ else None


def _portable(error: BaseException) -> Any:
    if isinstance(error, BaseExceptionGroup):
        return pickle.loads(_dump_error(error))
    return error if _try(error) is not None else _stand_in(error)


def _stand_in(error: BaseException) -> RemoteError:
    import traceback

    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    try:
        shown = str(error)
    except BaseException:
        shown = "<its text cannot be shown>"
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:
        text = ""
    made = RemoteError(f"{kind}: {shown}", type_name=kind, traceback_text=text)
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, str):
            made.add_note(note)
    made.add_note("the exception itself cannot be pickled; this error stands for it")
    return made
