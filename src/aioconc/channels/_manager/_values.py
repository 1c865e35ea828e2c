"""Values and keys of shared queues and tables: how they are sent.

Values are pickled by who puts them, and unpickled by who gets them. Keys are looked at by the
broker, so they are of built-in types whose comparison runs no code of users.
"""

from _pickle import loads
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from aioconc._wire._pickled import pickled
from aioconc.errors import SerializationError

T = TypeVar("T")

# Bytes of one value: more is a slip, or belongs into a `SharedArray`.
_MOST: Final = 1 << 28

# Entries that are sent or handled at once, and the bytes after which they end: a millisecond of work.
PART: Final = 1_000
PART_BYTES: Final = 65_536

_PLAIN: Final = frozenset({bool, bytes, float, int, str, type(None)})


def packed(value: object, what: str) -> bytes:
    """A value, pickled.

    Raises:
        SerializationError: it cannot be pickled.
        ValueError: it is larger than 256 MiB.
    """
    try:
        data = pickled(value)
    except Exception as error:
        raise SerializationError(
            f"{what} of type {type(value).__qualname__} cannot be pickled: {error}; shared objects hold "
            "what can be sent to another process",
            where="item",
            side="sender",
        ) from error
    if len(data) > _MOST:
        raise ValueError(
            f"{what} must be at most {_MOST} bytes when pickled, got {len(data)}; use a "
            "SharedArray, which is not copied"
        )
    return data


def unpacked(data: bytes) -> Any:
    """The value."""
    return loads(data)


def part_of(source: Iterator[T], size: Callable[[T], int]) -> list[T]:
    """What is to be sent or handled next, so that no loop is held up; empty: nothing is left."""
    part: list[T] = []
    total = 0
    for each in source:
        part.append(each)
        total += size(each)
        if len(part) == PART or total >= PART_BYTES:
            break
    return part


def is_plain(key: object) -> bool:
    """Whether the broker may compare it: a str, number, bytes or None, or a tuple of them."""
    kind = type(key)
    return kind in _PLAIN or (kind is tuple and all(map(is_plain, key)))  # type: ignore[call-overload]


def check_key(key: Any) -> Any:
    """A key of a shared dict.

    Raises:
        TypeError: it is of another type.
    """
    if not is_plain(key):
        raise TypeError(
            "a key of a shared dict must be a str, int, float, bool, bytes or None, or a tuple of "
            f"them, got {key!r}: it is compared in the process of the manager, where no code of "
            "other classes runs"
        )
    return key


def check_priority(item: Any) -> Any:
    """What a shared priority queue compares of an item.

    Raises:
        TypeError: it is of a type that it cannot compare.
    """
    if is_plain(item):
        return item
    if type(item) is tuple and item and is_plain(item[0]):
        return item[:1]
    raise TypeError(
        "an item of a shared PriorityQueue must be a number, str or bytes, or a tuple that begins "
        f"with its priority, got {item!r}: it is compared in the process of the manager, where no "
        "code of other classes runs; put (priority, item)"
    )
