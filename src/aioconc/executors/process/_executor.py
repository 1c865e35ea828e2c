"""`ProcessExecutor`: calls run in worker processes of its own, and a cancelled call is killed."""

import concurrent.futures
import os
import weakref
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from aioconc._internal._check import check_choice, check_count, check_timeout
from aioconc._wire._body import dump, joined
from aioconc._wire._call import REPORTS
from aioconc.errors import UnsupportedOption
from aioconc.executors._base import Capabilities, Kind, MapOptions, usable_cores
from aioconc.executors._call import Call
from aioconc.executors._futures_face import FuturesFace
from aioconc.executors._options import CallOptions
from aioconc.executors._pool import Pool
from aioconc.executors._stream import Stream, StreamingExecutor
from aioconc.executors.process._context import Carried
from aioconc.executors.process._jobs import ProcessCall, ProcessFutureJob
from aioconc.executors.process._launch import DEPTH_VARIABLE, Recipe
from aioconc.executors.process._pool import ProcessPool, close_unowned
from aioconc.executors.process._stream import ProcessStream

P = ParamSpec("P")
R = TypeVar("R")
if TYPE_CHECKING:
    from aioconc.flow import MapRun

T = TypeVar("T")

# A worker may have workers, and those none: deeper is nearly always a function that offloads
# itself.
_DEEPEST = 2


