"""What a worker process of `serve_prefork` does: one coroutine, until it is asked to end.

It is asked by its supervisor, or by a SIGTERM of its own; whichever comes first cancels the
coroutine, and the other does nothing, since a service manager tells both at the same time. A second
request of either cancels again. What it says to the supervisor: that it serves, that it accepts nothing
more, that somebody else has asked it to end, what it failed with, and its log records.
"""

import asyncio
import logging
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pickle import loads
from typing import Any

from aioconc._wire import _frames as wire
from aioconc.runtime._run import _loop_factory
from aioconc.servers import _ready
from aioconc.worker._cord import Cord
from aioconc.worker._logs import Logs

# Seconds in which a coroutine that is cancelled stops to accept; the first thing that servers do.
_STOPS = 0.05

Factory = Callable[[Sequence[socket.socket]], Awaitable[object]]


def main(cord: Cord, setup: dict[str, Any], inherited: tuple[int, ...]) -> None:
    """Make what is to be served, and serve it; ends the process with a status."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for the supervisor
    logs = None
    if setup["levels"] is not None:
        logs = Logs(cord, setup["levels"], lambda: "serve_prefork")
    worker = _Worker(cord)
    # They were blocked from the start, so that one which came in the meantime is heard now; processes
    # that modules of the user start as they are loaded must not inherit that.
    signal.signal(signal.SIGTERM, worker.note_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP))
    status = 1
    try:
        sockets = [socket.socket(fileno=each) for each in inherited]
        factory, loop = loads(setup["factory"])
        _ready._report = worker.ready
        with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
            status = runner.run(worker.serve(factory, sockets))
    except BaseException as error:
        text = "".join(traceback.format_exception_only(error)).strip()
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        worker.say(wire.ERROR, text)
        status = error.code if isinstance(error, SystemExit) else 1  # type: ignore[assignment]
    finally:
        if logs is not None:
            try:
                logging.shutdown()
                logs.flush()
            except OSError:
                pass  # the supervisor has gone
    sys.exit(status)


class _Worker:
    """The coroutine that serves, and the requests that it end."""

    def __init__(self, cord: Cord) -> None:
        self._cord = cord
        self._task: asyncio.Task[Any] | None = None
        # It is to end; and who has said so.
        self._asked = False
        self._asked_by_supervisor = False
        self._asked_by_signal = False
        # A SIGTERM has come before there was a loop.
        self._noted = False
        self._is_ready = False

    def say(self, kind: int, text: str = "") -> None:
        """Tell the supervisor something."""
        try:
            self._cord.send(kind, 0, text.encode())
        except OSError:
            pass  # it has gone, and this process goes too

    def ready(self) -> None:
        """It serves. Any thread may say so."""
        if not self._is_ready:
            self._is_ready = True
            self.say(wire.READY)

    def note_signal(self, *_: object) -> None:
        """SIGTERM, before `serve`; it is told there, since it may come in the midst of anything."""
        self._noted = True

    async def serve(self, factory: Factory, sockets: list[socket.socket]) -> int:
        """Run the coroutine of the factory; the process's exit status."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        loop.add_reader(self._cord.fileno(), self._on_frames, loop)
        # What came together with the first frame is no longer in the socket.
        loop.call_soon(self._on_frames, loop)
        loop.add_signal_handler(signal.SIGTERM, self._on_signal)
        if self._noted:
            self._on_signal()
        try:
            serving = factory(sockets)
            if not hasattr(serving, "__await__"):
                raise TypeError(
                    f"the factory of serve_prefork returned {serving!r}; it must be an async "
                    "function of the listening sockets"
                )
            await serving
        except asyncio.CancelledError:
            if not self._asked:
                raise
        finally:
            loop.remove_reader(self._cord.fileno())
            # Blocked, since between the two lines it would kill.
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        if not self._asked:
            self.say(wire.ERROR, "its coroutine returned, though nobody had asked it to end")
            return 1
        return 0

    def _on_frames(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            frames = self._cord.poll()
        except BlockingIOError:
            return
        except (EOFError, OSError):
            loop.remove_reader(self._cord.fileno())
            self._end()
            return
        for kind, *_ in frames:
            if kind in (wire.BYE, wire.CANCEL):
                again, self._asked_by_supervisor = self._asked_by_supervisor, True
                self._end(again or kind == wire.CANCEL)

    def _on_signal(self) -> None:
        if not self._asked:
            self.say(wire.RETIRE)
        again, self._asked_by_signal = self._asked_by_signal, True
        self._end(again)

    def _end(self, again: bool = True) -> None:
        """Cancel the coroutine; if that was done already, only if it is asked `again`."""
        assert self._task is not None
        if self._asked and not again:
            return
        if not self._asked:
            self._asked = True
            self._task.get_loop().call_later(_STOPS, self.say, wire.BYE)
        self._task.cancel()
