"""How far a map is: told to a bar of one's choice, or to a function.

`make_reporter` turns whatever the user gave as `progress=` into a `Reporter`, without importing
tqdm or rich. A reporter only watches: it runs on the loop's thread, in step with the map, and when
it raises, the error goes to the loop's exception handler, the display stops, and the map goes on
with no item lost.
"""

import asyncio
import functools
import inspect
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO, TypeAlias

# A plain bar is drawn again at most so often, in seconds: what a reader can follow.
_REDRAW = 0.1


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """How far a map is.

    Attributes:
        done: items that have ended, failed ones included.
        failed: items that have failed for good.
        retried: retries so far.
        in_flight: items that have started and not ended, waiting for a retry included.
        total: number of items, or None if the source does not tell.
        elapsed: seconds since the map started.
    """

    done: int
    failed: int
    retried: int
    in_flight: int
    total: int | None
    elapsed: float


class _Bar(Protocol):
    """What is used of a tqdm bar."""

    def update(self, n: Any = ..., /) -> Any: ...
    def close(self) -> Any: ...


class _RichProgress(Protocol):
    """What is used of a `rich.progress.Progress`."""

    def add_task(self, description: str, *, total: Any = ...) -> Any: ...
    def advance(self, task_id: Any, advance: float = ...) -> Any: ...


Progress: TypeAlias = (
    bool | Callable[[ProgressEvent], object] | Callable[..., _Bar] | _Bar | _RichProgress | None
)
"""What `progress=` takes:

- True: a plain bar on standard error; one line at the end if that is no terminal.
- a `tqdm` class (such as `tqdm.auto.tqdm`, also in a `functools.partial`), or a bar made of it.
- a `rich.progress.Progress`.
- a plain function of a `ProgressEvent`, called after every item, and once at the end if anything
  changed after the last one.
- None or False: nothing, at no cost.
"""


def make_reporter(progress: Any, total: int | None, name: str) -> "Reporter | None":
    """The reporter for `progress`, or None if there is nothing to report to.

    Args:
        progress: see `Progress`.
        total: number of items, or None if unknown.
        name: what the map runs, for the bar's label.

    Raises:
        TypeError: `progress` is none of the things it may be.
        RuntimeError: no event loop is running.
    """
    if progress is None or progress is False:
        return None
    return Reporter(_make_view(progress, total, name), total)


class Reporter:
    """Counts what a map tells it and shows it in a view. For one map, on its loop's thread."""

    __slots__ = (
        "_done",
        "_failed",
        "_in_flight",
        "_loop",
        "_retried",
        "_shown",
        "_started_at",
        "_total",
        "_view",
    )

    def __init__(self, view: "_View", total: int | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        # None once closed, or once it has raised.
        self._view: _View | None = view
        self._total = total
        self._done = 0
        self._failed = 0
        self._retried = 0
        self._in_flight = 0
        self._shown: tuple[int, ...] | None = None

    def started(self, n: int = 1) -> None:
        """`n` items have started their first attempt."""
        self._in_flight += n

    def retried(self) -> None:
        """An item will be tried again."""
        self._retried += 1

    def advanced(self, n: int = 1, *, failed: int = 0) -> None:
        """`n` items have ended, `failed` of them for good with an error."""
        self._done += n
        self._failed += failed
        self._in_flight = max(self._in_flight - n, 0)
        self._show(last=False)

    def close(self) -> None:
        """The map has ended. Safe to call again."""
        self._in_flight = 0
        self._show(last=True)
        self._view = None

    def _show(self, *, last: bool) -> None:
        view = self._view
        if view is None:
            return
        counts = (self._done, self._failed, self._retried, self._in_flight)
        try:
            if counts != self._shown:
                self._shown = counts
                view.show(ProgressEvent(*counts, self._total, self._loop.time() - self._started_at))
            if last:
                view.close()
        except (Exception, asyncio.CancelledError) as error:
            self._view = None
            self._loop.call_exception_handler(
                {
                    "message": f"progress={view.subject!r} failed and is not told any more; "
                    f"the map goes on",
                    "exception": error,
                }
            )


class _View(Protocol):
    """Where progress is shown."""

    @property
    def subject(self) -> object:
        """What the user gave as `progress=`."""

    def show(self, event: ProgressEvent) -> None: ...
    def close(self) -> None: ...


class _FunctionView:
    """A function of the user, called for every event."""

    def __init__(self, function: Callable[[ProgressEvent], object]) -> None:
        self.subject = function

    def show(self, event: ProgressEvent) -> None:
        result = self.subject(event)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                f"progress must be a plain function, but {self.subject!r} returned a coroutine"
            )

    def close(self) -> None:
        pass


