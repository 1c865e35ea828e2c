"""Shared dicts, as programs hold them.

It guarantees that each call is one step, which no other process comes between, unless it says that
it goes in parts. Changes that depend on what is there are computed in the process that asks, and
tried again if another was faster.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, Generic, TypeVar, overload

from aioconc.channels._manager._shared import Asked, Shared, Steps, SyncShared, pages
from aioconc.channels._manager._values import check_key, packed, part_of, unpacked

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")
D = TypeVar("D")

_MISSING: Final[Any] = object()


class SharedDict(Shared, Generic[K, V]):
    """A dict for all processes.

    Made by `Manager.dict`. Its methods are those of `dict`, awaited; threads and plain worker code
    use it as any mutable mapping under `sync`. Values are pickled: what you get is a copy, so
    change it and set it again, or use `update_item`. Keys are str, numbers, bytes, None, or tuples
    of them.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         counts = manager.dict()
        ...         for word in ("a", "b", "a"):
        ...             await counts.update_item(word, lambda n: n + 1, default=0)
        ...         return await counts.copy()
        >>> asyncio.run(main())
        {'a': 2, 'b': 1}
    """

    __slots__ = ()

    _called = "table"

    @overload
    async def get(self, key: K) -> V | None: ...
    @overload
    async def get(self, key: K, default: D) -> V | D: ...
    async def get(self, key: K, default: Any = None) -> Any:
        """The value, or `default` if the key is not there.

        Cancellation:
            Nothing is lost.
        """
        return await self._do(_get(self, key, default))

    def __getitem__(self, key: K) -> Asked[V]:
        """The value: `await table[key]`.

        Raises:
            KeyError: it is not there.

        Cancellation:
            Nothing is lost.
        """
        return self._asked("[key]", _get(self, key, _MISSING))

    def __iter__(self) -> None:
        # Else `for` and `in` would ask for the keys 0, 1, 2, ... without an end.
        raise self._not_iterable("await table.keys()` or `await table.contains(key)")

    async def set(self, key: K, value: V) -> None:
        """Set the value of a key.

        Raises:
            SerializationError: the value cannot be pickled.
            TypeError: the key is of another type.

        Cancellation:
            The change is made all the same.
        """
        await self._do(_set(self, key, value))

    async def delete(self, key: K) -> None:
        """Take a key out.

        Raises:
            KeyError: it is not there.

        Cancellation:
            The change is made all the same.
        """
        await self._do(_delete(self, key))

    @overload
    async def pop(self, key: K) -> V: ...
    @overload
    async def pop(self, key: K, default: D) -> V | D: ...
    async def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Take a key out, and give its value.

        Raises:
            KeyError: it is not there, and there is no default.

        Cancellation:
            The key is taken out all the same, and its value is lost.
        """
        return await self._do(_pop(self, key, default))

    async def popitem(self) -> tuple[K, V]:
        """Take out the key that was added last, and give it with its value.

        Raises:
            KeyError: there is none.

        Cancellation:
            It is taken out all the same, and lost.
        """
        return await self._do(_popitem(self))

    async def setdefault(self, key: K, default: V) -> V:
        """The value; `default`, which is set, if the key was not there.

        Cancellation:
            It is set all the same.
        """
        return await self._do(_setdefault(self, key, default))

    async def update(self, other: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V) -> None:
        """Set many.

        Up to 1,000 keys, or 64 KiB of values, are set in one step. More come in parts, so that no
        loop is held up: others may come between.

        Raises:
            SerializationError: a value cannot be pickled; parts before it are set.
            TypeError: a key is of another type; nothing is set.

        Cancellation:
            The change is made all the same; of more than one part, none that was not sent.
        """
        await self._do(_update(self, _entries(other), more))

    async def update_item(self, key: K, fn: Callable[[Any], V], default: Any = _MISSING) -> V:
        """Replace a value by `fn(value)`, so that no change of others is lost.

        Equals `table[key] = fn(table[key])` as one step.

        Args:
            key: whose value it is.
            fn: plain function without side effects, called in this process; again if another
                process changed the value meanwhile.
            default: what it is called with if the key is not there.

        Returns:
            The new value.

        Raises:
            KeyError: the key is not there, and there is no default.
            Exception: what `fn` raised; nothing is changed.

        Cancellation:
            The change may have been made or not.
        """
        return await self._do(_update_item(self, key, fn, default))

    async def compare_and_set(self, key: K, expected: object, value: V) -> bool:
        """Set the value if it equals `expected`, which is compared in this process.

        Returns:
            Whether it was set.

        Cancellation:
            The change may have been made or not.
        """
        return await self._do(_compare_and_set(self, key, expected, value))

    async def contains(self, key: K) -> bool:
        """Whether the key is there.

        Cancellation:
            Nothing is lost.
        """
        return await self._do(_contains(self, key))

    async def size(self) -> int:
        """How many keys there are.

        Cancellation:
            Nothing is lost.
        """
        return await self._do(_size(self))

    async def keys(self) -> list[K]:
        """The keys now, in the order in which they were added.

        Cancellation:
            Nothing is lost.
        """
        return await self._do(_keys(self))

    async def values(self) -> list[V]:
        """The values now.

        Cancellation:
            Nothing is lost.
        """
        return [value for _, value in await self.items()]

    async def items(self) -> list[tuple[K, V]]:
        """The keys with their values now.

        Cancellation:
            Nothing is lost.
        """
        return await self._do(_items(self))

    async def copy(self) -> dict[K, V]:
        """All of it now, as a dict.

        Cancellation:
            Nothing is lost.
        """
        return dict(await self.items())

    async def clear(self) -> None:
        """Take all out.

        Cancellation:
            The change is made all the same.
        """
        await self._do(_clear(self))

    @property
    def sync(self) -> "SyncSharedDict[K, V]":
        """The same dict for threads and plain worker code, as a mutable mapping."""
        return SyncSharedDict(self)


