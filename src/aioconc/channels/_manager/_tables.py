"""What the broker knows of dicts and lists: values that are pickles, and versions of them.

It guarantees that each message is one step, which no other comes between. What is computed from a
value is computed by who asks, and set only if the version is still the same. What is long is
answered in pages, so that the loop is held for one of them at a time.
"""

import builtins
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, ClassVar, Final

from aioconc.channels._manager._broker import Connection, Death, Party, Request, Thing
from aioconc.channels._manager._values import part_of

# A pickle and its version.
Entry = tuple[bytes, int]

# What is left of a long answer, and how many bytes an entry of it has.
Rest = tuple[Iterator[Any], Callable[[Any], int]]


class Table(Thing):
    """What both have: a version that never comes again, and answers in pages."""

    tells: ClassVar[frozenset[str]] = frozenset({"forget"})

    def __init__(self) -> None:
        self._version = 0
        # What is still to be answered, by the request that was given the page before it.
        self._rest: dict[tuple[Connection, int], Rest] = {}

    def _entry(self, data: bytes) -> Entry:
        self._version += 1
        return data, self._version

    def _begin(
        self, request: Request, all_of_it: Iterable[Any], size: Callable[[Any], int]
    ) -> None:
        """Give the first page; what there is now is what all pages are of."""
        self._give_page(request, (iter(all_of_it), size))

    def more(self, request: Request, number: int) -> None:
        """The page after the one that the request of that number was given."""
        self._give_page(request, self._rest.pop((request.party.connection, number)))

    def forget(self, party: Party, number: int) -> None:
        """The page after that is not wanted."""
        self._rest.pop((party.connection, number), None)

    def _give_page(self, request: Request, rest: Rest) -> None:
        """Answer with a page, the request to ask for `more` of or None, and the version."""
        source, size = rest
        page = part_of(source, size)
        following = next(source, _NOTHING)
        if following is _NOTHING:
            request.grant((page, None, self._version))
        else:
            self._rest[request.key] = chain([following], source), size
            request.grant((page, request.number, self._version))

    def undo(self, party: Party, number: int) -> None:
        """The next page is not wanted."""
        self.forget(party, number)

    def abandon(self, party: Party, death: Death) -> None:
        """Nobody asks for the next page."""
        if not death.of_call:
            for key in [key for key in self._rest if key[0] is party.connection]:
                del self._rest[key]


_NOTHING: Final = object()


class DictThing(Table):
    """Keys of built-in types to pickles."""

    asks: ClassVar[frozenset[str]] = frozenset(
        {
            "clear",
            "contains",
            "get",
            "items",
            "keys",
            "more",
            "pop",
            "popitem",
            "set_if",
            "setdefault",
            "size",
            "update",
        }
    )

    def __init__(self, entries: "dict[Any, bytes]") -> None:
        super().__init__()
        self._entries: dict[Any, Entry] = {}
        for key, data in entries.items():
            self._entries[key] = self._entry(data)

    def get(self, request: Request, key: Any) -> None:
        """The entry, or None."""
        request.grant(self._entries.get(key))

    def set_if(self, request: Request, key: Any, data: bytes | None, version: int | None) -> None:
        """Set or delete it, if it is of that version (None: absent); whether it was."""
        entry = self._entries.get(key)
        if (None if entry is None else entry[1]) != version:
            request.grant(False)
            return
        if data is not None:
            self._entries[key] = self._entry(data)
        elif entry is not None:
            del self._entries[key]
        request.grant(True)

    def update(self, request: Request, entries: "dict[Any, bytes]") -> None:
        """Set all of them."""
        for key, data in entries.items():
            self._entries[key] = self._entry(data)
        request.grant()

    def setdefault(self, request: Request, key: Any, data: bytes) -> None:
        """What is there, which is `data` if nothing was."""
        if key not in self._entries:
            self._entries[key] = self._entry(data)
        request.grant(self._entries[key][0])

    def pop(self, request: Request, key: Any) -> None:
        """Take it out; None: it is not there."""
        entry = self._entries.pop(key, None)
        request.grant(None if entry is None else entry[0])

    def popitem(self, request: Request) -> None:
        """Take the last one out; None: there is none."""
        if not self._entries:
            request.grant(None)
            return
        key, (data, _) = self._entries.popitem()
        request.grant((key, data))

    def contains(self, request: Request, key: Any) -> None:
        """Whether it is there."""
        request.grant(key in self._entries)

    def keys(self, request: Request) -> None:
        """All of them."""
        self._begin(
            request, [*self._entries], lambda key: len(key) if type(key) in (bytes, str) else 0
        )

    def items(self, request: Request) -> None:
        """All keys with their values."""
        whole = [*self._entries.items()]
        self._begin(request, ((key, data) for key, (data, _) in whole), lambda item: len(item[1]))

    def size(self, request: Request) -> None:
        """How many there are."""
        request.grant(len(self._entries))

    def clear(self, request: Request) -> None:
        """Take all out."""
        self._entries.clear()
        request.grant()


class ListThing(Table):
    """A list of pickles, with one version for all of it."""

    asks: ClassVar[frozenset[str]] = frozenset(
        {
            "delete",
            "extend",
            "get",
            "insert",
            "items",
            "more",
            "pop",
            "replace_if",
            "set",
            "size",
            "slice",
        }
    )

    def __init__(self, items: list[bytes]) -> None:
        super().__init__()
        self._items = items

    def get(self, request: Request, index: int) -> None:
        """One pickle."""
        request.grant(self._items[index])

    def slice(self, request: Request, part: "builtins.slice") -> None:
        """Those of a slice."""
        self._begin(request, self._items[part], len)

    def set(self, request: Request, index: int, data: bytes) -> None:
        """Replace one."""
        self._items[index] = data
        self._version += 1
        request.grant()

    def delete(self, request: Request, index: "int | builtins.slice") -> None:
        """Take out one, or those of a slice."""
        del self._items[index]
        self._version += 1
        request.grant()

    def insert(self, request: Request, index: int, data: bytes) -> None:
        """Put one in before the index."""
        self._items.insert(index, data)
        self._version += 1
        request.grant()

    def extend(self, request: Request, items: list[bytes]) -> None:
        """Put some at the end."""
        self._items += items
        self._version += 1
        request.grant()

    def pop(self, request: Request, index: int) -> None:
        """Take one out."""
        data = self._items.pop(index)
        self._version += 1
        request.grant(data)

    def items(self, request: Request) -> None:
        """All of them."""
        self._begin(request, self._items.copy(), len)

    def replace_if(self, request: Request, items: list[bytes], version: int | None) -> None:
        """Have these instead of all, if the version is that one or None; whether it was."""
        if version is not None and version != self._version:
            request.grant(False)
            return
        self._items = items
        self._version += 1
        request.grant(True)

    def size(self, request: Request) -> None:
        """How many there are."""
        request.grant(len(self._items))
