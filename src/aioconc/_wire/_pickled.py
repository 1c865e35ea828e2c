"""Pickling for another process: plain pickle first, cloudpickle for what needs it.

cloudpickle sends by value what pickle cannot do, or could only do by naming `__main__`, since the
other process has no `__main__` of the user's. It is loaded when it is first needed.
"""

from _pickle import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

# In a pickle that cannot be read elsewhere. Looked for with `find`: for `in`, bytes first try to be
# asked for a number, and an exception for each item costs as much as half of its pickle.
MAIN = b"__main__"


def pickled(
    value: object,
    keep_in_band: "Callable[[Any], bool] | None" = None,
    collected: "Sequence[list[Any]]" = (),
) -> bytes:
    """`value`, pickled.

    Args:
        value: what is to be sent.
        keep_in_band: pickle's `buffer_callback`.
        collected: what fills while it is pickled; emptied where pickling begins anew.

    Raises:
        Exception: it cannot be pickled, whatever says so.
    """
    try:
        data = dumps(value, 5, buffer_callback=keep_in_band)
    except Exception:
        data = b""
    if data and data.find(MAIN) < 0:
        return data
    import cloudpickle  # type: ignore[import-untyped]  # it has no annotations

    for each in collected:
        each.clear()
    by_value: bytes = cloudpickle.dumps(value, 5, buffer_callback=keep_in_band)
    return by_value
