"""Functions that the tests of worker processes run there; imports next to nothing."""

import os
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

user: "ContextVar[str]" = ContextVar("user", default="nobody")
request: "ContextVar[object]" = ContextVar("request")


def has_loaded(name: str) -> bool:
    return name in sys.modules


def log(name: str, level: int, text: str, **extra: Any) -> None:
    import logging

    logging.getLogger(name).log(level, text, extra=extra)


def log_error() -> None:
    import logging

    try:
        raise ValueError("wrong")
    except ValueError:
        logging.getLogger("work").exception("failed on %s", "this")


def log_and_die() -> None:
    log("work", 40, "the last words")
    os._exit(3)


def log_much(count: int, done: str = "") -> None:
    import logging

    logger = logging.getLogger("work")
    for number in range(count):
        logger.warning("%05d %s", number, "." * 200)
    if done:
        Path(done).touch()


class LogsWhenPickled:
    def __reduce__(self) -> tuple[Any, ...]:
        log("inner", 40, "from a pickle")
        return (LogsWhenPickled, ())


def log_what_logs() -> None:
    log("work", 40, "outer", thing=LogsWhenPickled(), lock=__import__("threading").Lock())


def log_in_fork() -> int:
    import logging

    logging.getLogger("work").warning("before")
    pid = os.fork()
    if not pid:
        logging.getLogger("work").warning("in the child")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def log_in_thread() -> None:
    import threading

    thread = threading.Thread(target=log, args=("work", 40, "from a thread"))
    thread.start()
    thread.join()


def report_three(told: str = os.devnull) -> str:
    from aioconc import worker

    for number in range(3):
        worker.report(number)
    Path(told).touch()
    return "done"


def see() -> tuple[str, object]:
    return user.get(), request.get(None)


def change() -> str:
    user.set("changed")
    return user.get()


async def see_later() -> str:
    return user.get()
