"""`no_leaks`: a block that must leave nothing behind.

What exists at its end and did not at its beginning is named with the line that created it. Things
end a little after the call that ends them, so what is left is looked at again for a while, in
real time, with the loop turning meanwhile. What is taken for a leak is told by the other files.
"""

import asyncio
import gc
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter, sleep
from types import TracebackType
from typing import Final

from aioconc._internal._check import check_seconds
from aioconc.errors import LeakError
from aioconc.testing._births import births
from aioconc.testing._loop_watch import LoopState, watching
from aioconc.testing._process_state import Leak, ProcessState
from aioconc.testing._standing import prepare_uvloop

# Most things end within a few turns of the loop. After those, pauses in seconds: so short that
# the end is noticed soon, so long that the threads and processes in question get the processor.
_TURNS: Final = 20
_FIRST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.01

# What has happened and will not go away.
_FINAL: Final = frozenset({"exception", "coroutine"})

# Seconds after which what is left is perhaps only waiting for the garbage collector.
_COLLECT_AFTER: Final = 0.02


class LeakReport:
    """What a `no_leaks` block has left; given at its beginning.

    Attributes:
        leaks: what was left when the block had ended; empty before.
    """

    def __init__(self, block: "_Block") -> None:
        self._block: Final = block
        self.leaks: tuple[Leak, ...] = ()

    def now(self) -> list[Leak]:
        """What would be left if the block ended at this moment, with nothing given time to end."""
        return [*self._block.left()] if self._block.is_open else [*self.leaks]

    def __repr__(self) -> str:
        if self._block.is_open:
            return "<LeakReport of an open block>"
        return f"<LeakReport {len(self.leaks)} left>"


