"""The log records of a worker, on their way to the loggers of its parent.

Nothing is done until `logging` is loaded, by whatever loads it; then its root logger gets a handler
that hands each record on. What does not fit into the socket now is kept, up to a bound, and what is
beyond it is counted and told. Loads no logging itself.
"""

from collections import deque

from aioconc._wire import _frames as wire
from aioconc.worker._cord import Cord
from aioconc.worker._when_loaded import when_loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Records that wait for the socket; beyond, they are dropped. Together with the socket's own buffer
# this is what a parent whose loop stands still can catch up with.
_MOST = 1_000


class Logs:
    """What the worker process does about logging.

    Args:
        cord: takes the records.
        levels: `(disabled, {logger: level})` of the parent, the root logger being "".
        label: tells the name of the running call.
    """

    def __init__(self, cord: Cord, levels: "Any", label: "Callable[[], str]") -> None:
        self._cord = cord
        self._levels = levels
        self._label = label
        self.waiting: deque[bytes] = deque()
        self.dropped = 0
        self._set_levels: Callable[[Any], None] | None = None
        when_loaded("logging", self.install)

    def install(self) -> None:
        """`logging` is loaded: hand its records on from now on."""
        from aioconc.worker import _log_handler

        _log_handler.install(self._offer, self._label)
        self._set_levels = _log_handler.set_levels
        _log_handler.set_levels(self._levels)

    def take_levels(self, levels: "Any") -> None:
        """Those of the parent have changed."""
        self._levels = levels
        if self._set_levels is not None:
            self._set_levels(levels)

    def _offer(self, record: bytes) -> None:
        """From any thread, with the handler's lock: send a record, now or later, without waiting."""
        waiting = self.waiting
        if len(waiting) >= _MOST:
            self.dropped += 1
        else:
            waiting.append(b"".join(wire.encode(wire.LOG, 0, record)))
        while (frame := self._pop()) is not None:
            if not self._cord.offer(frame):
                waiting.appendleft(frame)
                return

    def flush(self) -> None:
        """In the main thread, at the end of a call: send what waits."""
        while (frame := self._pop()) is not None:
            self._cord.send_all([frame])
        if self.dropped:
            from aioconc.worker._log_handler import warn_of_dropped

            dropped, self.dropped = self.dropped, 0
            warn_of_dropped(dropped)

    def _pop(self) -> bytes | None:
        # One step, since a thread that logs and the end of a call may be here at the same time.
        try:
            return self.waiting.popleft()
        except IndexError:
            return None
