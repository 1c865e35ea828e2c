"""What a test may leave behind: nothing, but for the process-wide things named here.

The state of the process before a test is compared with that after it, as `no_leaks` does it.
Things end a little after the call that ended them returns, so the comparison waits for them, for
`PATIENCE` seconds at most.
"""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Collection, Iterator

from aioconc.testing._process_state import ProcessState

# Seconds. Only a test that leaks, or that is about to fail, waits this long.
PATIENCE = 3.0

# What `may_leave` calls the kinds of things.
_KINDS = {
    "threads": {"thread"},
    "children": {"child process"},
    "fds": {"descriptor", "socket"},
}


class _Any:
    """Contains everything: each process pool but the default one is to end with its test."""

    def __contains__(self, _: object) -> bool:
        return True


def what_is_new(before: ProcessState, *, allowed: Collection[str] = ()) -> list[str]:
    """One line for each thing that exists now and did not then, once it had time to end."""
    kinds = {kind for name in allowed for kind in _KINDS[name]}
    deadline = time.monotonic() + PATIENCE
    while True:
        new = before.what_is_new(ProcessState.now(), born=_Any())
        left = [str(each) for each in new if each.kind not in kinds]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)
        gc.collect()


def tasks_of_this_loop() -> list[str]:
    """A line for each unfinished task of the running loop, but the one that asks."""
    return [repr(each) for each in asyncio.all_tasks() - {asyncio.current_task()}]


@contextlib.contextmanager
def asyncio_errors(found: list[str]) -> Iterator[None]:
    """Append what any loop reports meanwhile: exceptions never retrieved, callbacks that raise."""

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(self.format(record))

    logger = logging.getLogger("asyncio")
    recorder = Recorder(level=logging.ERROR)
    logger.addHandler(recorder)
    try:
        yield
    finally:
        logger.removeHandler(recorder)
