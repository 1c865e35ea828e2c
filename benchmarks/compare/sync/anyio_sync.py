"""anyio: tasks of one loop only; a memory stream is its queue."""

import math
from typing import Any

import anyio

Lock = anyio.Lock


def fast_lock() -> anyio.Lock:
    return anyio.Lock(fast_acquire=True)


def task_queue(maxsize: int) -> tuple[Any, Any]:
    send, receive = anyio.create_memory_object_stream[int](maxsize or math.inf)
    return send.send, receive.receive
