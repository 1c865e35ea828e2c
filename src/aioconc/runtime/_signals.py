"""What a signal does to a running program: first it asks, then it forces.

`SignalWatch` puts its handler in place of the previous ones for the time of one `run`. Handlers are
Python's own and not the loop's, so that a second signal gets through while a callback blocks the
loop.
"""

import _thread
import asyncio
import signal
import threading
from collections.abc import Collection
from types import FrameType
from typing import Any, Self

# Seconds. After a forced end tasks are cancelled once more and get this long: enough for a clean-up
# that only needs a few turns of the loop, bearable for somebody who has pressed Ctrl-C twice.
LAST_MOMENTS = 1.0


# Watch life:   quiet -> asked -> forced        (each further signal forces again)
# Rule 1: the handler runs between any two bytecodes of the main thread. It takes no lock, and
#         touches the loop through call_soon_threadsafe only.
# Rule 2: `_done` is held while alarms may ring; whoever gets it passes it on.
class SignalWatch:
    """While open, the first signal cancels the main task and each later one raises."""

    def __init__(self, numbers: Collection[int], grace: float | None) -> None:
        self._numbers = numbers
        self._grace = grace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[Any] | None = None
        self._previous: dict[int, Any] = {}
        self._received: int | None = None
        self._done = _thread.allocate_lock()
        self._alarms: list[_thread.LockType] = []
        # A signal came after the main task had ended: nobody has reacted to it.
        self.unheard = False
        self.forced = False

    def begin(self, loop: asyncio.AbstractEventLoop, main: asyncio.Task[Any] | None) -> None:
        """Tell which task to cancel; called in its first step."""
        self._loop = loop
        self._main = main
        if self._received is not None:
            self._ask()

    def ended_main(self) -> bool:
        """Whether the main task's `CancelledError` is due to a signal, and to nobody else."""
        return self._received is not None and self._main is not None and self._main.uncancel() == 0

    def exit_error(self) -> BaseException:
        """What the first signal ends the program with."""
        assert self._received is not None
        return _exit_error(self._received)

    def __enter__(self) -> Self:
        self._done.acquire()
        try:
            if threading.current_thread() is threading.main_thread():
                for number in self._numbers:
                    previous = signal.getsignal(number)
                    # Ignored (by nohup or a shell) stays ignored; None was not set by Python, and
                    # could not be put back.
                    if previous not in (signal.SIG_IGN, None, self._handle):
                        self._previous[number] = previous
                        signal.signal(number, self._handle)
        except BaseException:  # a signal has come meanwhile, whose handler raised
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._done.release()
            for alarm in self._alarms:
                alarm.acquire()
        finally:
            for number, previous in self._previous.items():
                signal.signal(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is None:
            self._received = number
            if self._grace is not None:
                self._set_alarm(self._grace, number)
            if self._main is not None and self._main.done():
                self.unheard = True  # its loop may be closed by now
            elif self._loop is not None:
                self._loop.call_soon_threadsafe(self._ask)
            return
        self.forced = True
        self._set_alarm(LAST_MOMENTS, number)
        raise _exit_error(number)

    def _ask(self) -> None:
        assert self._main is not None
        if self._main.done():
            self.unheard = True
        else:
            self._main.cancel()

    def _set_alarm(self, seconds: float, number: int) -> None:
        """Send the signal again after `seconds`, from a thread: the loop may be blocked."""
        over = _thread.allocate_lock()
        over.acquire()
        self._alarms.append(over)
        # Not threading.Thread, which takes a lock that the interrupted code may hold.
        _thread.start_new_thread(self._alarm, (seconds, number, over))

    # No tool sees what a thread of `_thread` runs; tests/system/test_run_signals.py does.
    def _alarm(  # pragma: no cover
        self, seconds: float, number: int, over: "_thread.LockType"
    ) -> None:
        if self._done.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            self._done.release()
        else:
            _resend(number)
        over.release()


def check_signals(numbers: Collection[int]) -> tuple[int, ...]:
    """The signals, each one that exists and that a process may handle."""
    if isinstance(numbers, (int, str)):
        raise TypeError(f"signals must be a collection of signals, got {numbers!r}; pass a tuple")
    checked: tuple[Any, ...] = tuple(numbers)
    for number in checked:
        is_number = isinstance(number, int) and not isinstance(number, bool)
        if not is_number or number not in signal.valid_signals():
            raise ValueError(
                f"signals must hold signal numbers, got {number!r}; pass signal.SIGTERM, for example"
            )
        if number in _UNSTOPPABLE:
            raise ValueError(
                f"{signal.Signals(number).name} cannot be handled by any program; leave it out"
            )
    return checked


def as_signal(number: int) -> signal.Signals:
    """The member of `signal.Signals`; the number itself where there is none, as is for most real-time signals."""
    try:
        return signal.Signals(number)
    except ValueError:
        return number  # type: ignore[return-value]


def name_of_signal(number: int) -> str:
    """Such as "SIGTERM"; a real-time signal may have none."""
    return getattr(as_signal(number), "name", f"signal {number}")


_UNSTOPPABLE = {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")}


def _exit_error(number: int) -> BaseException:
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return SystemExit(128 + number)


def _resend(number: int) -> None:  # pragma: no cover - runs in the alarm's thread
    if hasattr(signal, "pthread_kill"):
        # To the main thread itself, so that a system call that blocks it is interrupted.
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, number)
    else:
        _thread.interrupt_main(signal.Signals(number))
