"""What the standard library has."""

import multiprocessing
from functools import partial
from typing import Any

from compare.channels.ends import AwaitedEnd, BlockingEnd

_context = multiprocessing.get_context("spawn")


def _of_two(queues: Any) -> Any:
    theirs, ours = queues
    return BlockingEnd(ours.put, theirs.get)


def _of_pipe(connection: Any) -> Any:
    return BlockingEnd(connection.send, connection.recv)


def _queues(make: Any) -> Any:
    here, there = make(), make()
    return AwaitedEnd(_of_two((here, there))), _of_two, (there, here)


def queue(capacity: int) -> Any:
    """`multiprocessing.Queue`, one for each direction."""
    return _queues(partial(_context.Queue, capacity))


def simple_queue(capacity: int) -> Any:
    """`multiprocessing.SimpleQueue`, which has no bound but that of its pipe."""
    return _queues(_context.SimpleQueue)


def pipe(capacity: int) -> Any:
    """`multiprocessing.Pipe`."""
    ours, theirs = _context.Pipe()
    return AwaitedEnd(_of_pipe(ours)), _of_pipe, theirs


_managers: list[Any] = []


def manager_queue(capacity: int) -> Any:
    """A queue in a third process."""
    if not _managers:
        _managers.append(_context.Manager())
    return _queues(partial(_managers[0].Queue, capacity))
