"""janus: queues between the tasks of one loop and threads."""

from typing import Any

import janus


def task_queue(maxsize: int) -> tuple[Any, Any]:
    queue: Any = janus.Queue(maxsize)
    return queue.async_q.put, queue.async_q.get


def mixed_queue(maxsize: int) -> tuple[Any, Any]:
    queue: Any = janus.Queue(maxsize)
    return queue.sync_q.put, queue.async_q.get