class _Block:
    """One block: what it looks at, and what there was when it began."""

    def __init__(
        self, kinds: frozenset[str], *, tasks: bool, generators: bool, patience: float
    ) -> None:
        self._kinds = kinds
        self._tasks = tasks
        self._generators = generators
        self._patience = patience
        self.is_open = True
        self._watches = ExitStack()
        prepare_uvloop()
        self._watches.enter_context(births.recording())
        self._unawaited = len(births.unawaited)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_loop: LoopState | None = None
        try:
            if tasks or generators:
                self._enter_loop()
            self._before = self._state()
        except BaseException:
            self._watches.close()
            raise

    def _enter_loop(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._in_loop = LoopState(self._watches.enter_context(watching(self._loop)), self._loop)

    def _state(self) -> ProcessState:
        return ProcessState.now(
            threads="thread" in self._kinds,
            children="child process" in self._kinds,
            fds=bool(self._kinds & {"socket", "descriptor"}),
        )

    def close(self) -> None:
        """Look no more, and let go of what was watched."""
        self.is_open = False
        self._watches.close()

    def left(self) -> Iterator[Leak]:
        """What is there now and was not when the block began."""
        if self._in_loop is not None:
            if self._tasks:
                yield from self._in_loop.new_tasks()
                yield from self._in_loop.new_reports()
            if self._generators:
                yield from self._in_loop.new_generators()
        if self._tasks:
            for name, site in births.unawaited[self._unawaited :]:
                yield Leak("coroutine", f"{name} that was never awaited", site)
        for leak in self._before.what_is_new(self._state(), self._loop):
            if leak.kind in self._kinds:
                yield leak

    def looks(self) -> Iterator[float]:
        """Look until nothing is left or patience is over; gives how long to pause in between."""
        if self._tasks:
            # A task with its exception is often part of a cycle, and reports only when that is
            # collected. The young are enough for those of a short block, and cost little.
            gc.collect(1)
        began = perf_counter()
        turns, pause, collected = 0, _FIRST_PAUSE, False
        while any(leak.kind not in _FINAL for leak in self.left()):
            elapsed = perf_counter() - began
            if elapsed >= self._patience:
                return
            if turns < _TURNS:
                turns += 1
                yield 0.0
            elif not collected and elapsed > _COLLECT_AFTER:
                gc.collect()
                collected = True
            else:
                yield pause
                pause = min(2 * pause, _LONGEST_PAUSE)


class no_leaks:  # noqa: N801  # reads as a phrase: `async with no_leaks():`
    """A block that fails if it leaves something behind.

    Compares what there is at its end with what there was at its beginning, and names each thing
    with the line of your code that created it: tasks of the running loop that have not ended,
    exceptions of tasks that nobody retrieved and coroutines that nobody awaited; threads; child
    processes; sockets, with what they are connected to; other descriptors; async generators that
    have begun and not finished. Idle workers of thread pools are no leak, nor are the helper
    processes of `multiprocessing` and the idle workers of `offload_cpu`.

    With `async with` the loop turns while things are given time to end. Synchronous code takes a
    plain `with`, which cannot let a loop turn, and looks at tasks and async generators only if a
    loop is running.

    Args:
        tasks: look at tasks, lost exceptions and unawaited coroutines.
        threads: look at threads.
        children: look at child processes.
        sockets: look at sockets.
        asyncgens: look at async generators.
        fds: look at other descriptors: files, pipes, ...
        patience: seconds of real time, >= 0, that what is left has to end. A block that leaves
            nothing takes none of it.

    Returns:
        A context manager, also an async one, that gives a `LeakReport`.

    Raises:
        LeakError: something was left.
        ValueError: `patience` is negative.

    Cancellation:
        If the block raised, or was cancelled, its exception leaves, and what was left is added to
        it as a note. So it is if a cancel arrives while things are given time to end.

    Example:
        >>> import asyncio
        >>> from aioconc.testing import no_leaks
        >>> async def main():
        ...     async with no_leaks():
        ...         await asyncio.to_thread(sum, [1, 2])
        >>> asyncio.run(main())
    """

    def __init__(
        self,
        *,
        tasks: bool = True,
        threads: bool = True,
        children: bool = True,
        sockets: bool = True,
        asyncgens: bool = True,
        fds: bool = True,
        patience: float = 1.0,
    ) -> None:
        wanted = {
            "thread": threads,
            "child process": children,
            "socket": sockets,
            "descriptor": fds,
        }
        self._kinds: Final = frozenset(kind for kind, looked_at in wanted.items() if looked_at)
        self._tasks: Final = tasks
        self._generators: Final = asyncgens
        self._patience: Final = check_seconds("patience", patience)
        self._open: tuple[_Block, LeakReport] | None = None

    def __enter__(self) -> LeakReport:
        if self._open is not None:
            raise RuntimeError("this no_leaks() is entered already; make one for each block")
        block = _Block(
            self._kinds, tasks=self._tasks, generators=self._generators, patience=self._patience
        )
        report = LeakReport(block)
        self._open = (block, report)
        return report

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._judging(error) as block:
            for pause in block.looks():
                sleep(pause)

    async def __aenter__(self) -> LeakReport:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._judging(error) as block:
            for pause in block.looks():
                # Real time, which the loop's own clock may not be: held for a moment, the loop
                # turns as often as anything can happen, and a virtual clock does not move.
                sleep(pause)  # noqa: ASYNC251
                await asyncio.sleep(0)

    @contextmanager
    def _judging(self, error: BaseException | None) -> Generator[_Block]:
        """Raise what was left after the looks, or add it to what is being raised."""
        assert self._open is not None
        (block, report), self._open = self._open, None
        try:
            yield block
        except BaseException as interruption:
            error = interruption
            raise
        finally:
            try:
                report.leaks = tuple(block.left())
            finally:
                block.close()
            if report.leaks:
                _tell(report.leaks, error)


def _tell(leaks: Sequence[Leak], error: BaseException | None) -> None:
    lines = [str(each) for each in leaks]
    text = f"the block left {len(leaks)} behind:\n  " + "\n  ".join(lines)
    if error is None:
        raise LeakError(text, leaks=lines)
    error.add_note(text)
