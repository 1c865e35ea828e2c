"""A chunk of a map in its worker: the items one after the other, an outcome for each.

An outcome is in the journal, which the parent shares, before the next item begins: a worker that
dies takes the item with it that it worked on, and no other. Outcomes are sent together, since
sending costs more than many an item. What the parent does with them is left to it.
"""

from marshal import dumps as marshal
from math import inf
from time import monotonic

from aioconc._wire import _call as layout, _frames as wire
from aioconc._wire._body import Laden, joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence
    from typing import Any

    from aioconc.worker._served import Served

    Send = Callable[..., None]

# Outcomes are sent together for so long, in seconds: half of the work of a chunk, since each time
# wakes the parent, which may have to wait for a core that a worker is busy on.
_TOGETHER = 0.010

# Values of exactly these types are marshalled: in half the time of pickling them, and both sides
# are the same interpreter.
_PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None)})


def run_many(
    served: "Served",
    fn: "Callable[[Any], Any]",
    items: "Sequence[Any]",
    journal: "mmap.mmap | None",
    send: "Send",
) -> None:
    """Call `fn` with each item and send what came of it.

    Args:
        served: the call that the chunk is.
        fn: the function.
        items: the items.
        journal: memory shared with the parent, or None.
        send: sends a frame.
    """
    outbox = Outbox(served.number, journal, send)
    # Nobody could read what waits in a journal that is not shared.
    together = _TOGETHER if journal is not None else 0.0
    # In this loop each name that is not local would be felt: it may run for a microsecond.
    memory, words, times = outbox.memory, outbox.words, outbox.times
    end_word, begun_word, stop_word = layout.END, layout.BEGUN, layout.STOP
    most, plain, add = layout.JOURNAL_SIZE, _PLAIN, outbox.row.append
    timed = words[layout.TIMED]
    at = layout.JOURNAL_START
    begun = sent = now = monotonic()
    for index, item in enumerate(items):
        if timed:
            times[0] = now
        # In this order: the parent sets STOP and then looks whether an item has begun.
        words[begun_word] = index + 1
        if words[stop_word]:
            words[begun_word] = index
            break
        try:
            value = fn(item)
            if type(value) not in plain and hasattr(value, "__await__"):
                from aioconc.worker._coroutines import await_in_loop

                value = await_in_loop(served, value)
        except BaseException as error:
            at = outbox.add(at, index, layout.FAILED, _failure(error, error))
        else:
            if type(value) in plain:
                data = marshal(value)
                end = at + len(data)
                if end > most or outbox.mixed:
                    at = outbox.add(at, index, layout.PLAIN, data)
                else:
                    memory[at:end] = data
                    words[end_word] = at = end
                    add(value)
            else:
                at = outbox.add(at, index, *_packed(value, served))
            value = None
        now = monotonic()
        if now - sent > together:
            at = outbox.send(at, index + 1)
            sent = now
    outbox.finish(at, monotonic() - begun)


class Outbox:
    """Outcomes that were not sent, in the journal.

    Args:
        number: of the call.
        journal: memory shared with the parent; None: what is like it, for oneself.
        send: sends a frame.
    """

    def __init__(self, number: int, journal: "mmap.mmap | None", send: "Send") -> None:
        self._number = number
        self._send = send
        self.memory: Any = bytearray(layout.JOURNAL_SIZE) if journal is None else journal
        self._view = memoryview(self.memory)
        start = layout.JOURNAL_START
        self.words = self._view[: start - 8].cast("I")
        self.times = self._view[start - 8 : start].cast("d")
        # Number of the first item whose outcome was not sent.
        self._first = 0
        # The values since, while all of them are plain: the parent reads one list faster.
        self.row: list[Any] = []
        # Not all of them are; each has a head.
        self.mixed = False

    def add(self, at: int, index: int, kind: int, data: bytes) -> int:
        """Write an outcome with its head; returns where the next one goes."""
        if type(data) is Laden:  # descriptors go with a frame of its own
            at = self.send(at, index)
            head = layout.ITEM_HEAD.pack(index, kind, len(data))
            self._send(wire.ITEM, self._number, head, data)
            return self._restart(index + 1)
        entry = layout.ITEM_HEAD.pack(index, kind, len(data)) + data
        if not self.mixed or at + len(entry) > layout.JOURNAL_SIZE:
            at = self.send(at, index)
            self.words[layout.MIXED] = self.mixed = True
        end = at + len(entry)
        if end > layout.JOURNAL_SIZE:  # it does not fit at all
            self._send(wire.ITEM, self._number, entry)
            return self._restart(index + 1)
        self.memory[at:end] = entry
        self.words[layout.END] = end
        return end

    def send(self, at: int, following: int) -> int:
        """Send what is there; returns where the outcome of the item `following` goes."""
        self.times[0] = inf  # no item is late while the parent does not read
        if at > layout.JOURNAL_START:
            self._send(wire.ITEM, self._number, *self._outcomes(at))
        return self._restart(following)

    def finish(self, at: int, seconds: float) -> None:
        """Send what is there, and that it is all."""
        self.times[0] = inf
        spent = layout.SPENT.pack(seconds)
        self._send(wire.RESULT, self._number, spent, *self._outcomes(at))

    def _outcomes(self, at: int) -> "Sequence[bytes | memoryview]":
        if self.mixed:
            return (self._view[layout.JOURNAL_START : at],)
        if not self.row:
            return ()
        data = marshal(self.row)
        return layout.ITEM_HEAD.pack(self._first, layout.ROW, len(data)), data

    def _restart(self, following: int) -> int:
        # First of all the end: whatever the other words say then, there is nothing.
        self.words[layout.END] = layout.JOURNAL_START
        self.words[layout.FIRST] = self._first = following
        self.words[layout.MIXED] = self.mixed = False
        self.row.clear()
        return layout.JOURNAL_START


def _packed(value: "Any", served: "Served") -> "tuple[int, bytes]":
    try:
        return layout.BODY, joined(served.cord.dump(value))
    except BaseException as error:
        from aioconc.worker._failures import cannot_pickle

        told = cannot_pickle(f"the result of {served.label}", value, error)
        return layout.FAILED, _failure(told, error)


def _failure(error: BaseException, origin: BaseException) -> bytes:
    from aioconc.worker._failures import packed

    return packed(error, origin)
