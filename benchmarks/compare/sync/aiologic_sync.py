"""aiologic: tasks and threads alike."""

from typing import Any

import aiologic

Lock = aiologic.Lock


def _queue(maxsize: int) -> Any:
    return aiologic.Queue(maxsize) if maxsize else aiologic.Queue()


def task_queue(maxsize: int) -> tuple[Any, Any]:
    queue = _queue(maxsize)
    return queue.async_put, queue.async_get


def mixed_queue(maxsize: int) -> tuple[Any, Any]:
    queue = _queue(maxsize)
    return queue.green_put, queue.async_get
