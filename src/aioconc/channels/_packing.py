"""Items on their way into frames and out of them: pickled by the sender, checked, unpickled lazily.

It guarantees that what cannot be sent raises where it is sent, before anything of it is, and that
what cannot be unpickled fails one receive. It waits for nothing.
"""

from _pickle import dumps, loads
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import islice
from typing import Any, Final, NoReturn

from aioconc._bridge._errand import run_errand
from aioconc._wire._body import (
    LARGE,
    OUT_OF_BAND,
    RAW,
    Laden,
    Parts,
    is_slow,
    load,
    ready,
    take_apart,
)
from aioconc._wire._channel import BYTES, ITEM, LARGE_BYTES, PICKLE
from aioconc._wire._pickled import MAIN
from aioconc.errors import SerializationError

# An item that is unpickled in a thread, or was: a `Future`.
LOADED: Final = 41

# Bytes of small items after which a frame, or a call that takes many, has enough.
ENOUGH_BYTES: Final = 131_072

Raw = tuple[int, Any]


class _Beside(Exception):
    """Something is to travel beside the pickle."""


def _stop(buffer: object) -> NoReturn:
    raise _Beside


def pack(item: object, max_frame: int) -> bytes | Parts:
    """Pickle an item: bytes, if there is nothing beside the pickle and it is small.

    Raises:
        SerializationError: it cannot be pickled.
        ValueError: it is larger than a frame may be.
    """
    kind = type(item)
    prepared = ready(item) if kind is tuple or kind in RAW else item
    if prepared is item:
        # Nearly all items are plain data; what else there is, is found out at little cost: it is
        # not copied here, and not passed on.
        try:
            data = dumps(item, 5, buffer_callback=_stop)
        except Exception:
            data = b""
        if data and data.find(MAIN) < 0:
            if len(data) > max_frame:
                check_size(len(data), max_frame, item)
            return data if len(data) < LARGE else Parts(data, [], [])
    try:
        parts = take_apart(prepared)
    except Exception as error:
        raise SerializationError(
            f"an item of type {type(item).__qualname__} cannot be sent, since it cannot be "
            f"pickled: {error}",
            where="item",
            side="sender",
        ) from error
    size = len(parts.data)
    for each in parts.buffers:
        size += each.nbytes
    check_size(size, max_frame, item)
    return parts.data if parts.is_plain else parts


def check_size(size: int, max_frame: int, item: object) -> None:
    """Refuse what is larger than a frame may be."""
    if size > max_frame:
        raise ValueError(
            f"an item must be at most max_frame={max_frame} bytes when it is pickled, got {size} "
            f"bytes of {type(item).__qualname__}; send it in parts, or pass a larger max_frame to "
            "open_channel"
        )


def gather(
    packed: bytes | Parts, pickles: list[bytes], source: Iterable[object], most: int, max_frame: int
) -> Parts | None:
    """Pickle items for one frame, into `pickles`; one that is not plain ends it and is returned.

    Each has a pickle of its own, made before the next one is read: so a generator may yield the
    same object again and again, no two items share anything where they arrive, and one that cannot
    be unpickled there costs itself.
    """
    if not isinstance(packed, bytes):
        return packed
    pickles.append(packed)
    size = len(packed)
    least = min(OUT_OF_BAND, max_frame)
    for item in islice(source, most - 1):
        kind = type(item)
        if kind is tuple or kind in RAW:
            packed = pack(item, max_frame)
        else:
            # `pack`, written out for what most items are.
            try:
                packed = dumps(item, 5, buffer_callback=_stop)
                if len(packed) > least or packed.find(MAIN) >= 0:
                    packed = pack(item, max_frame)
            except Exception:
                packed = pack(item, max_frame)
        if not isinstance(packed, bytes):
            return packed
        pickles.append(packed)
        size += len(packed)
        if size >= ENOUGH_BYTES:
            break
    return None


def as_bytes(data: Any, max_frame: int) -> bytes:
    """What `send_bytes` was given, as bytes of its own.

    Raises:
        TypeError: it is not bytes, nor anything else that has a buffer.
        ValueError: it is larger than a frame may be.
    """
    if type(data) is bytes:
        copy: bytes = data
    else:
        try:
            copy = memoryview(data).tobytes()
        except TypeError:
            raise TypeError(
                f"send_bytes takes bytes, a bytearray or another buffer, got {data!r}; write "
                "send(item) for other items"
            ) from None
    check_size(len(copy), max_frame, data)
    return copy


def is_large(parts: Parts) -> bool:
    """Whether copying its buffers takes longer than a loop may be held for."""
    return sum(each.nbytes for each in parts.for_arena) >= LARGE


def laden_among(pieces: "list[bytes | memoryview]") -> Laden | None:
    """The piece that is to be sent with descriptors."""
    first = pieces[0]
    return first if type(first) is Laden else None


def own(pieces: "list[bytes | memoryview]") -> "list[bytes | memoryview]":
    """The same pieces without views of what belongs to the caller, who may change it."""
    return [each if isinstance(each, bytes) else bytes(each) for each in pieces]


def takes_long(raw: Raw) -> bool:
    """Whether unpickling it takes longer than a loop may be held for."""
    kind, body = raw
    return kind == LOADED or (kind in (ITEM, LARGE_BYTES) and is_slow(body)) or len(body) >= LARGE


def in_thread(raw: Raw) -> Raw:
    """Have it unpickled in a thread; what to keep in its place."""
    if raw[0] == LOADED:
        return raw
    outcome: Future[Any] = Future()
    # So that nobody can cancel it: a receiver that is cancelled leaves it to the next one.
    outcome.set_running_or_notify_cancel()

    def work() -> None:
        try:
            outcome.set_result(unpack(raw))
        except BaseException as error:
            outcome.set_exception(error)

    run_errand(work)
    return LOADED, outcome


def unpack(raw: Raw) -> Any:
    """The item; blocks while a thread unpickles it.

    Raises:
        SerializationError: it cannot be unpickled.
    """
    kind, body = raw
    try:
        if kind == PICKLE:
            return loads(body)
        if kind in (ITEM, LARGE_BYTES):
            return load(body)
        if kind == BYTES:
            return bytes(body)
    except Exception as error:
        raise _cannot(error) from error
    return body.result()


def unpack_many(raws: list[Raw]) -> list[Any]:
    """The items before the first one that cannot be unpickled.

    Raises:
        SerializationError: that is the first of all.
    """
    items: list[Any] = []
    try:
        for kind, body in raws:
            items.append(loads(body) if kind == PICKLE else unpack((kind, body)))
    except SerializationError:
        if not items:
            raise
    except Exception as error:
        if not items:
            raise _cannot(error) from error
    return items


def _cannot(error: Exception) -> SerializationError:
    return SerializationError(
        f"an item was received that cannot be unpickled here: {type(error).__name__}: {error}",
        where="item",
        side="receiver",
    )