class SyncSharedDict(SyncShared, MutableMapping[K, V]):
    """A `SharedDict` for threads: a mutable mapping, whose calls block the thread.

    Raises RuntimeError in the thread of a running event loop, which it would stop.
    """

    __slots__ = ()

    def __getitem__(self, key: K) -> V:
        value: V = self._do("[key]", _get(self._shared, key, _MISSING))
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._do("set(key, value)", _set(self._shared, key, value))

    def __delitem__(self, key: K) -> None:
        self._do("delete(key)", _delete(self._shared, key))

    def __iter__(self) -> Iterator[K]:
        return iter(self._do("keys()", _keys(self._shared)))

    def __len__(self) -> int:
        return self._do("size()", _size(self._shared))

    def __contains__(self, key: object) -> bool:
        return self._do("contains(key)", _contains(self._shared, key))

    def get(self, key: K, default: Any = None) -> Any:
        """The value, or `default` if the key is not there."""
        return self._do("get(key)", _get(self._shared, key, default))

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Take a key out, and give its value, or `default`."""
        return self._do("pop(key)", _pop(self._shared, key, default))

    def popitem(self) -> tuple[K, V]:
        """Take out the key that was added last."""
        item: tuple[K, V] = self._do("popitem()", _popitem(self._shared))
        return item

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value; `default`, which is set, if the key was not there."""
        return self._do("setdefault(key, value)", _setdefault(self._shared, key, default))

    def update(self, other: Any = (), /, **more: V) -> None:
        """As `SharedDict.update`."""
        self._do("update(items)", _update(self._shared, _entries(other), more))

    def update_item(self, key: K, fn: Callable[[Any], V], default: Any = _MISSING) -> V:
        """As `SharedDict.update_item`."""
        value: V = self._do("update_item(key, fn)", _update_item(self._shared, key, fn, default))
        return value

    def compare_and_set(self, key: K, expected: object, value: V) -> bool:
        """As `SharedDict.compare_and_set`."""
        return self._do(
            "compare_and_set(key, expected, value)",
            _compare_and_set(self._shared, key, expected, value),
        )

    def items(self) -> Any:
        """The keys with their values now, as a view of a copy."""
        return self.copy().items()

    def values(self) -> Any:
        """The values now, as a view of a copy."""
        return self.copy().values()

    def copy(self) -> dict[K, V]:
        """All of it now, as a dict."""
        return dict(self._do("copy()", _items(self._shared)))

    def clear(self) -> None:
        """Take all out."""
        self._do("clear()", _clear(self._shared))


