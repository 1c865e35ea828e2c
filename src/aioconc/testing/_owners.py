"""Who holds which lock: recorded for the standard library's primitives while a test runs.

`asyncio.Lock` and `asyncio.Semaphore` do not know their holders, so inside of `record_owners()`
their methods note them. A program runs as it does without: no suspension is added, none is taken
away, and nothing is kept alive. What the records mean for a deadlock is left to `_waits`.
"""

import asyncio
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any, NamedTuple

# The record is an attribute of the primitive, so it goes when the primitive goes.
_RECORD = "_aioconc_owners"


class Hold(NamedTuple):
    """One acquisition that has not been released yet."""

    # None: acquired outside of any task. A dead reference: the task is gone and holds for ever.
    task: "weakref.ref[asyncio.Task[Any]] | None"
    # Where the acquisition was awaited; the line is worked out when somebody asks.
    code: CodeType
    instruction: int

    def where(self) -> str:
        """`file:line in function` of the acquisition."""
        positions = tuple(self.code.co_positions())
        index = self.instruction // 2
        line = positions[index][0] if 0 <= index < len(positions) else None
        return f"{self.code.co_filename}:{line or '?'} in {self.code.co_qualname}"


class Record:
    """The acquisitions of one primitive."""

    __slots__ = ("epoch", "free_at_start", "holds", "shared")

    def __init__(self, epoch: int, free_at_start: int | None) -> None:
        # What was recorded in an earlier epoch is void: nobody has looked in between.
        self.epoch = epoch
        # Oldest first. Complete iff as long as `free_at_start` is above the present value.
        self.holds: list[Hold] = []
        # Permits there were when nobody held one; None: not known.
        self.free_at_start = free_at_start
        # Somebody released what somebody else had acquired, so its holders are not the only ones
        # who may release it: the program uses it as a signal, or hands it on.
        self.shared = False


# Rule 1: `_epoch` is the number of the present recording, 0 while there is none. Only wrappers
#         that were made for the present epoch record; one that outlives its epoch, because a
#         `Condition` has bound it or another tool has wrapped it, passes calls through.
# Rule 2: `_users`, `_epoch`, `_epochs` and `_patches` change under `_changing` only.
_changing = threading.Lock()
_users = 0
_epoch = 0
_epochs = 0
_patches: list[tuple[type, str, Any, Any]] = []


@contextmanager
def record_owners() -> Iterator[None]:
    """Record who holds each `asyncio.Lock` and `asyncio.Semaphore` while the block runs.

    For `wait_graph`, which then knows the holders also of what was acquired without `async with`.
    May be nested, and entered by several threads. Primitives in use before the outermost block
    began have unknown holders.

    Example:
        >>> async def main():
        ...     lock = asyncio.Lock()
        ...     await lock.acquire()
        ...     return [hold.task() is asyncio.current_task() for hold in recorded(lock).holds]
        >>> with record_owners():
        ...     asyncio.run(main())
        [True]
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def recorded(primitive: Any) -> Record | None:
    """The record of a Lock or Semaphore; None if there is no valid one."""
    record = getattr(primitive, "__dict__", {}).get(_RECORD)
    if isinstance(record, Record) and record.epoch == _epoch:
        return record
    return None


def _enter() -> None:
    global _users, _epoch, _epochs
    with _changing:
        _users += 1
        if _users > 1:
            return
        _epochs += 1
        _epoch = _epochs
        for owner, name, wrap in (
            (asyncio.Lock, "acquire", _wrap_acquire),
            (asyncio.Lock, "release", _wrap_release),
            (asyncio.Semaphore, "__init__", _wrap_init),
            (asyncio.Semaphore, "acquire", _wrap_acquire),
            (asyncio.Semaphore, "release", _wrap_release),
        ):
            original = owner.__dict__[name]
            wrapper = functools.wraps(original)(wrap(original, _epoch))
            setattr(owner, name, wrapper)
            _patches.append((owner, name, original, wrapper))


def _leave() -> None:
    global _users, _epoch
    with _changing:
        _users -= 1
        if _users:
            return
        _epoch = 0
        for owner, name, original, wrapper in _patches:
            if owner.__dict__[name] is wrapper:  # else another tool has wrapped the wrapper
                setattr(owner, name, original)
        _patches.clear()


def _wrap_acquire(original: Callable[[Any], Any], epoch: int) -> Callable[[Any], Any]:
    async def acquire(self: Any) -> Any:
        result = await original(self)
        # No suspension from here on: the acquisition and its record are one step.
        if epoch == _epoch:
            frame = sys._getframe(1)
            if frame.f_code.co_name == "__aenter__" and frame.f_back is not None:
                frame = frame.f_back
            task = asyncio.current_task()
            hold = Hold(None if task is None else weakref.ref(task), frame.f_code, frame.f_lasti)
            record = self.__dict__.get(_RECORD)
            if record is None or record.epoch != epoch:
                record = self.__dict__[_RECORD] = Record(epoch, _bound_of(self))
            record.holds.append(hold)
        return result

    return acquire


def _wrap_release(original: Callable[[Any], None], epoch: int) -> Callable[[Any], None]:
    def release(self: Any) -> None:
        original(self)
        if epoch == _epoch:
            record = self.__dict__.get(_RECORD)
            if record is not None and record.epoch == epoch:
                _drop(record)

    return release


def _wrap_init(original: Callable[..., None], epoch: int) -> Callable[..., None]:
    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if epoch == _epoch:
            self.__dict__[_RECORD] = Record(epoch, self._value)

    return initialise


def _bound_of(primitive: Any) -> int | None:
    """Permits of a primitive that was made before the recording."""
    if isinstance(primitive, asyncio.Lock):
        return 1
    bound: int | None = getattr(primitive, "_bound_value", None)
    return bound


def _drop(record: Record) -> None:
    """Take away the hold of the releasing task; if it has none, the oldest."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # released outside of any loop
        task = None
    holds = record.holds
    for position, hold in enumerate(holds):
        if task is not None and hold.task is not None and hold.task() is task:
            del holds[position]
            return
    record.shared = True
    if holds:
        del holds[0]
