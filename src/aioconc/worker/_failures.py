"""Failures of a worker in a form that reaches the parent, whatever they are made of.

Exceptions are tried out before they are sent; what does not come back as itself is replaced by one
that says what it was. Loaded with the first failure, and tblib with it if it is there.
"""

import pickle
from typing import Any

from aioconc._wire._pickled import pickled
from aioconc.errors import RemoteError, SerializationError

# A reply is (good, data, text, frames): the pickled value or error, the formatted traceback, and
# the traceback itself as plain data, if tblib is there.
Reply = tuple[bool, bytes, str, Any]


def cannot_unpickle(label: str, origin: BaseException) -> SerializationError:
    """The error for a call that did not arrive."""
    return SerializationError(
        f"the worker cannot unpickle {label} or its arguments: {type(origin).__name__}: {origin}",
        where="args",
        side="worker",
    )


def cannot_pickle(what: str, value: object, origin: BaseException) -> SerializationError:
    """The error for `what` a call gives, such as "the result of f", that cannot be sent."""
    return SerializationError(
        f"{what}, a {type(value).__qualname__}, cannot be pickled: "
        f"{type(origin).__name__}: {origin}",
        where="result",
        side="worker",
    )


def packed(error: BaseException, origin: BaseException) -> bytes:
    """An error as `(pickled error, traceback as text, traceback as data)`, pickled."""
    return pickle.dumps(failed(error, origin)[1:], pickle.HIGHEST_PROTOCOL)


def failed(error: BaseException, origin: BaseException) -> Reply:
    """The reply that carries `error`, whose traceback is that of `origin`."""
    import traceback

    if origin.__traceback__ is not None:  # without the frame that called
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
        data = pickled(error)
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
