"""The handler of a worker's root logger: makes each record fit to travel.

Texts are formatted and exceptions rendered here; what else a record carries travels as it is if it
can be pickled, and as its repr if not. Never raises into the code that logs, never calls itself.
"""

import logging
import os
from collections.abc import Callable
from pickle import dumps
from typing import Any

# What `dumps` need not be asked about.
_PLAIN = (str, int, float, bool, type(None))

_formatter = logging.Formatter()


class RelayHandler(logging.Handler):
    """Hands every record to `offer`, pickled."""

    def __init__(self, offer: Callable[[bytes], None], label: Callable[[], str]) -> None:
        super().__init__()
        self._offer = offer
        self._label = label
        # A forked child has the socket, but it is not the worker.
        self._pid = os.getpid()
        # Pickling what a record carries may itself log; the handler's lock lets the same thread in.
        self._busy = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._busy or os.getpid() != self._pid:
            return
        self._busy = True
        try:
            self._offer(self._pack(record))
        except Exception:
            self.handleError(record)
        finally:
            self._busy = False

    def _pack(self, record: logging.LogRecord) -> bytes:
        data = dict(record.__dict__)
        data["msg"] = record.getMessage()
        data["args"] = None
        if record.exc_info and not record.exc_text:
            data["exc_text"] = _formatter.formatException(record.exc_info)
        data["exc_info"] = None
        data["worker_pid"] = self._pid
        data["worker_call"] = self._label()
        for name, value in data.items():
            if not isinstance(value, _PLAIN):
                data[name] = _portable(value)
        return dumps(data, 5)


def _portable(value: Any) -> Any:
    """The value, if it can travel; else how it looks."""
    try:
        data = dumps(value, 5)
    except Exception:
        return repr(value)
    # What lives in __main__ the parent finds under that name, or not at all.
    return repr(value) if b"__main__" in data else value


def install(offer: Callable[[bytes], None], label: Callable[[], str]) -> None:
    """Have all records that reach the root logger handed to `offer`."""
    logging.root.addHandler(RelayHandler(offer, label))


def set_levels(levels: tuple[int, dict[str, int]]) -> None:
    """Take over the levels of the parent's loggers, so that what it would drop is not made."""
    disabled, named = levels
    logging.disable(disabled)
    for name, level in named.items():
        logging.getLogger(name or None).setLevel(level)


def warn_of_dropped(count: int) -> None:
    """Say how many records did not reach the parent."""
    logging.getLogger("aioconc.worker").warning(
        "%d log records were dropped: the parent did not read them in time", count
    )
