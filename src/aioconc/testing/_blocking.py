"""`no_blocking`: a block in which nothing may hold the event loop for long.

The watchdog of `_bridge` looks at the stack of the loop's thread, many times within the threshold;
this names the place that it saw most often. Nothing is scheduled in a loop of asyncio, so that its
order, and a virtual clock, stay as they are; one that shows no callbacks on the stack, such as
uvloop, gets a timer that notes when it comes round. Durations are real.
"""

import asyncio
import linecache
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from types import CodeType, FrameType, TracebackType
from typing import Final

from aioconc._bridge._watchdog import Watchdog
from aioconc._internal._check import check_seconds
from aioconc._internal._sites import Site, place_of, site_of, users_frame
from aioconc.errors import BlockingError


@dataclass(frozen=True)
class Stall:
    """One time that the loop was held up.

    Attributes:
        seconds: for how long, as far as it was seen: at least this, and less than two looks more.
        code: the piece of the user's code that took so long, mostly a call; empty where the source
            is not at hand.
        site: where that is.
        inside: the innermost function, where that is not the user's, with its line.
    """

    seconds: float
    code: str
    site: Site | None
    inside: str = ""

    def __str__(self) -> str:
        what = f"`{self.code}` at {self.site}" if self.code else f"{self.site}"
        return f"{self.seconds:.3f} s: {what}" + (f", inside {self.inside}" if self.inside else "")


class BlockReport:
    """What held the loop up during a `no_blocking` block; given at its beginning.

    Attributes:
        stalls: the stalls seen so far; one that goes on is added when it has ended.
    """

    def __init__(self) -> None:
        self.stalls: list[Stall] = []

    def __repr__(self) -> str:
        return f"<BlockReport {len(self.stalls)} stalls>"


class _Spots:
    """Where in the callback the loop's thread was, look by look. An `Observer`."""

    def __init__(self, report: BlockReport) -> None:
        self._report = report
        self._seen: Counter[_Spot] = Counter()

    def remember(self, frame: FrameType, *, again: bool) -> "_Spot":
        return _Spot.of(frame)

    def meets_again(self, since: float, worked: float, processed: float) -> None:
        pass

    def goes_on(self, moment: "_Spot", seconds: float, *, last: bool) -> None:
        if not last or not self._seen:  # then the thread is in the exit of the block
            self._seen[moment] += 1

    def is_over(self, seconds: float, *, stalled: bool) -> None:
        if stalled:
            [(spot, _)] = self._seen.most_common(1)
            self._report.stalls.append(Stall(seconds, spot.text(), spot.site, spot.inside))
        self._seen.clear()

    def was_kept_out(self, seconds: float, *, asked: bool, within: bool) -> None:
        pass  # not the loop's doing


@dataclass(frozen=True)
class _Spot:
    """A point in a program."""

    code: CodeType
    instruction: int
    site: Site | None
    inside: str

    @classmethod
    def of(cls, frame: FrameType) -> "_Spot":
        """Where a thread is, given its innermost frame."""
        users = users_frame(frame) or frame
        code, instruction = users.f_code, users.f_lasti // 2
        inside = "" if users is frame else str(place_of(frame))
        return cls(code, instruction, site_of(frame), inside)

    def text(self) -> str:
        """The expression that the thread is in the middle of."""
        nowhere = (None, None, None, None)
        line, end_line, start, end = next(
            islice(self.code.co_positions(), self.instruction, None), nowhere
        )
        if line is None or start is None:
            return ""
        text = linecache.getline(self.code.co_filename, line).encode()
        text = text[start:end] if end_line == line else text[start:].rstrip() + b" ..."
        return text.decode(errors="replace").strip()[:100]


class no_blocking:  # noqa: N801  # reads as a phrase: `with no_blocking():`
    """A block in which nothing may hold the event loop for longer than `threshold`.

    Names each stall with how long it was and the line of your code that caused it, calls of
    `time.sleep`, of blocking libraries, and plain computing alike. Each callback counts by
    itself, a task's step from one await to the next. Virtual time does not matter, nor does time
    for which a busy machine kept the thread waiting (told on Linux).

    Args:
        threshold: seconds of real time, > 0. What is longer by half is found for certain, what
            is shorter is never reported.

    Returns:
        A context manager for use inside a coroutine, that gives a `BlockReport`.

    Raises:
        BlockingError: at the end of the block, if the loop was held up. If the block raised, its
            exception leaves, and the stalls are added to it as a note.
        RuntimeError: no event loop is running here.
        ValueError: `threshold` is not positive.

    Example:
        >>> import asyncio
        >>> from aioconc.testing import no_blocking
        >>> async def main():
        ...     with no_blocking():
        ...         await asyncio.sleep(0.1)
        >>> asyncio.run(main())
    """

    def __init__(self, threshold: float = 0.05) -> None:
        self._threshold: Final = check_seconds("threshold", threshold, zero=False)
        self._watchdog: Watchdog | None = None
        self._report = BlockReport()

    def __enter__(self) -> BlockReport:
        if self._watchdog is not None:
            raise RuntimeError("this no_blocking() is entered already; make one for each block")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no_blocking watches the running event loop, and none is running here; "
                "use it inside a coroutine"
            ) from None
        self._report = BlockReport()
        watchdog = Watchdog(
            loop, self._threshold, _Spots(self._report), looks=5, name="no_blocking", timer=False
        )
        watchdog.begin()
        self._watchdog = watchdog
        return self._report

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._watchdog is not None
        watchdog, self._watchdog = self._watchdog, None
        watchdog.end()
        lines = [str(each) for each in self._report.stalls]
        if not lines:
            return
        text = f"the event loop was held up, for longer than {self._threshold} s each time:"
        text = "\n  ".join([text, *lines])
        if error is None:
            raise BlockingError(text, stalls=lines)
        error.add_note(text)
