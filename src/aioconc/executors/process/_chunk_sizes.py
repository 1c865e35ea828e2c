"""How many items a worker should be given at a time.

So many that sending them costs little beside the work, and so few that the workers end at about
the same time and a crash or a cancellation wastes little. What an item takes is learned from the
chunks that have ended.
"""

import math
from typing import Final

# Seconds of work in a chunk: sending one and reading what came of it costs a fifth of a millisecond,
# which is then a percent, while a person does not notice 20 ms.
_WORK: Final = 0.020

# Seconds of work below which a chunk is not made smaller near the end: workers that end so far
# apart waste less than smaller chunks would cost.
_LEAST_WORK: Final = 0.001

# How much a chunk may grow from one to the next: the first items need not be like the others.
_GROWTH: Final = 4

# Most items in a chunk: more would save nothing, and an item of a microsecond gets there.
_MOST: Final = 4_096


class ChunkSizes:
    """The size of the next chunk of one map.

    Args:
        workers: most workers.
        fixed: items in each chunk, or None: as many as seems good.
        most: most items in a chunk.
    """

    def __init__(self, workers: int, fixed: int | None = None, most: float = math.inf) -> None:
        self._workers = workers
        self._fixed = fixed
        self._most = int(min(_MOST, most))
        self._size = 1
        # Seconds for an item, once known. Rises at once and falls slowly, since a chunk that is
        # too large costs more than one that is too small.
        self._seconds: float | None = None

    def __call__(self, left: int | None = None) -> int:
        """Items for the next chunk.

        Args:
            left: items that are left; None: nobody knows.
        """
        if self._fixed is not None:
            return self._fixed
        size = self._size
        if left is not None and self._seconds is not None:
            share = left // (4 * self._workers)
            size = min(size, max(share, int(_LEAST_WORK / self._seconds)))
        return max(1, size)

    def measured(self, items: int, seconds: float) -> None:
        """A chunk of so many items took so many seconds."""
        if not items:
            return
        each = max(seconds / items, 1e-7)
        before = self._seconds
        self._seconds = each if before is None or each > before else 0.7 * before + 0.3 * each
        fitting = int(_WORK / self._seconds)
        self._size = max(1, min(fitting, self._most, _GROWTH * max(self._size, 1)))
