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

from aioconc.runtime._wake_up import woken_by_signals

# What a listener does at once, in the handler; it gives what is to be called in the loop, or None.
Heard = Callable[[int], Callable[[], object] | None]

# Rule: only the main thread touches these. The handler may run between any two of its bytecodes;
#       it reads a list once, and lists are replaced, never changed.
_listeners: Final[dict[int, tuple[tuple[asyncio.AbstractEventLoop, Heard], ...]]] = {}
_previous: Final[dict[int, Any]] = {}


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
    entry = (loop, heard)
    added: list[int] = []
    with woken_by_signals(loop):
        try:
            for number in dict.fromkeys(numbers):  # each once
                _add(number, entry)
                added.append(number)
            yield
        finally:
            for number in added:
                _remove(number, entry)


def _add(number: int, entry: tuple[asyncio.AbstractEventLoop, Heard]) -> None:
    others = _listeners.get(number, ())
    _listeners[number] = (*others, entry)
    if not others:
        try:
            _previous[number] = signal.signal(number, _handle)
        except BaseException:  # the system refuses it
            _listeners[number] = others
            raise


def _remove(number: int, entry: tuple[asyncio.AbstractEventLoop, Heard]) -> None:
    others = tuple(each for each in _listeners[number] if each is not entry)
    if not others:
        previous = _previous.pop(number)
        if signal.getsignal(number) is _handle:  # else somebody has set another one meanwhile
            signal.signal(number, previous)
    _listeners[number] = others


def _handle(number: int, frame: FrameType | None) -> None:
    for loop, heard in _listeners.get(number, ()):
        call = heard(number)
        if call is not None:
            with suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(call)


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
                f"{what} cannot listen to {_name(number)}: its handler was not set by Python, and "
                "could not be put back"
            )
        if number == getattr(signal, "SIGCHLD", None) and not isinstance(
            loop, asyncio.BaseEventLoop
        ):
            raise RuntimeError(
                f"{what} cannot listen to SIGCHLD on uvloop, which needs it for its child "
                "processes; run on loop='asyncio'"
            )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
