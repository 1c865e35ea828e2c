"""`graceful`: a block that is asked to end before it is made to.

The first signal asks, the second or the end of the drain time cancels, the third does what the
system does with a program that does not listen. Stopping to take new work when asked is left to
the body.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType

from aioconc._internal._check import check_timeout
from aioconc.runtime._listen import listening
from aioconc.runtime._signals import as_signal, check_signals, name_of_signal
from aioconc.sync import Event
from aioconc.tasks import CancelScope


class Shutdown:
    """What a `graceful` block knows of its end.

    Attributes:
        requested: set by the first signal; also threads may wait for it, by `requested.sync`.
        signal: the first signal, None as long as there was none. A real-time signal without a name is
            its number.
    """

    def __init__(self, drain: float | None) -> None:
        self.requested = Event()
        self.signal: signal.Signals | None = None
        self._drain = drain
        self._asked = False
        self._scope = CancelScope(name="graceful")

    @property
    def cancelled(self) -> bool:
        """Whether the drain was cut short: a second signal came, or the time was up."""
        return self._scope.cancel_called

    def request(self) -> None:
        """Ask for the end, as the first signal does; a signal after that counts as the second.

        To be called in the loop's thread.
        """
        if not self._asked:
            self._asked = True
            self.requested.set()
            if self._drain is not None:
                self._scope.deadline = asyncio.get_running_loop().time() + self._drain

    def __repr__(self) -> str:
        state = (
            "cancelled"
            if self.cancelled
            else "requested"
            if self.requested.is_set()
            else "not requested"
        )
        by = "" if self.signal is None else f" by {name_of_signal(self.signal)}"
        return f"<Shutdown {state}{by}>"


def graceful(*signals: int, drain: float | None = 10.0) -> AbstractAsyncContextManager[Shutdown]:
    """A block that signals ask to end, and get some time for it.

    Equals a handler that sets an event, and `asyncio.timeout(drain)` from then on. While the block
    is open its signals do not reach `run` or any other earlier handler:

    1. the first sets `requested`: the body takes nothing new, finishes what it has, and ends;
    2. the second, or `drain` seconds, cancel the body;
    3. the third does what the system does by default: it ends the process, at once, also while the
       loop is blocked. No clean-up runs.

    Args:
        signals: which; none: SIGINT and SIGTERM. A signal that the process ignores, as after
            `nohup`, stays ignored.
        drain: seconds >= 0 that the body may take after the first signal; None: no limit.

    Returns:
        An async context manager that gives the `Shutdown`. A cancel of its own ends the block
        quietly, and the code after it runs; `shutdown.signal` and `shutdown.cancelled` tell what
        happened. After the block the signals go where they went before.

    Raises:
        ValueError: a signal does not exist or cannot be handled, or `drain` is out of range.
        RuntimeError: on entry: not in the main thread, or entered twice.

    Cancellation:
        A cancel from outside leaves the block as a cancel.

    Example:
        >>> import os
        >>> async def main():
        ...     async with graceful(drain=5) as shutdown:
        ...         os.kill(os.getpid(), signal.SIGTERM)
        ...         await shutdown.requested.wait()
        ...     return shutdown
        >>> asyncio.run(main())
        <Shutdown requested by SIGTERM>
    """
    numbers = check_signals(signals or (signal.SIGINT, signal.SIGTERM))
    return _Graceful(numbers, check_timeout("drain", drain))


class _Graceful(AbstractAsyncContextManager[Shutdown]):
    def __init__(self, numbers: tuple[int, ...], drain: float | None) -> None:
        self._numbers = numbers
        self._shutdown = Shutdown(drain)
        self._stack = ExitStack()
        self._entered = False
        # Signals that have arrived. Counted in the handler, so that the third counts also while
        # the loop is blocked.
        self._count = 0

    async def __aenter__(self) -> Shutdown:
        if self._entered:
            raise RuntimeError("this graceful() was entered before; make one for each block")
        self._entered = True
        loop = asyncio.get_running_loop()
        heard = tuple(
            each for each in self._numbers if signal.getsignal(each) is not signal.SIG_IGN
        )
        with ExitStack() as stack:
            stack.enter_context(listening("graceful", loop, heard, self._heard))
            self._shutdown._scope.__enter__()
            self._stack = stack.pop_all()
        return self._shutdown

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            return self._shutdown._scope.__exit__(kind, error, traceback)
        finally:
            self._stack.close()

    def _heard(self, number: int) -> Callable[[], object] | None:
        self._count = max(self._count, self._shutdown._asked) + 1
        if self._shutdown.signal is None:
            self._shutdown.signal = as_signal(number)
        if self._count == 1:
            return self._shutdown.request
        if self._count == 2:
            return self._cancel
        handler = signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        signal.signal(number, handler)  # the default of this one is to do nothing
        return None

    def _cancel(self) -> None:
        self._shutdown._scope.cancel("a second signal arrived")