# ------------------------------------------------------------------ what both faces do


def _pack(value: object) -> bytes:
    return packed(value, "a value of a shared dict")


def _get(table: Shared, key: Any, default: Any) -> Steps[Any]:
    _, entry = yield table._number, "get", check_key(key)
    if entry is not None:
        return unpacked(entry[0])
    if default is _MISSING:
        raise KeyError(key)
    return default


def _set(table: Shared, key: Any, value: object) -> Steps[None]:
    yield table._number, "update", {check_key(key): _pack(value)}


def _entries(other: Any) -> dict[Any, Any]:
    """What is to be set; its keys are checked before anything is."""
    if isinstance(other, SharedDict):
        raise other._not_iterable("await table.copy()")
    entries = dict(other)
    for key in entries:
        check_key(key)
    return entries


def _update(table: Shared, *others: Mapping[Any, Any]) -> Steps[None]:
    entries = ((key, _pack(value)) for other in others for key, value in other.items())
    part = part_of(entries, lambda item: len(item[1]))
    while True:
        yield table._number, "update", dict(part)
        part = part_of(entries, lambda item: len(item[1]))
        if not part:
            return


def _delete(table: Shared, key: Any) -> Steps[None]:
    _, data = yield table._number, "pop", check_key(key)
    if data is None:
        raise KeyError(key)


def _pop(table: Shared, key: Any, default: Any) -> Steps[Any]:
    _, data = yield table._number, "pop", check_key(key)
    if data is not None:
        return unpacked(data)
    if default is _MISSING:
        raise KeyError(key)
    return default


def _popitem(table: Shared) -> Steps[Any]:
    _, found = yield table._number, "popitem"
    if found is None:
        raise KeyError("popitem(): the shared dict is empty")
    key, data = found
    return key, unpacked(data)


def _setdefault(table: Shared, key: Any, default: Any) -> Steps[Any]:
    _, data = yield table._number, "setdefault", check_key(key), _pack(default)
    return unpacked(data)


def _update_item(table: Shared, key: Any, fn: Callable[[Any], Any], default: Any) -> Steps[Any]:
    check_key(key)
    while True:
        _, entry = yield table._number, "get", key
        if entry is None and default is _MISSING:
            raise KeyError(key)
        data, version = (None, None) if entry is None else entry
        value = fn(default if data is None else unpacked(data))
        _, is_set = yield table._number, "set_if", key, _pack(value), version
        if is_set:
            return value


def _compare_and_set(table: Shared, key: Any, expected: object, value: object) -> Steps[bool]:
    data = _pack(value)
    check_key(key)
    while True:
        _, entry = yield table._number, "get", key
        if entry is None or unpacked(entry[0]) != expected:
            return False
        _, is_set = yield table._number, "set_if", key, data, entry[1]
        if is_set:
            return True


def _contains(table: Shared, key: object) -> Steps[bool]:
    _, found = yield table._number, "contains", check_key(key)
    return found  # type: ignore[no-any-return]


def _size(table: Shared) -> Steps[int]:
    _, count = yield table._number, "size"
    return count  # type: ignore[no-any-return]


def _keys(table: Shared) -> Steps[list[Any]]:
    keys: list[Any] = []
    yield from pages(table, keys.extend, "keys")
    return keys


def _items(table: Shared) -> Steps[list[tuple[Any, Any]]]:
    items: list[tuple[Any, Any]] = []

    def take(page: list[tuple[Any, bytes]]) -> None:
        items.extend([(key, unpacked(data)) for key, data in page])

    yield from pages(table, take, "items")
    return items


def _clear(table: Shared) -> Steps[None]:
    yield table._number, "clear"
