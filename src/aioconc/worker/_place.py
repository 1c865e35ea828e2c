"""Where the link of the running call is kept: one for each thread.

Apart from `_link`, so that a worker process can put one in place without loading the rest.
"""

import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Place(_thread._local):
    link: "Any" = None


place = _Place()

# In a worker process: called with the link when the running call ends, once, and forgotten.
at_end: "list[Callable[[Any], object]]" = []


def set_link(link: "Any") -> "Any":
    """Put `link` in place for this thread; returns the one that was there."""
    before = place.link
    place.link = link
    return before
