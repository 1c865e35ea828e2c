"""One call that a greenlet runs, and how its function finds the way back to the loop.

The greenlets of a hub share a thread, so the thread's link leads to the call of the greenlet that
asks, and what waits for the loop waits the way gevent does. Queueing is left to `_gevent_pool`.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aioconc.executors._call import _REPORTS_UNREAD, Call
from aioconc.executors._options import CallOptions
from aioconc.executors.greenlets._gevent import HubCredits, HubLoopCalls
from aioconc.worker._link import Link

if TYPE_CHECKING:
    from aioconc.executors.greenlets._gevent_pool import GeventPool


class GreenletCall(Call):
    """A call that a greenlet runs and a task awaits."""

    __slots__ = ("pool",)

    def __init__(self, pool: "GeventPool", fn: Callable[..., Any], options: CallOptions) -> None:
        super().__init__(fn, options)
        self.pool = pool
        self.pool_name = pool.kind

    def execute(self) -> bool | None:
        if not self.start():
            return None
        context, self.context = self.context, None
        assert context is not None
        try:
            self.value = context.run(self.fn, *self.args, **self.kwargs)
        except BaseException as error:  # contained here, judged by `take`
            self.error = error
            return False
        else:
            return True
        finally:
            del self.fn, self.args, self.kwargs

    def arrive(self) -> None:
        """The outcome is here; what the call started in the loop ends first."""
        if self.loop_calls is None:
            super().arrive()
        else:
            self.loop_calls.close(super().arrive)

    def report(self, value: object) -> None:
        if self.reports is None:
            self.reports = HubCredits(self.pool.open_hub(), self.loop, _REPORTS_UNREAD)
        super().report(value)

    def call_in_loop(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.loop_calls is None:
            calls = HubLoopCalls(self.loop, self.mailbox, self.label, self._unwanted)
            calls._hub = self.pool.open_hub()
            self.loop_calls = calls
        return super().call_in_loop(fn, args, kwargs)


class HubLink(Link):
    """The link of the hub's thread: leads to the call of the greenlet that asks."""

    __slots__ = ("_pool",)

    def __init__(self, pool: "GeventPool") -> None:
        self._pool = pool

    def _call(self, what: str) -> Call:
        job = self._pool.job_here()
        if isinstance(job, Call):
            return job
        raise RuntimeError(
            f"aioconc.worker.{what}() was called outside a call of an executor, in a greenlet of "
            f"thread {threading.current_thread().name!r}; call it from the function given to "
            "GeventExecutor.run, in the greenlet that runs it"
        )

    def describe(self) -> tuple[str, str, int]:
        return self._call("info").describe()

    def report(self, value: object) -> None:
        self._call("report").report(value)

    def check_cancelled(self) -> None:
        self._call("check_cancelled").check_cancelled()

    def call_in_loop(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return self._call("call_in_loop").call_in_loop(fn, args, kwargs)
