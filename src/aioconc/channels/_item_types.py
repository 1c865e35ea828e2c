"""What the items of a shared array are: how many bytes each has, and what reads them.

Plain numbers are known without NumPy; every other type that NumPy has is left to it.
"""

from struct import calcsize
from typing import Any, NamedTuple

from aioconc.errors import MissingExtra

# Codes that `struct`, `array`, memoryviews and NumPy agree on.
_CODES = frozenset("?bBhHiIlLqQfd")

_NAMES: dict[Any, str] = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
    bool: "?",
    int: "q",
    float: "d",
}


class ItemType(NamedTuple):
    """The type of the items.

    Attributes:
        code: of plain numbers, as `struct` has it; else None.
        dtype: what NumPy knows it by; of plain numbers the code.
        size: bytes of one item.
    """

    code: str | None
    dtype: Any
    size: int

    @property
    def name(self) -> str:
        """For people."""
        names = (name for name, code in _NAMES.items() if code == self.code)
        return next(names, self.code) or str(self.dtype)


def item_type(dtype: Any) -> ItemType:
    """What `dtype` says.

    Raises:
        TypeError: nothing, or small arrays, or references, which mean nothing in another process.
        MissingExtra: NumPy is needed to understand it, and is not installed.
    """
    code = _NAMES.get(dtype, dtype) if isinstance(dtype, (str, type)) else None
    if isinstance(code, str) and code in _CODES:
        return ItemType(code, code, calcsize(code))
    np = numpy(f"dtype {dtype!r}")
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"dtype must be what numpy.dtype takes, got {dtype!r}: {error}") from None
    if found.hasobject:
        raise TypeError(
            f"dtype must be of values, got {dtype!r}, whose items are references into one process"
        )
    if found.subdtype is not None:
        raise TypeError(
            f"dtype must be of single items, got {dtype!r}; put its dimensions into the shape"
        )
    if not found.itemsize:
        raise TypeError(f"dtype must say how large an item is, got {dtype!r}, of no bytes")
    if found.isnative and found.char in _CODES:
        return ItemType(found.char, found.char, found.itemsize)
    return ItemType(None, found, found.itemsize)


def numpy(what: str) -> Any:
    """The module, for what needs it."""
    try:
        import numpy as np
    except ImportError:
        raise MissingExtra(
            f"{what} needs NumPy, which is not installed: pip install numpy; SharedArray.view does "
            "without"
        ) from None
    return np
