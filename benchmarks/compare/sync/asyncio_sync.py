"""The standard library's lock and queue of tasks."""

import asyncio
from typing import Any

Lock = asyncio.Lock


def task_queue(maxsize: int) -> tuple[Any, Any]:
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize)
    return queue.put, queue.get
