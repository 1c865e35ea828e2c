"""A chunk of a map in its worker: the items one after the other, an outcome for each.

An outcome is in the journal, which the parent shares, before the next item begins: a worker that
dies takes the item with it that it worked on, and no other. Outcomes are sent together, since
sending costs more than many an item. What the parent does with them is left to it.
"""

from _pickle import dumps
from time import monotonic

from aioconc._wire import _call as layout, _frames as wire
from aioconc._wire._body import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Sequence
    from typing import Any

    from aioconc.worker._served import Served

# Outcomes are sent together for so long, in seconds: half of a chunk's least work, since each time
# wakes the parent, which may have to wait for a core that a worker is busy on.
_TOGETHER = 0.005

# Their pickles name nothing, and hold no buffers.
_PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None)})


def run_many(
    served: "Served",
    fn: "Callable[[Any], Any]",
    items: "Sequence[Any]",
    journal: "mmap.mmap | None",
    send: "Callable[..., None]",
) -> None:
    """Call `fn` with each item and send what came of it.

    Args:
        served: the call that the chunk is.
        fn: the function.
        items: the items.
        journal: memory shared with the parent, or None.
        send: sends a frame.
    """
    together = _TOGETHER
    memory: Any = journal
    if journal is None:  # nobody could read it, so nothing may wait in it
        memory, together = bytearray(layout.JOURNAL_SIZE), 0.0
    view = memoryview(memory)
    words, times = view[:16].cast("I"), view[16:24].cast("d")
    end_word, stop_word = layout.END, layout.STOP
    begun_word, done_word = layout.BEGUN, layout.DONE
    pack_head, head_size = layout.ITEM_HEAD.pack, layout.ITEM_HEAD.size
    start = at = layout.JOURNAL_START
    number = served.number
    # The first item that was not sent, and the values since, if all of them are plain.
    first = 0
    row: list[Any] | None = []
    value: Any = None
    begun = sent = now = monotonic()
    for index, item in enumerate(items):
        # In this order: the parent sets STOP and then looks whether an item has begun.
        times[0] = now
        words[begun_word] = index + 1
        if words[stop_word]:
            words[begun_word] = index
            break
        try:
            value = fn(item)
            plain = type(value) in _PLAIN
            if not plain and hasattr(value, "__await__"):
                from aioconc.worker._coroutines import await_in_loop

                value = await_in_loop(served, value)
                plain = type(value) in _PLAIN
        except BaseException as error:
            plain, kind, data = False, layout.FAILED, _failure(error, error)
        else:
            if plain:
                kind, data = layout.PLAIN, dumps(value, 5)
            else:
                kind, data = _packed(value, served.label)
        end = at + head_size + len(data)
        if end > layout.JOURNAL_SIZE:
            if at > start:
                send(wire.ITEM, number, *_outcomes(first, row, view[start:at]))
            end = start + head_size + len(data)
            first, row, at = index, [], start
            words[end_word] = at
        if end > layout.JOURNAL_SIZE:  # it does not fit at all
            send(wire.ITEM, number, pack_head(index, kind, len(data)), data)
            first = index + 1
        else:
            memory[at:end] = pack_head(index, kind, len(data)) + data
            words[end_word] = at = end
            if not plain:
                row = None
            elif row is not None:
                row.append(value)
        now = monotonic()
        words[done_word] = index + 1
        if now - sent > together:
            if at > start:
                send(wire.ITEM, number, *_outcomes(first, row, view[start:at]))
            first, row, at, sent = index + 1, [], start, now
            words[end_word] = at
    spent = layout.SPENT.pack(monotonic() - begun)
    send(wire.RESULT, number, spent, *_outcomes(first, row, view[start:at]))
    words[end_word] = start


def _outcomes(
    first: int, row: "list[Any] | None", journal: memoryview
) -> "Sequence[bytes | memoryview]":
    """The outcomes since `first`: a row, or as they stand in the journal."""
    if row is None:
        return (journal,)
    data = dumps(row, 5)  # the parent unpickles one list faster than each value
    return layout.ITEM_HEAD.pack(first, layout.ROW, len(data)), data


def _packed(value: "Any", label: str) -> "tuple[int, bytes]":
    try:
        return layout.BODY, b"".join(dump(value))
    except BaseException as error:
        from aioconc.worker._serve import _not_picklable

        return layout.FAILED, _failure(*_not_picklable(label, value, error))


def _failure(error: BaseException, origin: BaseException) -> bytes:
    from aioconc.worker._serve import _reply

    return _reply(error, origin)
