"""`FuturesExecutor`: any executor of `concurrent.futures` behind the aioconc interface.

Adds what those lack: a queue from which cancelled calls vanish, known fates, lambdas and
`__main__` functions, errors that cannot break the pool, a new pool after a crash. No more calls
are handed on than there are workers, so that a crash concerns those alone. Running calls cannot
be killed one by one, since the pool underneath cannot.
"""

import concurrent.futures
import itertools
import logging
import pickle
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Literal, Self

from aioconc._internal import _hooks
from aioconc._internal._check import check_choice, check_count
from aioconc.errors import ExecutorClosed, SerializationError, WorkerCrashed
from aioconc.executors._base import CallOptions, Capabilities, Kind, usable_cores
from aioconc.executors._call import Call, Job
from aioconc.executors._pool import Pool
from aioconc.executors._stream import StreamingExecutor
from aioconc.executors._thread import THREADS
from aioconc.worker._entry import Reply, dump, run_pickled

_log = logging.getLogger("aioconc.executors")
_names = itertools.count(1)

Factory = Callable[[], concurrent.futures.Executor]


class _ProcessCall(Call):
    """A call whose function and arguments are pickled before anything starts."""

    __slots__ = ("data",)

    def __init__(
        self, fn: Callable[..., Any], args: Any, kwargs: Any, options: CallOptions
    ) -> None:
        super().__init__(fn, args, kwargs, options)
        self.context = None
        try:
            self.data: bytes | None = dump((fn, args, kwargs))
        except Exception as error:
            raise SerializationError(
                f"{self.label} or its arguments cannot be pickled: {type(error).__name__}: {error}",
                where="args",
                side="parent",
            ) from error
        del self.fn, self.args, self.kwargs

    def settle(self, reply: Reply) -> bool:
        """Unpack the worker's reply; never raises."""
        good, data, text, frames = reply
        try:
            value = pickle.loads(data)
        except BaseException as error:
            where: Literal["result", "exception"] = "result" if good else "exception"
            self.error = SerializationError(
                f"the {where} of {self.label} cannot be unpickled: {type(error).__name__}: {error}",
                where=where,
                side="parent",
            )
            self.error.__cause__ = error
            return False
        if good:
            self.value = value
            return True
        self.error = value
        _attach(value, text, frames)
        return False


