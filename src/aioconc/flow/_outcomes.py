"""One outcome for each item: its result, its failure as the policy wants it, or another attempt.

The window tells how each call ended; what that means is decided here, once, and handed to the sink
and to all who count. A failure that is to end the map is handed back to the window, which alone
stops anything.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from aioconc._internal import _hooks
from aioconc.flow._admission import Admission
from aioconc.flow._backoff import RetryHook, checked_delay
from aioconc.flow._chunk import Chunk, OnError
from aioconc.flow._failures import Failures, Misuse, as_failure
from aioconc.flow._progress import Reporter
from aioconc.flow._source import Job


@dataclass(slots=True)
class Policy:
    """What a map was asked for, checked."""

    limit: float
    on_error: OnError = "raise"
    timeout: float | None = None
    retry: RetryHook | None = None
    isolate: Literal["context", "task"] = "context"


class Skipped:
    """Stands in for the result of an item that `on_error="skip"` drops."""


SKIPPED: Final = Skipped()


class Sink(Protocol):
    """Where outcomes go. Called synchronously by the window, once for each item pulled."""

    @property
    def put(self) -> Callable[[int, Any], object]:
        """Takes the index of an item and its result."""
        ...

    def indexes(self) -> Iterator[int]:
        """0, 1, 2, ...: numbers for the items. Each is taken before its item is pulled."""
        ...

    def head(self) -> int:
        """The item whose result the reader takes next; -1: it takes any."""
        ...

    def ended(self) -> None:
        """No further `put` will come."""


class Outcomes:
    """Gives each item of one map its outcome.

    Args:
        sink: takes them.
        policy: what a failure means.
        admission: knows the attempts at an item; there is one if `policy.retry` is given.
        reporter: progress reporter.
        label: the user's function, as it is named in errors and events.
        explain: makes the error for what a call returned and cannot be awaited.
        stop: ends the map with an error.
    """

    __slots__ = (
        "_admission",
        "_label",
        "_policy",
        "_reporter",
        "_sink",
        "_stop",
        "failures",
        "late",
        "misuse",
        "put",
        "store",
    )

    def __init__(
        self,
        sink: Sink,
        policy: Policy,
        *,
        admission: Admission | None,
        reporter: Reporter | None,
        label: str,
        explain: Callable[[Any], TypeError],
        stop: Callable[[BaseException], None],
    ) -> None:
        self._sink = sink
        self._policy = policy
        self._admission = admission
        self._reporter = reporter
        self._label = label
        self._stop = stop
        self.failures = Failures(label, raises=policy.on_error == "raise")
        self.misuse = Misuse(explain)
        # Whether the map is ending: what still fails is noted, and has no other consequence.
        self.late = False
        # Takes the result of an item. `store` is a list that it can go into by index instead, where
        # the sink has one and nobody counts: no call for an item.
        self.put: Callable[[int, Any], object] = sink.put
        self.store: list[Any] | None = getattr(sink, "store", None)
        if admission is not None or reporter is not None:
            self.put = self._put_and_settle
            self.store = None

    def failed(self, job: Job, error: BaseException) -> None:
        """Give a failed call its outcome: another attempt, a result, none, or the end of the map."""
        index, item = job
        number = index  # of the item, where the job is a chunk of them
        if type(item) is Chunk:
            number, item = item.current()
        cancelled = isinstance(error, asyncio.CancelledError)
        if self.late:
            if not cancelled:
                self.failures.add(error, number)
            return
        # If it was cancelled, this is the item's own affair: nobody cancelled the map.
        error = as_failure(error, self._label, item)
        try:
            if not isinstance(error, Exception) or error is self.misuse.error:
                self._stop(error)
                return
            # A cancellation is never retried: whoever asked for it wants the work to end.
            if not cancelled and self._policy.retry is not None and self._retries(job, error):
                return
            if _hooks.listeners:
                _hooks.emit("map.item_failed", label=self._label, index=number, error=error)
            if self._policy.on_error == "raise":
                self._settle(index, failed=True)
                self._stop(error)
                if self.failures.first is not error:  # the progress function raised, too
                    self.failures.add(error, number)
                return
            self._sink.put(index, error if self._policy.on_error == "return" else SKIPPED)
            self._settle(index, failed=True)
        finally:
            del error

    def _retries(self, job: Job, error: Exception) -> bool:
        """Whether the retry hook wants another attempt, or fails; the item is then dealt with."""
        assert self._policy.retry is not None
        assert self._admission is not None
        index = job[0]
        try:
            attempt = self._admission.attempts(index) + 1
            delay = checked_delay(self._policy.retry(attempt, error))
        except BaseException as broken:
            self._stop(broken)
            return True
        if delay is None:
            return False
        if _hooks.listeners:
            _hooks.emit(
                "map.item_retried", label=self._label, index=index, error=error, delay=delay
            )
        if self._reporter is not None:
            self._reporter.retried()
        self._admission.retry(job, delay)
        return True

    def _put_and_settle(self, index: int, value: Any) -> None:
        self._sink.put(index, value)
        self._settle(index, failed=False)

    def _settle(self, index: int, *, failed: bool) -> None:
        """The item has its outcome: tell those who count."""
        if self._admission is not None:
            self._admission.finished(index)
        if self._reporter is not None:
            try:
                self._reporter.advanced(failed=int(failed))
            except BaseException as error:
                self._stop(error)