class _TqdmView:
    """A tqdm bar, which throttles itself. Closed here only if it was made here."""

    def __init__(self, subject: Any, bar: Any, *, ours: bool) -> None:
        self.subject = subject
        self._bar = bar
        self._ours = ours
        self._done = 0
        self._failed = 0

    def show(self, event: ProgressEvent) -> None:
        if event.failed != self._failed and self._ours:
            self._failed = event.failed
            self._bar.set_postfix(failed=event.failed, refresh=False)
        if event.done != self._done:
            self._bar.update(event.done - self._done)
            self._done = event.done

    def close(self) -> None:
        if self._ours:
            self._bar.close()
        else:
            self._bar.refresh()


class _RichView:
    """A task in a rich Progress. The display is started and stopped here only if it was not on."""

    def __init__(self, progress: Any, total: int | None, name: str) -> None:
        self.subject = progress
        self._total = total
        self._ours = not progress.live.is_started
        if self._ours:
            progress.start()
        self._task = progress.add_task(name, total=total, failed=0)
        self._done = 0

    def show(self, event: ProgressEvent) -> None:
        step = event.done - self._done
        self._done = event.done
        self.subject.update(self._task, advance=step, failed=event.failed)

    def close(self) -> None:
        if self._total is None:
            self.subject.update(self._task, total=self._done)
        self.subject.stop_task(self._task)
        if self._ours:
            self.subject.stop()


class _PlainView:
    """A bar of plain ASCII on a terminal; a single line at the end anywhere else."""

    subject = True

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self._stream = stream  # None under pythonw
        self._live = stream is not None and stream.isatty()
        self._name = name
        self._event: ProgressEvent | None = None
        self._drawn_at = -_REDRAW
        self._width = 0

    def show(self, event: ProgressEvent) -> None:
        self._event = event
        if self._live and event.elapsed - self._drawn_at >= _REDRAW:
            self._drawn_at = event.elapsed
            self._draw(event)

    def close(self) -> None:
        if self._event is None or self._stream is None:
            return
        if self._live:
            self._draw(self._event)
            self._stream.write("\n")
        else:
            self._stream.write(_line(self._name, self._event, bar=False) + "\n")
        self._stream.flush()

    def _draw(self, event: ProgressEvent) -> None:
        assert self._stream is not None
        # One column stays free: writing the last one would wrap on some terminals.
        line = _line(self._name, event, bar=True)[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)


def _line(name: str, event: ProgressEvent, *, bar: bool) -> str:
    """Such as `fetch: 37/100 [=======>------------] 12.3/s 0:03, 2 failed`."""
    count = f"{event.done}" if event.total is None else f"{event.done}/{event.total}"
    parts = [f"{name}: {count}"]
    if bar and event.total:
        filled = min(20 * event.done // event.total, 20)
        parts.append(f"[{'=' * filled}{'-' * (20 - filled)}]")
    if event.elapsed > 0:
        parts.append(f"{event.done / event.elapsed:.1f}/s")
    minutes, seconds = divmod(int(event.elapsed), 60)
    line = f"{' '.join(parts)} {minutes}:{seconds:02}"
    if event.failed:
        line += f", {event.failed} failed"
    if event.retried:
        line += f", {event.retried} retried"
    return line


def _make_view(progress: Any, total: int | None, name: str) -> _View:
    if progress is True:
        return _PlainView(sys.stderr, name)
    given: Any = getattr(progress, "tqdm", None) if inspect.ismodule(progress) else progress
    maker = given.func if isinstance(given, functools.partial) else given
    if isinstance(maker, type) and _comes_from(maker, "tqdm"):
        # What the user fixed in a partial goes first.
        fixed = given.keywords if isinstance(given, functools.partial) else {}
        return _TqdmView(progress, given(**{"total": total, "desc": name} | fixed), ours=True)
    if not inspect.ismodule(progress) and _comes_from(type(progress), "tqdm"):
        bar: Any = progress
        if bar.total is None and total is not None:
            bar.total = total
        return _TqdmView(progress, bar, ours=False)
    if _comes_from(type(progress), "rich") and hasattr(progress, "add_task"):
        return _RichView(progress, total, name)
    if callable(progress):
        if inspect.iscoroutinefunction(progress):
            raise TypeError(
                f"progress must be a plain function, got the async function "
                f"{progress.__qualname__}; it is called on the loop and must not wait"
            )
        return _FunctionView(progress)
    raise TypeError(
        f"progress must be True, a tqdm class or bar, a rich.progress.Progress, or a function of "
        f"a ProgressEvent, got {progress!r}"
    )


def _comes_from(cls: type, package: str) -> bool:
    """Whether the class, or one it derives from, is the package's; imports nothing."""
    return any(base.__module__.partition(".")[0] == package for base in cls.__mro__)
