"""Calls in so many seconds: once, or again and again.

Both end with the block or the call that they belong to, so no timer fires into a program that has
gone on. What is to run beside other work goes into a task group.
"""

import asyncio
import inspect
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVarTuple

from aioconc._internal._check import check_seconds

Ts = TypeVarTuple("Ts")


async def every(seconds: float, fn: Callable[[*Ts], object], *args: *Ts) -> NoReturn:
    """Call `fn(*args)` every so many seconds, for the first time after so many, until cancelled.

    Equals `while True: await asyncio.sleep(seconds); fn(*args)`, without drift: calls are
    multiples of `seconds` from the start. Calls never overlap; one that takes longer than
    `seconds` has the times that passed meanwhile left out. If `fn` gives an awaitable, that is
    awaited.

    Args:
        seconds: > 0.
        fn: sync or async function.
        *args: its arguments.

    Raises:
        ValueError: `seconds` is not above 0.
        Exception: whatever `fn` raises ends it.

    Cancellation:
        Ends it: while it sleeps, or inside `fn` if that awaits.

    Example:
        >>> import asyncio
        >>> from aioconc import move_on_after
        >>> ticks = []
        >>> async def main():
        ...     with move_on_after(0.05):
        ...         await every(0.01, ticks.append, "tick")
        >>> asyncio.run(main())
        >>> ticks[0]
        'tick'
    """
    seconds = check_seconds("seconds", seconds, zero=False)
    loop = asyncio.get_running_loop()
    start = loop.time()
    number = 1
    while True:
        await asyncio.sleep(start + number * seconds - loop.time())
        result: Any = fn(*args)
        if hasattr(result, "__await__"):
            await result
        # The next time that is not over yet. A timer may be early by the clock's resolution, so
        # never the same one again.
        number = max(number + 1, math.ceil((loop.time() - start) / seconds))


class Timer:
    """Calls a function once, in so many seconds, unless its block ends before.

    Equals `threading.Timer` with a block: `async with` starts it, and leaving cancels it.

    Args:
        seconds: >= 0, from the moment the block is entered.
        fn: plain function, called by the event loop between the steps of tasks; what takes time
            belongs into a task. What it raises is raised at the end of the block.
        *args: its arguments.

    Raises:
        ValueError: `seconds` is below 0.
        TypeError: `fn` is an async function, or no function.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with Timer(60, print, "this takes long") as timer:
        ...         await asyncio.sleep(0)
        ...     return timer
        >>> asyncio.run(main())
        <Timer of print, cancelled>
    """

    # A timer:   new -> waiting <-> (reset) -> done or cancelled
    __slots__ = ("_args", "_error", "_fn", "_handle", "_seconds", "_state")

    def __init__(self, seconds: float, fn: Callable[[*Ts], object], *args: *Ts) -> None:
        self._seconds = check_seconds("seconds", seconds)
        if inspect.iscoroutinefunction(fn):
            raise TypeError(
                f"Timer calls a plain function, got the async function {fn!r}; start that in a "
                "task group: `await asyncio.sleep(seconds)` first"
            )
        if not callable(fn):
            raise TypeError(f"fn must be a function, got {fn!r}")
        self._fn: Callable[..., object] = fn
        self._args: tuple[Any, ...] = args
        self._handle: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self._state = "new"

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise RuntimeError(f"a Timer is used once, and this one is {self._state}")
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()
        mine, self._error = self._error, None
        try:
            if mine is not None:
                raise mine
        finally:
            mine = None

    def cancel(self) -> bool:
        """Do not call it any more.

        Returns:
            Whether it would still have been called.
        """
        if self._state != "waiting":
            return False
        self._state = "cancelled"
        self._stop()
        return True

    def reset(self, seconds: float | None = None) -> bool:
        """Begin anew to wait, inside of the block.

        Args:
            seconds: >= 0; None: as at first.

        Returns:
            Whether it still waited; if not, nothing changes.
        """
        if seconds is not None:
            self._seconds = check_seconds("seconds", seconds)
        if self._state != "waiting":
            return False
        self._stop()
        self._start()
        return True

    @property
    def done(self) -> bool:
        """Whether the function was called."""
        return self._state == "done"

    def __repr__(self) -> str:
        return f"<Timer of {getattr(self._fn, '__qualname__', self._fn)}, {self._state}>"

    def _start(self) -> None:
        self._state = "waiting"
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._call)

    def _stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _call(self) -> None:
        self._state = "done"
        self._handle = None
        try:
            self._fn(*self._args)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._error = error
