"""Several listeners to one signal, in place of its handler, which comes back after the last.

The handler is Python's own and not the loop's: it runs in the main thread between any two
bytecodes, so that it gets through while a callback blocks the loop. What a listener does in the
loop goes there through `call_soon_threadsafe`.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from aioconc.runtime._signals import name_of_signal
from aioconc.runtime._wake_up import woken_by_signals

# What a listener does at once, in the handler; it gives what is to be called in the loop, or None.
Heard = Callable[[int], Callable[[], object] | None]


class _Listener:
    """One block and one signal."""

    __slots__ = ("heard", "loop", "replaced")

    def __init__(self, loop: asyncio.AbstractEventLoop, heard: Heard) -> None:
        self.loop = loop
        self.heard = heard
        # The handler to put back, None if that was `_handle`.
        self.replaced: Any = None


# Rule 1: only the main thread touches this. The handler may run between any two of its bytecodes;
#         it reads a list once, and lists are replaced, never changed.
# Rule 2: of a row of listeners between which nobody has set another handler, the first has the one
#         to put back; when it goes, the next takes that over.
_listeners: Final[dict[int, tuple[_Listener, ...]]] = {}


@contextmanager
def listening(
    what: str, loop: asyncio.AbstractEventLoop, numbers: tuple[int, ...], heard: Heard
) -> Iterator[None]:
    """For the length of a block: each of these signals goes to `heard`, and to no other handler.

    Args:
        what: who asks, for error messages.
        loop: the running loop.
        numbers: checked signals.
        heard: called in the signal handler.

    Raises:
        RuntimeError: not in the main thread, or a signal cannot be taken over.
    """
    _check(what, loop, numbers)
    added: dict[int, _Listener] = {}  # each once
    with woken_by_signals(loop):
        try:
            for number in numbers:
                if number not in added:
                    added[number] = _Listener(loop, heard)
                    _add(number, added[number])
            yield
        finally:
            for number, listener in added.items():
                _remove(number, listener)


def _add(number: int, listener: _Listener) -> None:
    for other in _listeners.get(number, ()):
        if other.loop.is_closed():  # its block was never left
            _remove(number, other)
    before = signal.getsignal(number)
    if before is not _handle:  # also where somebody has set another one inside of an earlier block
        listener.replaced = before
    _listeners[number] = (*_listeners.get(number, ()), listener)
    signal.signal(number, _handle)


def _remove(number: int, listener: _Listener) -> None:
    before = _listeners.get(number, ())
    if listener not in before:  # the system has refused it, or its loop was closed
        return
    after = before[before.index(listener) + 1 :]
    if listener.replaced is not None:
        if not after:
            if signal.getsignal(number) is _handle:  # else somebody has set another one meanwhile
                signal.signal(number, listener.replaced)
        elif after[0].replaced is None:
            after[0].replaced = listener.replaced
    _listeners[number] = tuple(each for each in before if each is not listener)


def _handle(number: int, frame: FrameType | None) -> None:
    for listener in _listeners.get(number, ()):
        call = listener.heard(number)
        if call is not None:
            with suppress(RuntimeError):  # its loop is closed
                listener.loop.call_soon_threadsafe(call)


def _check(what: str, loop: asyncio.AbstractEventLoop, numbers: tuple[int, ...]) -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            f"{what} works in the main thread only, as Python runs signal handlers there, and this "
            f"is {threading.current_thread().name!r}; open it in the main thread and tell the "
            "other loops, for example by an aioconc.Event"
        )
    for number in numbers:
        if signal.getsignal(number) is None:
            raise RuntimeError(
                f"{what} cannot listen to {name_of_signal(number)}: its handler was not set by Python, and "
                "could not be put back"
            )
        if number == getattr(signal, "SIGCHLD", None) and not isinstance(
            loop, asyncio.BaseEventLoop
        ):
            raise RuntimeError(
                f"{what} cannot listen to SIGCHLD on uvloop, which needs it for its child "
                "processes; run on loop='asyncio'"
            )
