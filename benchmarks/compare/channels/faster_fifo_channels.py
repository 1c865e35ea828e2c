"""faster-fifo: a ring of bytes in shared memory, with locks of C."""

from typing import Any

import faster_fifo  # type: ignore[import-not-found, import-untyped, unused-ignore]
import faster_fifo_reduction  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401  # makes it picklable

from compare.channels.ends import AwaitedEnd, BlockingEnd


class _End(BlockingEnd):
    def __init__(self, here: Any, there: Any) -> None:
        super().__init__(lambda item: there.put(item, timeout=60), lambda: here.get(timeout=60))
        self._here = here
        self._there = there

    def send_many(self, items: Any) -> None:
        batch = []
        for item in items:
            batch.append(item)
            if len(batch) == 128:
                self._there.put_many(batch, timeout=60)
                batch = []
        if batch:
            self._there.put_many(batch, timeout=60)

    def receive_many(self, most: int) -> list[Any]:
        return self._here.get_many(timeout=60, max_messages_to_get=most)  # type: ignore[no-any-return]


def _unwrap(queues: Any) -> Any:
    there, here = queues
    return _End(here, there)


def queue(capacity: int) -> Any:
    """One for each direction, of twenty megabytes."""
    here, there = (faster_fifo.Queue(max_size_bytes=20_000_000) for _ in range(2))
    return AwaitedEnd(_End(here, there)), _unwrap, (here, there)
