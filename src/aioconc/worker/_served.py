"""One call in a worker process, as `aioconc.worker` sees it: the way back to the awaiting task.

Reports and items of a stream are sent as far as there are credits for them; without one the call
waits for the parent, and takes in whatever else the parent says meanwhile: that the call is no
longer wanted, or what a function gave that was called in the loop.
"""

from _pickle import loads

from aioconc._wire import _call as layout, _frames as wire
from aioconc._wire._body import load
from aioconc.worker._cord import Cord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


# Rule: `on_news`, if there is one, is called after each change that the parent made here.
class Served:
    """The link of one call.

    Args:
        cord: where its frames go.
        number: the call's.
        executor: class name of the executor.
        label: what the call is called.
        attempt: which attempt this is.
        reports: whether somebody listens to reports.
        credit: items of a stream that may be sent before the parent says more.
    """

    # Of the class, until the call needs its own: most use none of them.
    _may_report = layout.REPORTS_UNREAD
    cancelled = False
    on_news: "Callable[[], object] | None" = None
    _answer: "Any" = None

    def __init__(
        self,
        cord: Cord,
        number: int,
        executor: str,
        label: str,
        attempt: int,
        reports: bool = False,
        credit: int = 0,
    ) -> None:
        self.cord = cord
        self.number = number
        self.label = label
        self._executor = executor
        self._attempt = attempt
        self._reports = reports
        self.may_send = credit

    def describe(self) -> tuple[str, str, int]:
        """Executor, name of the call, attempt."""
        return self._executor, self.label, self._attempt

    def check_cancelled(self) -> None:
        """As `aioconc.worker.check_cancelled`."""
        if not self.cancelled:
            self.take_in(self.cord.poll())
        if self.cancelled:
            raise self.unwanted()

    def unwanted(self) -> BaseException:
        """What says that nobody wants the outcome."""
        from aioconc.worker._link import Cancelled

        return Cancelled(f"{self.label} is no longer wanted")

    def report(self, value: object) -> None:
        """As `aioconc.worker.report`."""
        if not self._reports or self.cancelled:
            return
        pieces = self.cord.dump(value)
        while not self._may_report and not self.cancelled:
            self.take_in(self.cord.wait())
        self._may_report -= 1
        self.cord.send(wire.REPORT, self.number, *pieces)

    def call_in_loop(self, fn: "Callable[..., Any]", args: "Any", kwargs: "Any") -> "Any":
        """As `aioconc.worker.call_in_loop`."""
        self.check_cancelled()
        self.cord.send(wire.ASK, self.number, *self.cord.dump((fn, args, kwargs)))
        while self._answer is None:
            self.take_in(self.cord.wait())
        answer, self._answer = self._answer, None
        good, value = load(answer)
        if good:
            return value
        if self.cancelled:
            raise self.unwanted()
        error = loads(value)
        try:
            raise error
        finally:
            del error

    def send_items(self, items: "Iterable[Any]") -> None:
        """Send the items as they are wanted, until there are no more or nobody wants them."""
        iterator = iter(items)
        try:
            while True:
                while not self.may_send and not self.cancelled:
                    self.take_in(self.cord.wait())
                if not self.cancelled:
                    self.take_in(self.cord.poll())
                if self.cancelled:
                    return
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                self.send_item(item)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def send_item(self, item: object) -> None:
        """Send one item, for which there is a credit.

        Raises:
            SerializationError: it cannot be pickled.
        """
        try:
            pieces = self.cord.dump(item)
        except Exception as error:
            from aioconc.worker._failures import cannot_pickle

            raise cannot_pickle(f"an item of {self.label}", item, error) from error
        self.may_send -= 1
        self.cord.send(wire.ITEM, self.number, *pieces)

    def take_in(self, frames: "list[Any]") -> None:
        """What the parent says to this call; what it says to an earlier one is too late."""
        for kind, number, payload, _ in frames:
            if number != self.number:
                continue
            if kind == wire.CANCEL:
                self.cancelled = True
            elif kind == wire.CREDIT:
                what, count = layout.CREDIT_HEAD.unpack(payload)
                if what == layout.OF_ITEMS:
                    self.may_send += count
                else:
                    self._may_report += count
            elif kind == wire.ANSWER:
                self._answer = payload
        if frames and self.on_news is not None:
            self.on_news()
