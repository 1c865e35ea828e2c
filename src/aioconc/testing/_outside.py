"""What is real and in flight outside a simulated loop, and may still wake it.

Virtual time may jump only when nothing of this is under way. Three degrees: *held* work ends by
itself and then wakes the loop (a call in an executor, a subprocess), so the clock stands still for
it; an open socket, or a thread that nobody keeps books about, gets a moment of real time to show
itself; and whatever could wake the loop at all keeps a verdict from being called a deadlock.
"""

import asyncio
import concurrent.futures.thread
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

# Real seconds that the clock waits for a sign before it jumps. Both ends of a loopback connection
# are in this loop and data is there as soon as it is sent; a millisecond is for the kernel's own
# work. What hangs on another process or thread gets the time of a few slow system calls.
_NEAR: Final = 0.001
_FAR: Final = 0.05

_POOL_WORKER: Final = concurrent.futures.thread._worker


class Outside:
    """The books of one loop about what it does not simulate."""

    def __init__(self, loop: asyncio.BaseEventLoop) -> None:
        self._loop = loop
        self._threads_before = frozenset(threading.enumerate())
        self._processes: list[asyncio.SubprocessTransport] = []
        # Label -> how many of them are under way; changed under the lock, from any thread.
        self._lock = threading.Lock()
        self._counted: dict[str, int] = {}

    def began(self, label: str) -> None:
        """One more piece of counted work is under way. Any thread may call it."""
        with self._lock:
            self._counted[label] = self._counted.get(label, 0) + 1

    def ended(self, label: str) -> None:
        """One piece less. Whoever calls it from another thread wakes the loop afterwards."""
        with self._lock:
            self._counted[label] -= 1
            if not self._counted[label]:
                del self._counted[label]

    def add_process(self, transport: asyncio.SubprocessTransport) -> None:
        """Keep books about a subprocess: it is under way until it has ended and its pipes too."""
        self._processes.append(transport)

    # -- asked when nothing is ready ------------------------------------------------------------

    def held(self) -> list[str]:
        """What is under way and will end by itself; time stands still for it."""
        found = list(self._counted)
        if self._processes:
            self._processes = [each for each in self._processes if _is_alive(each)]
            found += [f"subprocess {each.get_pid()}" for each in self._processes]
        found += self._own_calls()
        if threading.active_count() > 1:
            found += [f"thread {each.name!r}" for each in self._threads() if self._is_busy(each)]
        return found

    def grace(self) -> float:
        """Real seconds to wait for a sign of what may or may not come."""
        if threading.active_count() > 1 and any(self._foreign_threads()):
            return _FAR
        return max(map(self._grace_of, self._descriptors()), default=0.0)

    def could_wake(self) -> list[str]:
        """Whatever might wake the loop, by name; empty: nothing in the world can."""
        found = [f"thread {each.name!r}" for each in self._foreign_threads()]
        found += [_describe(key) for key in self._descriptors()]
        handlers = getattr(self._loop, "_signal_handlers", {})
        return found + [f"a handler of signal {number}" for number in handlers]

    # -- threads ------------------------------------------------------------------------------

    def _threads(self) -> Iterator[threading.Thread]:
        current = threading.current_thread()
        return (each for each in threading.enumerate() if each is not current)

    def _is_busy(self, thread: Any) -> bool:
        """Whether it is a pool's thread, or asyncio's own, in the middle of something."""
        if _is_anyio_worker(thread):
            return thread.loop is self._loop and thread not in thread.idle_workers
        target = getattr(thread, "_target", None)
        if target is _POOL_WORKER:
            return _is_pool_busy(thread)
        # Shuts down the default executor, while the loop waits with a time-out.
        return getattr(target, "__name__", "") == "_do_shutdown"

    def _foreign_threads(self) -> Iterator[threading.Thread]:
        """Threads that began in the life of this loop, and of which nothing is known."""
        for each in self._threads():
            target = getattr(each, "_target", None)
            known = (
                each in self._threads_before
                or _is_anyio_worker(each)
                or target is _POOL_WORKER
                or each.name.startswith("asyncio-waitpid")
                or getattr(target, "__module__", "").startswith("aioconc.")
            )
            if not known:
                yield each

    def _own_calls(self) -> list[str]:
        """Calls of aioconc's executors that a task of this loop waits for."""
        mailboxes = sys.modules.get("aioconc._bridge._mailbox")
        box = None if mailboxes is None else mailboxes._mailboxes.get(self._loop)
        return ["a call of an aioconc executor"] if box is not None and box.awaited else []

    # -- descriptors --------------------------------------------------------------------------

    def _descriptors(self) -> Iterator[Any]:
        """Those that something unknown may come from: not the loop's own, nor aioconc's workers'.

        A worker that has a call is held work; one that is idle has nothing to say.
        """
        loop: Any = self._loop
        own = -1 if loop._ssock is None else loop._ssock.fileno()
        for key in loop._selector.get_map().values():
            reader = _reader_of(key)
            if key.fd != own and not getattr(reader, "__module__", "").startswith("aioconc."):
                yield key

    def _grace_of(self, key: Any) -> float:
        loop: Any = self._loop
        if getattr(_reader_of(key), "__name__", "") == "_accept_connection":
            return _NEAR
        transport = loop._transports.get(key.fd)
        if transport is None:
            return _FAR
        here, there = _ends(transport)
        for other in loop._transports.values():
            if other is not transport and _ends(other) == (there, here):
                return _NEAR
        return _FAR


def _reader_of(key: Any) -> Any:
    """What the loop calls when the descriptor is readable."""
    reader = key.data[0] if isinstance(key.data, tuple) else None
    return None if reader is None else reader._callback


def _is_alive(transport: asyncio.SubprocessTransport) -> bool:
    if transport.get_returncode() is None:
        return True
    pipes = (transport.get_pipe_transport(fd) for fd in (0, 1, 2))
    return any(pipe is not None and not pipe.is_closing() for pipe in pipes)


def _is_pool_busy(thread: Any) -> bool:
    """Whether a worker of `concurrent.futures` has work, or its pool has some for it."""
    pool = thread._args[0]()
    if pool is not None:
        # The pool counts who is idle, and counts down as soon as something is submitted; Python
        # 3.11 counts too many where work has queued up, so the next two are asked as well.
        if len(pool._threads) > pool._idle_semaphore._value or pool._work_queue.qsize():
            return True
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and frame.f_code is not _POOL_WORKER.__code__


def _is_anyio_worker(thread: threading.Thread) -> bool:
    kind = type(thread)
    return kind.__name__ == "WorkerThread" and kind.__module__ == "anyio._backends._asyncio"


def _ends(transport: asyncio.BaseTransport) -> tuple[Any, Any]:
    return transport.get_extra_info("sockname"), transport.get_extra_info("peername")


def _describe(key: Any) -> str:
    return f"file descriptor {key.fd}"
