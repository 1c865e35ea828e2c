"""aioconc's own."""

from typing import Any

from aioconc import sync

Lock = sync.Lock


def task_queue(maxsize: int) -> tuple[Any, Any]:
    queue: sync.Queue[int] = sync.Queue(maxsize)
    return queue.put, queue.get


def mixed_queue(maxsize: int) -> tuple[Any, Any]:
    queue: sync.Queue[int] = sync.Queue(maxsize)
    return queue.sync.put, queue.get


def thread_queue(maxsize: int) -> tuple[Any, Any]:
    queue: sync.Queue[int] = sync.Queue(maxsize)
    return queue.sync.put, queue.sync.get