class RemoteTraceback(Exception):
    """The worker's traceback as text; the cause of an exception that came from a worker."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def _attach(error: BaseException, text: str, frames: Any) -> None:
    error.__cause__ = RemoteTraceback(text)
    if frames is not None:
        try:
            from tblib import Traceback

            error.__traceback__ = Traceback.from_dict(frames).as_traceback()
        except Exception:
            _log.debug("the worker's traceback could not be rebuilt", exc_info=True)


class FuturesPool(Pool):
    """Feeds a `concurrent.futures` executor, from a thread of its own.

    Submitting may start processes and closing waits for them; both would hold up the loop.
    """

    # Rule 4: `executor` and `fresh` belong to the keeper thread alone.
    # Rule 5: what arrives in `orders` after None is never looked at.
    replaces_abandoned = False

    def __init__(
        self,
        kind: str,
        name: str | None,
        max_workers: int,
        executor: concurrent.futures.Executor | None,
        factory: Factory | None,
    ) -> None:
        super().__init__(kind, name or f"aioconc-futures-{next(_names)}", max_workers)
        self.executor = executor
        self.factory = factory
        self.orders: SimpleQueue[Job | None] = SimpleQueue()
        self.keeper: threading.Thread | None = None

    def launch(self, job: Job) -> None:
        if self.keeper is None:
            with self.lock:
                if self.keeper is None:
                    self.keeper = threading.Thread(
                        target=self._keep, name=f"{self.name} keeper", daemon=True
                    )
                    self.keeper.start()
        self.orders.put(job)

    def wind_up(self) -> None:
        with self.lock:
            if self.keeper is None:
                self.keeper = threading.Thread(
                    target=self._keep, name=f"{self.name} keeper", daemon=True
                )
                self.keeper.start()
        self.orders.put(None)

    # -- in the keeper thread -----------------------------------------------------------------

    def _keep(self) -> None:
        while (job := self.orders.get()) is not None:
            try:
                self._send(job)
            except BaseException as error:
                self._fail(job, error)
            del job
        if self.factory is not None and self.executor is not None:
            self.executor.shutdown(wait=True)
        self.set_over()

    def _send(self, job: Job) -> None:
        assert isinstance(job, Call)
        if self.executor is None:
            assert self.factory is not None
            self.executor = self.factory()
            if not isinstance(self.executor, concurrent.futures.Executor):
                made, self.executor = self.executor, None
                raise TypeError(
                    f"the factory of {self.kind} {self.name!r} must return a "
                    f"concurrent.futures.Executor, got {made!r}"
                )
        executor = self.executor
        if isinstance(job, _ProcessCall):
            if not job.claim():
                self._proceed(self.finish(job, None))
                return
            data, job.data = job.data, None
            future = executor.submit(run_pickled, data, job.describe())
        else:
            future = executor.submit(job.execute)
        future.add_done_callback(lambda future: self._done(job, executor, future))

    def _fail(self, job: Job, error: BaseException) -> None:
        assert isinstance(job, Call)
        job.claim()
        job.error = error
        follower = self.finish(job, False)
        job.post()
        self._proceed(follower)

    def _proceed(self, follower: Job | None) -> None:
        if follower is not None:
            self.launch(follower)
        else:
            self.check_over()

    # -- in whichever thread the executor completes a future -----------------------------------

    def _done(self, job: Call, executor: Any, future: "concurrent.futures.Future[Any]") -> None:
        good: bool | None
        try:
            reply = future.result()
        except BaseException as error:
            good = False
            job.error = error
        else:
            good = job.settle(reply) if isinstance(job, _ProcessCall) else reply
        follower = self.finish(job, good)
        job.post()
        self._proceed(follower)


class FuturesExecutor(StreamingExecutor):
    """Runs calls on any `concurrent.futures.Executor`.

    Example:
        >>> import asyncio, concurrent.futures
        >>> async def main():
        ...     async with FuturesExecutor(concurrent.futures.ThreadPoolExecutor) as pool:
        ...         return await pool.run(abs, -1)
        >>> asyncio.run(main())
        1
    """

    _refusals = {
        "kill": "the pool underneath cannot kill one call",
        "soft": "the pool underneath cannot kill one call",
    }
    _pool: FuturesPool

    def __init__(
        self,
        executor: concurrent.futures.Executor | Factory,
        *,
        max_workers: int | None = None,
        name: str | None = None,
        by_reference: bool | None = None,
    ) -> None:
        given = executor if isinstance(executor, concurrent.futures.Executor) else None
        if given is None and not callable(executor):
            raise TypeError(
                "FuturesExecutor expected a concurrent.futures.Executor or a function that makes "
                f"one, got {executor!r}"
            )
        factory: Any = None if given is not None else executor
        if by_reference is None:
            by_reference = _is_threads(executor)
        if max_workers is None:
            max_workers = getattr(executor, "_max_workers", None) or usable_cores()
        check_count("max_workers", max_workers)
        self.capabilities = (
            THREADS
            if by_reference
            else Capabilities(wait=True, abandon=True, retries=factory is not None)
        )
        self.kinds: tuple[Kind, ...] = ("io",) if by_reference else ("cpu",)
        self._options = CallOptions()
        self._pool = FuturesPool(type(self).__name__, name, max_workers, given, factory)

    @classmethod
    def over_processes(
        cls,
        max_workers: int | None = None,
        *,
        start: Literal["forkserver", "spawn"] | None = None,
        name: str | None = None,
    ) -> Self:
        if start is None:
            start = "spawn" if sys.platform == "win32" else "forkserver"
        check_choice("start", start, ("forkserver", "spawn"))
        workers = usable_cores() if max_workers is None else check_count("max_workers", max_workers)

        def make() -> concurrent.futures.Executor:
            from aioconc.worker._process import WorkerPool

            return WorkerPool(workers, start)

        return cls(make, max_workers=workers, name=name)

    def _call(self, fn: Callable[..., Any], args: Any, kwargs: Any, options: CallOptions) -> Call:
        kind = Call if self.capabilities.by_reference else _ProcessCall
        call = kind(fn, args, kwargs, options)
        call.pool_name = self._pool.kind
        return call

    @property
    def futures(self) -> concurrent.futures.Executor:
        raise NotImplementedError


def _is_threads(executor: Any) -> bool:
    kind = executor if isinstance(executor, type) else type(executor)
    return issubclass(kind, concurrent.futures.ThreadPoolExecutor) and not any(
        base.__name__ == "InterpreterPoolExecutor" for base in kind.__mro__
    )