class ProcessExecutor(StreamingExecutor):
    """Runs calls in up to `max_workers` processes of its own.

    Equals `concurrent.futures.ProcessPoolExecutor` as far as values go. A cancelled or timed-out
    call is killed and the pool lives on; a crash costs one call.

    Args:
        max_workers: most processes that run calls, int >= 1; by default the usable cores (1 in a
            worker process).
        name: what it is called in events and logs.
        spares: processes kept ready beside those, int >= 0, so that the next call need not wait
            for a new one after one was killed.
        idle_timeout: seconds after which an idle process ends; None: never.
        max_tasks_per_worker: calls, int >= 1, after which a process is replaced; None: never.
        memory_limit: bytes, int >= 1, of resident memory beyond which a process is replaced after
            its call; None: no limit.
        initializer: called in each process before its first call; a plain function.
        initargs: its arguments.
        env: environment variables of the processes, beside those of this one.
        blas_threads: threads that libraries such as OpenBLAS and OpenMP may use in each process,
            int >= 1; "auto": the cores shared out among the processes; None: as they like.
        context: context variables whose values go with each call, and are set for it in the
            worker; each must be a global of a module that workers can import.
        forward_logs: whether log records of the workers go to the loggers of this process, with
            the attributes `worker_pid` and `worker_call`.
        start: "exec" starts each process anew; "forkserver" forks it from one template process, which
            lives from the first call until the executor is closed. That is faster where processes
            come and go, or have much to import. Environment, working folder and standard streams
            are then those that the program had when the template started.
        preload: modules that the template imports, as in `preload=("numpy",)`. They must not start
            threads. One that cannot be imported fails the calls that wait for a process.

    Raises:
        ValueError: a number is out of range, a context variable is not found by name, or modules
            are to be preloaded with `start="exec"`.
        UnsupportedOption: `start="forkserver"` on a system other than Linux: it needs fork, memfd,
            pidfd and /proc.
        RuntimeError: this process is a worker of a worker.

    Cancellation:
        With `on_cancel="kill"` (the default) the process is killed, and the cancelled call returns
        once it has ended. With "soft" it is asked first, and killed after `grace`. With "wait" the
        call returns when its function has ended; with "abandon" at once. Being asked shows in
        `aioconc.worker.check_cancelled`, and cancels an async function at its next await.

        A stream that is left early asks its generator to end and waits for its clean-up; with
        "kill" and "soft" the process is killed if that takes longer than `grace`, by default 5 s.
        A stream whose block is cancelled ends like a call.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with ProcessExecutor(max_workers=1) as pool:
        ...         return await pool.run(lambda: 6 * 7)
        >>> asyncio.run(main())
        42
    """

    capabilities = Capabilities(
        kill=True,
        soft=True,
        wait=True,
        abandon=True,
        retries=True,
        stream=True,
        report=True,
        check_cancelled=True,
        call_in_loop=True,
        coroutines=True,
        chunks=True,
    )
    kinds: tuple[Kind, ...] = ("cpu",)

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        name: str | None = None,
        spares: int = 0,
        idle_timeout: float | None = 60.0,
        max_tasks_per_worker: int | None = None,
        memory_limit: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        env: Mapping[str, str] | None = None,
        blas_threads: int | Literal["auto"] | None = "auto",
        context: Iterable[ContextVar[Any]] = (),
        forward_logs: bool = True,
        start: Literal["exec", "forkserver"] = "exec",
        preload: Iterable[str] = (),
    ) -> None:
        depth = int(os.environ.get(DEPTH_VARIABLE, "0"))
        if depth >= _DEEPEST:
            raise RuntimeError(
                f"this process is a worker {depth} levels deep, and may have no workers of its "
                "own; run the work here, or in threads"
            )
        if max_workers is None:
            max_workers = usable_cores() if depth == 0 else 1
        check_count("max_workers", max_workers)
        check_count("spares", spares, least=0)
        check_timeout("idle_timeout", idle_timeout)
        if max_tasks_per_worker is not None:
            check_count("max_tasks_per_worker", max_tasks_per_worker)
        if memory_limit is not None:
            check_count("memory_limit", memory_limit)
        threads: int | None
        if blas_threads == "auto":
            threads = max(1, usable_cores() // max_workers)
        else:
            threads = None if blas_threads is None else check_count("blas_threads", blas_threads)
        modules = _check_start(start, preload)
        self._options = CallOptions(on_cancel="kill")
        self._carried = Carried(context)
        self._processes = ProcessPool(
            type(self).__name__,
            name,
            max_workers,
            Recipe(
                type(self).__name__,
                None if initializer is None else joined(dump((initializer, initargs))),
                env,
                threads,
                forward_logs,
                start == "forkserver",
                modules,
            ),
            spares=spares,
            idle_timeout=idle_timeout,
            max_tasks=max_tasks_per_worker,
            memory_limit=memory_limit,
        )
        self._futures = FuturesFace(
            self._processes, make=_FutureJobs(self._processes, self._carried)
        )
        # All views share this face, and nothing below holds it: it goes when nobody has the
        # executor any more.
        weakref.finalize(self._futures, close_unowned, self._processes).atexit = False

    @property
    def _pool(self) -> Pool:
        return self._processes

    def _call(self, fn: Callable[..., Any], args: Any, kwargs: Any, options: CallOptions) -> Call:
        call = ProcessCall(fn, options)
        self._prepare(call, fn, args, kwargs)
        return call

    def _again(
        self, call: Call, cargo: Any, fn: Callable[..., Any], args: Any, kwargs: Any
    ) -> Call:
        assert isinstance(call, ProcessCall)
        made = ProcessCall(fn, self._options)
        made.pool_name = call.pool_name
        made.writable = call.writable
        made.attempt = call.attempt + 1
        made.pack_again(call, cargo)
        return made

    def _prepare(
        self, call: ProcessCall, fn: Callable[..., Any], args: Any, kwargs: Any, flags: int = 0
    ) -> None:
        """Pickle a call of this pool."""
        processes, carried = self._processes, self._carried
        call.pool_name = processes.kind
        if self._options.writable:
            call.writable = True
        if call.on_report is not None:
            flags |= REPORTS
        variables = carried.values() if carried.variables else ()
        call.pack(fn, args, kwargs, processes.functions, flags, variables)

    def _make_map(
        self,
        fn: Callable[..., Any],
        source: Iterable[Any] | AsyncIterable[Any],
        limit: float | None,
        chunk: int | Literal["auto"],
        options: MapOptions,
    ) -> "MapRun[Any]":
        if self._options.on_cancel == "abandon":
            # Of a chunk that was abandoned nobody would know which items still ran.
            return super()._make_map(fn, source, limit, chunk, options)
        from aioconc.executors.process._map import make_map

        return make_map(self, fn, source, limit, chunk, options)

    def _open_stream(
        self, gen_fn: Callable[..., Any], args: Any, kwargs: Any, buffer: int
    ) -> Stream[Any]:
        return ProcessStream(self, gen_fn, args, kwargs, buffer)

    @property
    def futures(self) -> concurrent.futures.Executor:
        """The same processes as a `concurrent.futures.Executor`."""
        return self._futures

    if TYPE_CHECKING:  # more is accepted than by other executors; what is run is the same

        @overload
        async def run(
            self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
        ) -> R: ...
        @overload
        async def run(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
        async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            """As `Executor.run`; an async function runs in the worker's own loop."""

        def stream(
            self,
            gen_fn: Callable[..., Iterable[T] | AsyncIterable[T]],
            /,
            *args: Any,
            buffer: int = 8,
            **kwargs: Any,
        ) -> AbstractAsyncContextManager[AsyncIterator[T]]:
            """As `Executor.stream`; async generators run in the worker's own loop."""
            raise NotImplementedError


def _check_start(start: object, preload: Any) -> tuple[str, ...]:
    """The modules to preload, if this system can do it."""
    check_choice("start", start, ("exec", "forkserver"))
    modules = (preload,) if isinstance(preload, str) else tuple(preload)
    good = all(
        isinstance(each, str) and all(part.isidentifier() for part in each.split("."))
        for each in modules
    )
    if isinstance(preload, str) or not good:
        raise TypeError(
            f"preload must be names of modules, got {preload!r}; pass them as in "
            'preload=("numpy", "my.module")'
        )
    if "__main__" in modules:
        raise ValueError(
            "preload cannot have __main__, which workers do not import; move what they need to a "
            "module of its own"
        )
    if start == "exec":
        if modules:
            raise ValueError(
                f'preload={modules} needs start="forkserver", got start="exec"; to import modules in '
                "each process by itself, pass an initializer"
            )
        return ()
    from aioconc.executors.process._template import why_not_forked

    if (missing := why_not_forked()) is not None:
        raise UnsupportedOption(
            f'start="forkserver" needs {missing}, which this system does not have; leave it out'
        )
    return modules


class _FutureJobs:
    """Makes the calls of the futures face; holds no executor."""

    def __init__(self, pool: ProcessPool, carried: Carried) -> None:
        self._pool = pool
        self._carried = carried

    def __call__(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> ProcessFutureJob:
        job = ProcessFutureJob(self._pool, fn)
        job.pack(fn, args, kwargs, self._pool.functions, variables=self._carried.values())
        return job
