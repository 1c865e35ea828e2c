"""An event loop of the process's own, in a daemon thread: for what belongs to no loop of the user's.

It starts processes (which may take milliseconds, and must not hold up a loop), buries them, and
runs what was submitted by threads that have no loop. Made at its first use; a forked child makes
its own.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import TypeVarTuple

from aioconc._bridge._mailbox import Mailbox

Ts = TypeVarTuple("Ts")


class Service:
    """The loop, its thread and its mailbox."""

    def __init__(self) -> None:
        self.loop = asyncio.SelectorEventLoop()
        self.mailbox = Mailbox()
        self.thread = threading.Thread(target=self._run, name="aioconc service", daemon=True)
        self.thread.start()

    def call(self, fn: Callable[[*Ts], object], *args: *Ts) -> None:
        """Have the service call `fn(*args)` soon. Any thread may call it."""
        self.mailbox.post(self.loop, lambda: fn(*args))

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in the service's own thread."""
        return threading.current_thread() is self.thread

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # Processes inherit it: an interrupt from the keyboard, which goes to all of them, does
            # not end one that has not yet come to say that it ignores it.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


_service: Service | None = None
_lock = threading.Lock()


def service() -> Service:
    """The service of this process."""
    global _service
    if _service is None:
        with _lock:
            if _service is None:
                _service = Service()
    return _service


# Services of the processes that this one was forked from: their threads are not here, and ending
# their loops would complain.
_inherited: list[Service] = []


def _forget() -> None:
    global _service, _lock
    if _service is not None:
        _inherited.append(_service)
    _service = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
