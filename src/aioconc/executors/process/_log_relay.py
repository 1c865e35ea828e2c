"""The parent's side of the log relay: records of workers go to the loggers of this process.

Same logger, same level, formatted in the worker; `worker_pid` and `worker_call` tell where they
come from. What the loggers here would drop is dropped here too, and mostly not even made there.
"""

import asyncio
import logging
from pickle import loads
from typing import Any

Levels = tuple[int, dict[str, int]]


def levels() -> Levels:
    """What is disabled, and the levels of all loggers that have one; the root logger is ""."""
    named = {"": logging.root.level}
    for name, logger in [*logging.root.manager.loggerDict.items()]:
        if isinstance(logger, logging.Logger) and logger.level:
            named[name] = logger.level
    return logging.root.manager.disable, named


def mark() -> tuple[int, int]:
    """Changes when the levels may have, for most programs; costs next to nothing."""
    return logging.root.manager.disable, logging.root.level


def relay(payload: "memoryview | bytes", loop: "asyncio.AbstractEventLoop | None") -> None:
    """Hand a record of a worker to its logger here. Never raises."""
    try:
        data: dict[str, Any] = loads(payload)
        record = logging.makeLogRecord(data)
        logger = logging.getLogger(None if record.name == "root" else record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception as error:
        if loop is not None:
            loop.call_exception_handler(
                {"message": "a log record of a worker could not be handled", "exception": error}
            )
