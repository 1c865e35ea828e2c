"""culsans: queues for tasks and threads alike."""

from typing import Any

import culsans


def task_queue(maxsize: int) -> tuple[Any, Any]:
    queue: Any = culsans.Queue(maxsize)
    return queue.async_q.put, queue.async_q.get


def mixed_queue(maxsize: int) -> tuple[Any, Any]:
    queue: Any = culsans.Queue(maxsize)
    return queue.sync_q.put, queue.async_q.get


def thread_queue(maxsize: int) -> tuple[Any, Any]:
    queue: Any = culsans.Queue(maxsize)
    return queue.sync_q.put, queue.sync_q.get
