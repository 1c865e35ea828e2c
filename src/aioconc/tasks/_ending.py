"""What the block of a task group ends with: nothing, one error, a group of errors, a cancellation.

Collects the errors while children end, and decides once when all have. It waits for nothing, so
that nothing can come in between.
"""

import asyncio
from typing import Any

from aioconc.tasks._scope import CancelScope


# Which one leaves, the first that applies:
# 1. KeyboardInterrupt or SystemExit, bare; the errors beside it are reported to the loop.
# 2. The errors of children and body, as a group. A cancellation from outside strikes again at the
#    next await; an expired time limit is in the group.
# 3. TimeoutError, where the time limit ended the block.
# 4. The cancellation from outside.
# 5. Nothing.
class Ending:
    """The errors of a group so far; `conclude` raises what its block ends with."""

    __slots__ = ("base_error", "errors")

    def __init__(self) -> None:
        # Each child's failure once.
        self.errors: list[BaseException] = []
        # The first KeyboardInterrupt or SystemExit; in `errors` too if a child raised it.
        self.base_error: BaseException | None = None

    def add(self, error: BaseException) -> None:
        """Note the failure of a child."""
        self.errors.append(error)
        self.note_base(error)

    def note_base(self, error: BaseException) -> None:
        """Let a KeyboardInterrupt or SystemExit, the first one, end the block."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)) and self.base_error is None:
            self.base_error = error

    def conclude(
        self,
        group: object,
        host: "asyncio.Task[Any]",
        scope: CancelScope,
        exc: BaseException | None,
        cancelled: asyncio.CancelledError | None,
        outside: bool,
    ) -> bool:
        """Raise what the block ends with, or tell whether `exc` is swallowed.

        Args:
            group: shown in reports.
            host: the task whose block it is.
            scope: the group's, closed by now.
            exc: what the body raised.
            cancelled: the newest cancellation, of the body or of the wait for the children.
            outside: whether a cancellation is pending that is not the scope's own.
        """
        try:
            if exc is not None and not isinstance(exc, (asyncio.CancelledError, GeneratorExit)):
                self.errors.append(exc)
            if self.base_error is not None:
                self._report_beside(group, host.get_loop(), self.base_error)
                if self.base_error is exc:
                    return False
                raise self.base_error
            ours = scope._cancel_called and not outside
            timed_out = ours and scope._expired and cancelled is not None
            if self.errors:
                if outside:
                    # The errors go first; the cancellation strikes again at the next await.
                    host.uncancel()
                    host.cancel(*(cancelled.args[:1] if cancelled is not None else ()))
                if timed_out:
                    self.errors.append(TimeoutError(scope._timeout_message()))
                # An error that a handle brought into the body or a sibling counts once.
                errors = list({id(error): error for error in self.errors}.values())
                try:
                    raise BaseExceptionGroup("unhandled errors in a TaskGroup", errors) from None
                finally:
                    del errors
            if timed_out:
                scope._cancelled_caught = True
                raise TimeoutError(scope._timeout_message()) from cancelled
            if cancelled is not None and not ours:
                if cancelled is exc:
                    return False
                raise cancelled
            scope._cancelled_caught = cancelled is not None
            return cancelled is not None and cancelled is exc
        finally:
            # Exceptions hold frames, and this frame holds exceptions: break the circles.
            self.errors.clear()
            self.base_error = None
            del exc
            cancelled = None

    def _report_beside(
        self, group: object, loop: asyncio.AbstractEventLoop, leaving: BaseException
    ) -> None:
        """Hand the errors that `leaving` leaves behind to the loop."""
        for error in self.errors:
            if error is not leaving:
                loop.call_exception_handler(
                    {
                        "message": f"a child of {group!r} failed beside {leaving!r}",
                        "exception": error,
                    }
                )
