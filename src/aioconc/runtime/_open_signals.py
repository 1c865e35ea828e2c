"""`open_signals`: signals of the process as an async iterator, for the length of a block.

It guarantees that the earlier handlers come back, that no signal is lost to a cancelled reader, and
that what is kept for the reader is bounded. Ending a program in order is left to `run` and
`graceful`.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType

from aioconc.runtime._listen import listening
from aioconc.runtime._signals import as_signal, check_signals
from aioconc.tasks._scope import raise_if_cancelled


def open_signals(*signals: int) -> "AbstractAsyncContextManager[AsyncIterator[signal.Signals]]":
    """The signals that arrive during a block, in their order.

    Equals `loop.add_signal_handler(number, queue.put_nowait, number)` for each, and puts back the
    handlers that were there before, also those of `run`, which does not hear these signals
    meanwhile.

    - A signal that arrives again before it was read is given once, as the system itself does with
      signals that a process has not taken yet. So at most one of each kind is kept.
    - Several blocks may be open for one signal: each gets every one.
    - A signal that the process ignores (as after `nohup`) is heard for as long as the block lasts.
    - In virtual time a program sends its signals itself: one that only waits for a signal from
      outside counts as deadlocked there.

    Args:
        signals: one or more, such as `signal.SIGHUP`.

    Returns:
        An async context manager that gives the iterator. For use on asyncio and uvloop. A real-time
        signal without a name, such as `signal.SIGRTMIN + 1`, comes as its number.

    Raises:
        ValueError: no signal, or one that does not exist or cannot be handled.
        RuntimeError: on entry: not in the main thread; or the handler of a signal was not set by
            Python; or SIGCHLD on uvloop. When read: two tasks read at the same time.

    Cancellation:
        Of a read: nothing is lost; a signal that has just arrived is given to the next read.

    Example:
        >>> import os
        >>> async def main():
        ...     async with open_signals(signal.SIGHUP) as arriving:
        ...         os.kill(os.getpid(), signal.SIGHUP)
        ...         async for number in arriving:
        ...             return number.name
        >>> asyncio.run(main())
        'SIGHUP'
    """
    if not signals:
        raise ValueError("open_signals needs at least one signal; pass signal.SIGHUP, for example")
    return _SignalStream(check_signals(signals))


class _SignalStream(AsyncIterator["signal.Signals"]):
    # Rule: `_pending` is changed in the handler too, which may run between any two bytecodes of the
    #       loop's thread. It only adds; a read takes the first key and removes that one.

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = numbers
        self._pending: dict[int, None] = {}
        self._reader: asyncio.Future[None] | None = None
        self._stack = ExitStack()
        self._entered = self._closed = False

    async def __aenter__(self) -> "AsyncIterator[signal.Signals]":
        if self._entered:
            raise RuntimeError("this open_signals() was entered before; make one for each block")
        raise_if_cancelled()
        self._loop = asyncio.get_running_loop()
        self._stack.enter_context(listening("open_signals", self._loop, self._numbers, self._heard))
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        self._wake()
        self._stack.close()

    async def __anext__(self) -> "signal.Signals":
        if not self._entered:
            raise TypeError(
                "open_signals cannot be iterated directly, since it would not put the earlier "
                "handlers back; write `async with open_signals(...) as arriving:` and then "
                "`async for number in arriving:`"
            )
        raise_if_cancelled()
        while not self._closed:
            if self._pending:
                number = next(iter(self._pending))
                del self._pending[number]
                return as_signal(number)
            if self._reader is not None:
                raise RuntimeError(
                    "two tasks read one open_signals() at the same time; open another for the "
                    "second one, each gets every signal"
                )
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        raise StopAsyncIteration

    def _heard(self, number: int) -> Callable[[], object] | None:
        if number in self._pending:
            return None
        self._pending[number] = None
        return self._wake

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __repr__(self) -> str:
        names = ", ".join(signal.strsignal(each) or str(each) for each in self._numbers)
        state = "closed" if self._closed else "open" if self._entered else "new"
        return f"<open_signals {names}, {state}>"
