"""The standard library's queue of threads."""

import queue
from typing import Any


def thread_queue(maxsize: int) -> tuple[Any, Any]:
    items: queue.Queue[int] = queue.Queue(maxsize)
    return items.put, items.get
