"""The one place where low layers say what happened, for `observe` and tests to hear.

Emitting costs one truth test while nobody listens: callers write
`if _hooks.listeners: _hooks.emit("map.failed", ...)`. A listener that raises is reported to the
logger and does not disturb the work it watches.
"""

import logging
from collections.abc import Callable
from typing import Any

Listener = Callable[[str, dict[str, Any]], object]

# Replaced, never mutated, so that emit may iterate while another thread subscribes.
listeners: tuple[Listener, ...] = ()

_log = logging.getLogger("aioconc")


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call `listener(event, fields)` for every event; returns the function that ends it."""
    global listeners
    listeners = (*listeners, listener)

    def unsubscribe() -> None:
        global listeners
        listeners = tuple(each for each in listeners if each is not listener)

    return unsubscribe


def emit(event: str, **fields: Any) -> None:
    """Tell every listener. Events are named `topic.verb`, such as `map.failed`."""
    for listener in listeners:
        try:
            listener(event, fields)
        except Exception:
            _log.exception("listener %r failed on event %r", listener, event)
