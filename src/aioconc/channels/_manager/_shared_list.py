"""Shared lists, as programs hold them.

It guarantees that each call is one step, which no other process comes between, unless it says that
it goes in parts.
"""

import operator
from collections.abc import Callable, Iterable, MutableSequence
from typing import Any, Generic, TypeVar, overload

from aioconc.channels._manager._shared import Asked, Shared, Steps, SyncShared, pages
from aioconc.channels._manager._values import packed, part_of, unpacked

T = TypeVar("T")
R = TypeVar("R")


class SharedList(Shared, Generic[T]):
    """A list for all processes.

    Made by `Manager.list`. Its methods are those of `list`, awaited; threads and plain worker code
    use it as any mutable sequence under `sync`. Items are pickled: what you get is a copy.

    Example:
        >>> import asyncio
        >>> from aioconc.channels import open_manager
        >>> async def main():
        ...     async with open_manager() as manager:
        ...         found = manager.list("ab")
        ...         await found.append("c")
        ...         return await found.copy()
        >>> asyncio.run(main())
        ['a', 'b', 'c']
    """

    __slots__ = ()

    _called = "items"

    @overload
    def __getitem__(self, index: int) -> Asked[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Asked[list[T]]: ...
    def __getitem__(self, index: int | slice) -> Asked[Any]:
        """An item, or those of a slice: `await items[index]`.

        Raises:
            IndexError: there is none.

        Cancellation:
            Nothing is lost.
        """
        return self._asked("[index]", _get(self, index))

    def __iter__(self) -> None:
        # Else `for` and `in` would ask for the items 0, 1, 2, ... without an end.
        raise self._not_iterable("await items.copy()")

    async def set(self, index: int, item: T) -> None:
        """Replace an item.

        Raises:
            IndexError: there is none at the index.
            SerializationError: the new one cannot be pickled.

        Cancellation:
            The change is made all the same.
        """
        await self._do(_set(self, index, item))

    async def delete(self, index: int | slice) -> None:
        """Take out an item, or those of a slice.

        Raises:
            IndexError: there is none at the index.

        Cancellation:
            The change is made all the same.
        """
        await self._do(_delete(self, index))

    async def append(self, item: T) -> None:
        """Put an item at the end.

        Raises:
            SerializationError: it cannot be pickled.

        Cancellation:
            The change is made all the same.
        """
        await self._do(_extend(self, [item]))

    async def extend(self, items: Iterable[T]) -> None:
        """Put items at the end.

        Up to 1,000 of them, or 64 KiB, are put in one step. More come in parts, so that no loop is
        held up: items of others may come between.

        Raises:
            SerializationError: an item cannot be pickled; parts before it are in the list.

        Cancellation:
            The change is made all the same; of more than one part, none that was not sent.
        """
        await self._do(_extend(self, items))

    async def insert(self, index: int, item: T) -> None:
        """Put an item in before the index.

        Cancellation:
            The change is made all the same.
        """
        await self._do(_insert(self, index, item))

    async def pop(self, index: int = -1) -> T:
        """Take an item out, by default the last.

        Raises:
            IndexError: there is none at the index.

        Cancellation:
            The item is taken out all the same, and lost.
        """
        return await self._do(_pop(self, index))

    async def update(self, fn: Callable[[list[T]], list[T]]) -> list[T]:
        """Replace all items by `fn(items)`, so that no change of others is lost.

        Args:
            fn: plain function without side effects, called in this process with a copy; again if
                another process changed the list meanwhile. So `update(sorted)` sorts.

        Returns:
            The new items.

        Raises:
            Exception: what `fn` raised; nothing is changed.

        Cancellation:
            The change may have been made or not.
        """
        return await self._do(_update(self, fn))

    async def size(self) -> int:
        """How many items there are.

        Cancellation:
            Nothing is lost.
        """
        return await self._do(_size(self))

    async def copy(self) -> list[T]:
        """All items now.

        Cancellation:
            Nothing is lost.
        """
        return await self._do(_copy(self))

    async def clear(self) -> None:
        """Take all out.

        Cancellation:
            The change is made all the same.
        """
        await self._do(_clear(self))

    @property
    def sync(self) -> "SyncSharedList[T]":
        """The same list for threads and plain worker code, as a mutable sequence."""
        return SyncSharedList(self)


class SyncSharedList(SyncShared, MutableSequence[T]):
    """A `SharedList` for threads: a mutable sequence, whose calls block the thread.

    Calls of `list` that are not one request are one step all the same: `remove`, `reverse` and
    `sort` go by `update`. Raises RuntimeError in the thread of a running event loop, which it would
    stop.
    """

    __slots__ = ()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._do("[index]", _get(self._shared, index))

    def __setitem__(self, index: Any, item: Any) -> None:
        if not isinstance(index, slice):
            self._do("set(index, item)", _set(self._shared, index, item))
            return
        new = [*item]

        def change(items: list[T]) -> list[T]:
            items[index] = new
            return items

        self.update(change)

    def __delitem__(self, index: int | slice) -> None:
        self._do("delete(index)", _delete(self._shared, index))

    def __len__(self) -> int:
        return self._do("size()", _size(self._shared))

    def __iter__(self) -> Any:
        return iter(self.copy())

    def __contains__(self, item: object) -> bool:
        return item in self.copy()

    def insert(self, index: int, value: T) -> None:
        """Put an item in before the index."""
        self._do("insert(index, item)", _insert(self._shared, index, value))

    def append(self, value: T) -> None:
        """Put an item at the end."""
        self._do("append(item)", _extend(self._shared, [value]))

    def extend(self, values: Iterable[T]) -> None:
        """As `SharedList.extend`."""
        self._do("extend(items)", _extend(self._shared, values))

    def __iadd__(self, values: Iterable[T]) -> "SyncSharedList[T]":
        self.extend(values)
        return self

    def pop(self, index: int = -1) -> T:
        """Take an item out, by default the last."""
        item: T = self._do("pop()", _pop(self._shared, index))
        return item

    def remove(self, value: T) -> None:
        """Take out the first that is equal."""

        def change(items: list[T]) -> list[T]:
            items.remove(value)
            return items

        self.update(change)

    def index(self, value: Any, *bounds: int) -> int:
        """Where the first is that is equal."""
        return self.copy().index(value, *bounds)

    def count(self, value: Any) -> int:
        """How many are equal."""
        return self.copy().count(value)

    def reverse(self) -> None:
        """Put them in the other order."""
        self.update(lambda items: items[::-1])

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        """Put them in order."""
        self.update(lambda items: sorted(items, key=key, reverse=reverse))

    def update(self, fn: Callable[[list[T]], list[T]]) -> list[T]:
        """As `SharedList.update`."""
        return self._do("update(fn)", _update(self._shared, fn))

    def copy(self) -> list[T]:
        """All items now."""
        return self._do("copy()", _copy(self._shared))

    def clear(self) -> None:
        """Take all out."""
        self._do("clear()", _clear(self._shared))


# ------------------------------------------------------------------ what both faces do


def pack_items(items: Iterable[object]) -> list[bytes]:
    """The items, each pickled."""
    return [*map(_pack, items)]


def _pack(item: object) -> bytes:
    return packed(item, "an item of a shared list")


def _plain(index: int | slice) -> Any:
    """The index, of built-in types: others may be unknown in the process of the manager."""
    if isinstance(index, slice):
        bounds = index.start, index.stop, index.step
        return slice(*(None if each is None else operator.index(each) for each in bounds))
    return operator.index(index)


def _get(table: Shared, index: int | slice) -> Steps[Any]:
    if isinstance(index, slice):
        items, _ = yield from _whole(table, "slice", _plain(index))
        return items
    _, data = yield table._number, "get", _plain(index)
    return unpacked(data)


def _set(table: Shared, index: int, item: object) -> Steps[None]:
    yield table._number, "set", operator.index(index), *pack_items([item])


def _delete(table: Shared, index: int | slice) -> Steps[None]:
    yield table._number, "delete", _plain(index)


def _extend(table: Shared, items: Iterable[object]) -> Steps[None]:
    pickles = map(_pack, items)
    part = part_of(pickles, len)
    while True:
        yield table._number, "extend", part
        part = part_of(pickles, len)
        if not part:
            return


def _insert(table: Shared, index: int, item: object) -> Steps[None]:
    yield table._number, "insert", operator.index(index), *pack_items([item])


def _pop(table: Shared, index: int) -> Steps[Any]:
    _, data = yield table._number, "pop", operator.index(index)
    return unpacked(data)


def _update(table: Shared, fn: Callable[[list[Any]], list[Any]]) -> Steps[list[Any]]:
    while True:
        items, version = yield from _whole(table, "items")
        items = [*fn(items)]
        _, is_set = yield table._number, "replace_if", pack_items(items), version
        if is_set:
            return items


def _size(table: Shared) -> Steps[int]:
    _, count = yield table._number, "size"
    return count  # type: ignore[no-any-return]


def _whole(table: Shared, *what: Any) -> Steps[tuple[list[Any], int]]:
    """All items that are asked for, and the version that they are of."""
    items: list[Any] = []
    version = yield from pages(table, lambda page: items.extend(map(unpacked, page)), *what)
    return items, version


def _copy(table: Shared) -> Steps[list[Any]]:
    items, _ = yield from _whole(table, "items")
    return items


def _clear(table: Shared) -> Steps[None]:
    yield table._number, "replace_if", [], None
