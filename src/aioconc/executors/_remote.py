"""Outcomes that come from another process: values, and errors with the traceback of the worker."""

import logging
import pickle
from collections.abc import Callable
from typing import Any, Literal

from aioconc.errors import SerializationError
from aioconc.executors._call import Job

_log = logging.getLogger("aioconc.executors")


class RemoteTraceback(Exception):
    """The worker's traceback as text; the cause of an exception that came from a worker."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def take_value(job: Job, load: Callable[[Any], Any], data: Any) -> bool:
    """Make `load(data)` the value of the job; False if it cannot be unpickled."""
    try:
        job.value = load(data)
    except BaseException as problem:
        job.error = cannot_unpickle(job.label, "result", problem)
        return False
    return True


def take_error(job: Job, data: bytes, text: str, frames: Any) -> None:
    """Make a pickled error the job's, with the worker's traceback as its cause.

    Args:
        job: whose.
        data: the error, pickled.
        text: its traceback, formatted in the worker.
        frames: its traceback as plain data, where tblib was there; rebuilt, so that debuggers show
            the worker's frames.
    """
    try:
        error = pickle.loads(data)
    except BaseException as problem:
        job.error = cannot_unpickle(job.label, "exception", problem)
        return
    job.error = error
    error.__cause__ = RemoteTraceback(text)
    if frames is not None:
        try:
            from tblib import Traceback

            error.__traceback__ = Traceback.from_dict(frames).as_traceback()
        except Exception:
            _log.debug("the worker's traceback could not be rebuilt", exc_info=True)


def cannot_unpickle(
    label: str, where: Literal["result", "exception"], problem: BaseException
) -> SerializationError:
    """The error for an outcome that does not make sense here."""
    error = SerializationError(
        f"the {where} of {label} cannot be unpickled: {type(problem).__name__}: {problem}",
        where=where,
        side="parent",
    )
    error.__cause__ = problem
    return error
