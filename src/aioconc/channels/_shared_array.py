"""An array that several processes have in common: one memory, and each reads and writes it.

It guarantees that the memory is freed with the last process that has it, however that one ends,
and that nobody can make it shorter under a reader. Who may write when is left to its users, and to
`_array_lock` if they ask for it.
"""

# The memory has no name: a process has it because it was given the descriptor. So nothing is left
# in /dev/shm, and no resource tracker has to know of it. Where a system has no memfd (macOS) it is a
# segment that loses its name at once; that was run on Linux only, on its segments.

import sys
from collections.abc import Sequence
from mmap import mmap
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aioconc._internal._check import check_count
from aioconc._wire import _memory
from aioconc._wire._descriptors import Descriptor
from aioconc._wire._passing import Passed, pass_on
from aioconc.channels._array_lock import ArrayLock
from aioconc.channels._item_types import ItemType, item_type, numpy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# A copy of the descriptor beside the mapping is of no use here, and need not be made any more.
_MAP: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}

# No system has files that are larger.
_MOST_BYTES = 2**63 - 1


class SharedArray:
    """Numbers in memory that processes share: what one writes, the others read.

    Equals a NumPy array over `multiprocessing.shared_memory`, without a name that somebody has to
    unlink. Passed to a process, as an argument or result of a `ProcessExecutor` call, an item of a
    `Channel`, or to a process that `multiprocessing` starts by spawn or forkserver, it is the same
    memory there: nothing is copied, and all of them keep it. It is freed when the last of them has
    closed it or ended, also if it was killed.

    Items are read and written through `array` (with NumPy) or `view` (without). Writes of several
    processes go one into the other as they come; with `lock=True` the array has a `lock` that all
    of them share, and that survives the death of its holder.

    Args:
        shape: items in each dimension, ints >= 1; an int for one dimension.
        dtype: what NumPy takes as one, but for references. Without NumPy: the code of a number,
            such as "d", its name, such as "float64", or `bool`, `int` or `float`.
        lock: whether it has a `lock`; on Linux only.

    Raises:
        ValueError: a dimension below 1, or more bytes than any system counts.
        TypeError: no shape, or no such dtype.
        MissingExtra: the dtype needs NumPy, which is not installed.
        OSError: there is no memory, or no descriptor, or this system (Windows) has no memory that
            could be passed on.

    Example:
        >>> import asyncio
        >>> from aioconc import offload_cpu
        >>> def fill(shared, value):
        ...     shared.array[:] = value
        >>> async def main():
        ...     with SharedArray((2, 3)) as shared:
        ...         await offload_cpu(fill, shared, 7)
        ...         return float(shared.array.sum())
        >>> asyncio.run(main())
        42.0
    """

    # Rule: `_mapping` is None iff it is closed; then `_descriptor` is, too.
    __slots__ = ("__weakref__", "_descriptor", "_item", "_lock", "_mapping", "_shape")

    def __init__(self, shape: int | Sequence[int], dtype: Any = "d", *, lock: bool = False) -> None:
        self._mapping: mmap | None = None
        self._shape = _check_shape(shape)
        self._item = item_type(dtype)
        if not isinstance(lock, bool):
            raise TypeError(f"lock must be True or False, got {lock!r}")
        if self.nbytes > _MOST_BYTES:
            raise ValueError(
                f"shape must be of fewer than 2 to the 63 bytes, got {shape!r}, of {self.nbytes}"
            )
        self._lock = ArrayLock() if lock else None
        self._open(_memory.make(self.nbytes))

    @classmethod
    def from_array(cls, array: "ArrayLike", *, lock: bool = False) -> Self:
        """A shared array with the shape, the dtype and a copy of the items of this one.

        Args:
            array: a NumPy array, or what `numpy.asarray` makes one of.
            lock: as with `SharedArray`.

        Raises:
            MissingExtra: NumPy is not installed.

        Example:
            >>> with SharedArray.from_array([[1.0, 2.0]]) as shared:
            ...     shared.shape, shared.view.tolist()
            ((1, 2), [[1.0, 2.0]])
        """
        given = numpy("SharedArray.from_array").asarray(array)
        made = cls(given.shape, given.dtype, lock=lock)
        made.array[...] = given
        return made

    # ------------------------------------------------------------------ what is in it

    @property
    def array(self) -> "NDArray[Any]":
        """The items as a NumPy array, a new view at each call: keep it for a loop.

        Raises:
            MissingExtra: NumPy is not installed.
            ValueError: the array is closed.
        """
        np = numpy("SharedArray.array")
        # By `frombuffer`, which keeps the mapping from being closed under it; `ndarray` does not.
        flat = np.frombuffer(self._open_mapping(), self._item.dtype)
        made: NDArray[Any] = flat.reshape(self._shape)
        return made

    @property
    def view(self) -> memoryview:
        """The items as a memoryview of this shape; of other items than plain numbers the bytes.

        Raises:
            ValueError: the array is closed.
        """
        view = memoryview(self._open_mapping())
        return view if self._item.code is None else view.cast(self._item.code, self._shape)  # type: ignore[call-overload]  # a code that is a variable

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "NDArray[Any]":
        array = self.array
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"dtype {dtype!r} needs a copy of this {self!r}")
            return array.astype(dtype)
        return array.copy() if copy else array

    @property
    def shape(self) -> tuple[int, ...]:
        """Items in each dimension."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """What `numpy.dtype` takes for the items; of plain numbers their code."""
        return self._item.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        size = self._item.size
        for each in self._shape:
            size *= each
        return size

    def __len__(self) -> int:
        """Items in the first dimension."""
        if not self._shape:
            raise TypeError("a SharedArray without dimensions has no len()")
        return self._shape[0]

    @property
    def lock(self) -> ArrayLock:
        """The lock that all processes share which have this array.

        Raises:
            RuntimeError: it was made without `lock=True`.
        """
        if self._lock is None:
            raise RuntimeError("this SharedArray has no lock; make it with lock=True")
        return self._lock

    # ------------------------------------------------------------------ its end

    @property
    def closed(self) -> bool:
        """Whether it was closed in this process."""
        return self._mapping is None

    def close(self) -> None:
        """Let go of the memory in this process; the others keep it. Again: nothing.

        An array that is simply dropped is closed with its last view.

        Raises:
            BufferError: a view of it is still in use, so that it stays as it is: drop the views, also
                those that NumPy made of them, and close it then.
            RuntimeError: this process holds its lock.
        """
        if self._mapping is None:
            return
        if self._lock is not None:
            self._lock._check_free()
        try:
            self._mapping.close()
        except BufferError:
            raise BufferError(
                f"a view of {self!r} is still in use; drop it (`del view`), and those made of it, "
                "before you close the array"
            ) from None
        self._mapping = None
        self._descriptor.close()
        if self._lock is not None:
            self._lock._close()

    def __enter__(self) -> Self:
        self._open_mapping()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except BufferError:
            # The frames of an error that is under way hold views; it is closed with the last one.
            if kind is None:
                raise

    def __repr__(self) -> str:
        closed = self._mapping is None
        what = "closed" if closed else f"{self.nbytes} bytes"
        locked = "" if closed or self._lock is None else f", {self._lock.state}"
        return f"<SharedArray {self._shape} of {self._item.name}, {what}{locked}>"

    # ------------------------------------------------------------------ to another process

    def __reduce__(self) -> Any:
        self._open_mapping()
        passed = pass_on(self._descriptor.fd, owner=self)
        return _arrive, (passed, self._shape, self._item, self._lock)

    def _open(self, fd: int) -> None:
        self._descriptor = Descriptor(fd)
        self._mapping = mmap(fd, self.nbytes, **_MAP)

    def _open_mapping(self) -> mmap:
        if self._mapping is None:
            raise ValueError("this SharedArray is closed; make another, or close it later")
        return self._mapping


def _arrive(
    passed: Passed, shape: tuple[int, ...], item: ItemType, lock: ArrayLock | None
) -> SharedArray:
    """Called where it is unpickled."""
    made = SharedArray.__new__(SharedArray)
    made._mapping = None
    made._shape, made._item, made._lock = shape, item, lock
    made._open(passed.take())
    return made


def _check_shape(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, int):
        return (check_count("shape", shape),)
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence):
        raise TypeError(f"shape must be an int or a tuple of ints, got {shape!r}")
    return tuple(check_count(f"shape[{number}]", each) for number, each in enumerate(shape))
