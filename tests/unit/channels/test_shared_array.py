"""`SharedArray` in one process: shapes, types, views, its end; what is passed on is in `system`."""

import asyncio
import copy
import errno
import fcntl
import gc
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aioconc._wire import _memory
from aioconc.channels import SharedArray, _array_lock
from aioconc.errors import MissingExtra, OwnerDied

KINDS = ["memfd", "segment"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of memory that there are; a segment is what macOS has, and works here too."""
    if request.param == "memfd" and not hasattr(os, "memfd_create"):
        pytest.skip("no memfd here")
    monkeypatch.setattr(_memory, "kind", request.param)
    return str(request.param)


@pytest.fixture
def without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def in_thread(fn: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(fn).result(30)


def segments() -> set[Path]:
    return set(Path("/dev/shm").glob("aioconc*"))


def test_items_begin_at_zero_and_are_read_and_written_through_views(kind: str) -> None:
    """The NumPy array and the memoryview show the same memory."""
    with SharedArray((2, 3), "int32") as shared:
        assert shared.view.tolist() == [[0, 0, 0], [0, 0, 0]]
        shared.array[1] = [1, 2, 3]
        assert shared.view[1, 2] == 3
        shared.view[0, 0] = 7
        assert int(shared.array.sum()) == 13
        assert (shared.shape, shared.dtype, shared.nbytes, len(shared)) == ((2, 3), "i", 24, 2)
        assert repr(shared) == "<SharedArray (2, 3) of int32, 24 bytes>"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("d", "float64"),
        ("float32", "float32"),
        (bool, "bool"),
        (int, "int64"),
        (float, "float64"),
        (np.uint8, "uint8"),
        (np.dtype("int16"), "int16"),
        ("complex128", "complex128"),
        (">f4", ">f4"),
        ("U5", "<U5"),
        ([("x", "i4"), ("y", "f8")], [("x", "i4"), ("y", "f8")]),
    ],
)
def test_types_are_those_of_numpy(dtype: Any, expected: Any) -> None:
    """Numbers by code, name or Python type, and all else that has a size."""
    with SharedArray(4, dtype) as shared:
        assert shared.array.dtype == np.dtype(expected)
        assert shared.view.nbytes == shared.nbytes == np.zeros(4, expected).nbytes


def test_plain_numbers_need_no_numpy(without_numpy: None) -> None:
    """Without it the memoryview does; what needs it says so, and what to install."""
    with SharedArray((), "float64") as number:
        number.view[()] = 3.0
        assert number.view.tolist() == 3.0
        with pytest.raises(MissingExtra, match=r"SharedArray.array needs NumPy.*pip install numpy"):
            _ = number.array
        with pytest.raises(TypeError, match="without dimensions"):
            len(number)
    with pytest.raises(MissingExtra, match="dtype 'complex64' needs NumPy"):
        SharedArray(1, "complex64")
    with pytest.raises(MissingExtra, match="from_array needs NumPy"):
        SharedArray.from_array([1])


def test_numpy_takes_it_as_an_array() -> None:
    """`asarray` shares the memory, unless another type or a copy is asked for."""
    with SharedArray.from_array(np.arange(6.0).reshape(2, 3)) as shared:
        seen = np.asarray(shared)
        seen[0, 0] = 5
        assert shared.view[0, 0] == 5
        copied = np.array(shared, copy=True)
        other = np.asarray(shared, "int64")
        seen[0, 0] = 6
        assert (copied[0, 0], other[0, 0], other.dtype) == (5, 5, np.dtype("int64"))
        with pytest.raises(ValueError, match="needs a copy"):
            shared.__array__(np.dtype("int8"), copy=False)
        del seen


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "shape must be an int >= 1, got 0"),
        (((2, -1),), ValueError, r"shape\[1\] must be an int >= 1, got -1"),
        ((2.0,), TypeError, "shape must be an int or a tuple of ints, got 2.0"),
        ((("2",),), TypeError, r"shape\[0\] must be an int >= 1, got '2'"),
        (("22",), TypeError, "shape must be an int or a tuple of ints"),
        ((1, "float46"), TypeError, "dtype must be what numpy.dtype takes, got 'float46'"),
        ((1, object), TypeError, "whose items are references into one process"),
        ((1, "V0"), TypeError, "must say how large an item is"),
        ((1, "S"), TypeError, "must say how large an item is"),
        ((4, "(2,)f8"), TypeError, "put its dimensions into the shape"),
        ((1 << 62,), ValueError, "shape must be of fewer than 2 to the 63 bytes"),
        (((1 << 40, 1 << 40), "int8"), ValueError, "shape must be of fewer than"),
    ],
)
def test_bad_input_is_refused(arguments: Any, error: Any, message: str) -> None:
    """Before there is any memory."""
    before = descriptors()
    with pytest.raises(error, match=message):
        SharedArray(*arguments)
    assert descriptors() == before
    with pytest.raises(TypeError, match="lock must be True or False, got 'yes'"):
        SharedArray(1, lock="yes")  # type: ignore[arg-type]


def test_closed_it_says_so(kind: str) -> None:
    """Every use is an error, closing again is none, and what it had is given back."""
    before, named = descriptors(), segments()
    shared = SharedArray(3)
    assert descriptors() > before
    shared.close()
    shared.close()
    assert shared.closed
    assert repr(shared) == "<SharedArray (3,) of float64, closed>"
    for use in ("view", "array", "__enter__", "__reduce__", "__array__"):
        with pytest.raises(ValueError, match="this SharedArray is closed"):
            found = getattr(shared, use)
            found()
    assert (descriptors(), segments()) == (before, named)


def test_a_view_that_is_kept_holds_the_array_open(kind: str) -> None:
    """Closing is refused and changes nothing; once the view is gone it works."""
    before = descriptors()
    for name in ("view", "array"):
        shared = SharedArray(3)
        kept = getattr(shared, name)[1:]
        with pytest.raises(
            BufferError, match=r"a view of <SharedArray .*> is still in use; drop it"
        ):
            shared.close()
        assert not shared.closed
        shared.view[1] = 2
        assert kept[0] == 2
        del kept
        shared.close()
    assert descriptors() == before


def test_a_block_that_fails_keeps_its_error() -> None:
    """Views in the frames of the error do not turn it into another one."""
    with pytest.raises(KeyError), SharedArray(3) as shared:
        kept = shared.array
        raise KeyError
    assert kept[0] == 0
    with pytest.raises(BufferError), SharedArray(3) as shared:
        kept = shared.array


def test_dropped_it_is_freed_with_its_last_view(kind: str) -> None:
    """Nobody needs to close it, and a view is good for as long as it exists."""
    before = descriptors()
    kept = SharedArray(3, "B").view
    kept[0] = 1
    assert kept[0] == 1
    del kept
    assert descriptors() == before


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd here")
def test_nobody_can_make_the_memory_shorter() -> None:
    """A reader of memory that was cut off would be killed by SIGBUS."""
    with SharedArray(1_000) as shared:
        fd = shared._descriptor.fd
        for size in (0, 10, 100_000):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        assert fcntl.fcntl(fd, 1034) & 2 == 2  # F_GET_SEALS, F_SEAL_SHRINK
        other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.ftruncate(other, 0)
        os.close(other)


def test_a_copy_elsewhere_is_refused_with_where_it_may_go() -> None:
    """A pickle that is kept could not keep the memory."""
    with SharedArray(1) as shared:
        for make in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"SharedArray.*travels in arguments and results"):
                make(shared)  # type: ignore[operator]


def test_no_memory_is_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no memory that can be passed on, it says so."""
    before = descriptors()
    with pytest.raises(OSError):
        SharedArray(1 << 59, "d")
    monkeypatch.setattr(_memory, "kind", "none")
    with pytest.raises(OSError, match="no memory without a name"):
        SharedArray(1)
    assert descriptors() == before


@pytest.fixture
def locked() -> Iterator[SharedArray]:
    if not hasattr(os, "eventfd"):
        pytest.skip("needs Linux")
    with SharedArray(1, lock=True) as shared:
        yield shared


async def test_the_lock_tells_its_state(locked: SharedArray) -> None:
    """Who holds it, and how many of this process wait."""
    lock, pid = locked.lock, os.getpid()
    assert repr(locked) == "<SharedArray (1,) of float64, 8 bytes, unlocked>"
    async with lock:
        assert repr(lock) == f"<ArrayLock locked by process {pid}>"
        assert repr(lock.sync) == f"<ArrayLock locked by process {pid}>.sync"
        counts = lock.statistics()
        assert (counts.locked, counts.pid, counts.owner_died) == (True, pid, None)
        assert (counts.tasks_waiting, counts.threads_waiting) == (0, 0)
        with pytest.raises(RuntimeError, match="holds the lock of the array, or waits for it"):
            locked.close()
    assert not (lock.locked() or lock.sync.locked())


async def test_the_lock_is_misused_with_an_error(locked: SharedArray) -> None:
    """Released by nobody, blocking the loop, on a closed array, and where there is none."""
    lock = locked.lock
    with pytest.raises(RuntimeError, match="not acquired in this process"):
        lock.release()
    for use in (lock.sync.acquire, lock.sync.__enter__, lock.sync.recover().__enter__):
        with pytest.raises(
            RuntimeError, match=r"would block the event loop.*write `.*(await|async)"
        ):
            use()
    assert not lock.locked()
    locked.close()
    assert repr(lock) == "<ArrayLock closed>"
    with pytest.raises(ValueError, match="the SharedArray of this lock is closed"):
        await lock.acquire()
    with SharedArray(1) as without, pytest.raises(RuntimeError, match="make it with lock=True"):
        _ = without.lock


async def test_recovering_what_nobody_broke_is_only_a_block(locked: SharedArray) -> None:
    """It gives None, and holds the lock."""
    async with locked.lock.recover() as died:
        assert died is None
        assert locked.lock.locked()
    assert not locked.lock.locked()


async def test_a_death_is_not_forgotten_when_who_finds_it_is_interrupted(
    locked: SharedArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C just after the lock of a dead holder was taken: the next one is told all the same."""
    lock = locked.lock

    def interrupted(_: Any, recover: bool) -> None:
        raise KeyboardInterrupt

    lock._words[0] = 1  # as a holder leaves it that is killed
    with monkeypatch.context() as patched:
        patched.setattr(type(lock), "_take_over", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock._try(False)
    with pytest.raises(OwnerDied):
        await lock.acquire()
    async with lock.recover():
        pass


def test_a_thread_gives_up_when_its_time_is_over(locked: SharedArray) -> None:
    """Whether this process has the lock, or another one."""
    lock = locked.lock
    with lock.sync:
        assert not in_thread(lambda: lock.sync.acquire(timeout=0.01))
    other = os.open(f"/proc/self/fd/{lock._file.fd}", os.O_RDWR)  # as another process would
    fcntl.flock(other, fcntl.LOCK_EX)
    for seconds in (0, 0.01):
        assert not lock.sync.acquire(timeout=seconds)
    os.close(other)
    assert lock.sync.acquire(timeout=0)
    lock.release()


async def test_who_just_had_it_lets_others_go_first(locked: SharedArray) -> None:
    """If somebody in another process waits: a task and a thread wait a moment for him."""
    lock = locked.lock
    async with lock:
        lock._words[2] = 1  # somebody waits
    began = lock._courteous_until
    async with lock:
        assert time.monotonic() >= began > 0
        lock._words[2] = 1
    began = lock._courteous_until
    assert in_thread(lock.sync.acquire)
    assert time.monotonic() >= began
    lock.release()


def test_a_task_of_a_loop_that_is_gone_does_not_keep_the_lock(locked: SharedArray) -> None:
    """It waited for another process when its loop was closed and dropped."""
    lock = locked.lock
    other = os.open(f"/proc/self/fd/{lock._file.fd}", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)

    async def main() -> "asyncio.Task[Any]":
        task = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0.001)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(main())
    loop.close()
    del task, loop
    gc.collect()
    os.close(other)
    assert lock.sync.acquire(timeout=5)
    lock.release()


def test_where_there_is_no_eventfd_a_lock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to use instead."""
    monkeypatch.delattr(os, "eventfd", raising=False)
    with pytest.raises(OSError, match="needs Linux; use the lock of a manager"):
        SharedArray(1, lock=True)


def test_locks_are_opened_anew_after_a_fork(locked: SharedArray) -> None:
    """What a child does at first, here in the same process: an open lock works, a closed one stays."""
    with SharedArray(1, lock=True) as closed:
        pass
    _array_lock._begin_in_child()
    with locked.lock.sync:
        assert locked.lock.locked()
    assert closed.lock.state == "closed"


def test_a_lock_that_cannot_be_opened_anew_after_a_fork_is_closed(
    locked: SharedArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor for it the child has no lock, rather than that of its parent."""

    def no_descriptor(*_: Any) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", no_descriptor)
        _array_lock._begin_in_child()
    with pytest.raises(ValueError, match="closed"):
        locked.lock.sync.acquire()
    locked.close()
    assert locked.closed


def test_a_fork_has_the_array_and_a_lock_that_it_does_not_hold(
    locked: SharedArray, tmp_path: Path
) -> None:
    """The child waits for the parent, and the parent for the child."""
    lock = locked.lock
    with lock.sync:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                late = lock.sync.acquire(timeout=0)
                try:
                    lock.release()
                except RuntimeError:
                    (tmp_path / "ready").touch()
                    lock.sync.acquire()
                    locked.view[0] = 5
                    lock.release()
                    status = 2 if late else 0
            finally:
                os._exit(status)
        while not (tmp_path / "ready").exists():
            os.sched_yield()
        assert locked.view[0] == 0
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with lock.sync:
        assert locked.view[0] == 5
