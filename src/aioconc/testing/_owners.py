"""Who holds which lock: recorded for the standard library's primitives while a test runs.

`asyncio.Lock` and `asyncio.Semaphore` do not know their holders, so inside of `record_owners()`
their methods note them. A program runs as it does without: no suspension is added, none is taken
away, and nothing is kept alive. What the records mean for a deadlock is left to `_waits`.
"""

import asyncio
import functools
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any
from weakref import ref

# The record is an attribute of the primitive, so it goes when the primitive goes. While recording,
# its class has the attribute too, as None: the quickest way to ask for one that may be missing.
_RECORD = "_aioconc_owners"

# One acquisition that has not been released yet: a reference to the task (None: acquired outside
# of any; dead: the task is gone and holds for ever), and the code and instruction that awaited it.
# A bare tuple, since one is made for every acquisition of a test.
Hold = tuple["ref[asyncio.Task[Any]] | None", CodeType, int]


def place_of(hold: Hold) -> str:
    """`file:line in function` of the acquisition."""
    _, code, instruction = hold
    # Two bytes for each instruction.
    position = next(itertools.islice(code.co_positions(), instruction // 2, None), None)
    line = "?" if position is None or position[0] is None else position[0]
    return f"{code.co_filename}:{line} in {code.co_qualname}"


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
        ...     return [task() is asyncio.current_task() for task, *_ in recorded(lock).holds]
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
    record = getattr(primitive, _RECORD, None)
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
        asyncio.Lock._aioconc_owners = None  # type: ignore[attr-defined]
        asyncio.Semaphore._aioconc_owners = None  # type: ignore[attr-defined]
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
        del asyncio.Lock._aioconc_owners  # type: ignore[attr-defined]
        del asyncio.Semaphore._aioconc_owners  # type: ignore[attr-defined]
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
            code = frame.f_code
            if code.co_name == "__aenter__" and frame.f_back is not None:
                frame = frame.f_back
                code = frame.f_code
            task = asyncio.current_task()
            record = self._aioconc_owners
            if record is None or record.epoch != epoch:
                record = self._aioconc_owners = Record(epoch, _bound_of(self))
            record.holds.append((None if task is None else ref(task), code, frame.f_lasti))
        return result

    return acquire


def _wrap_release(original: Callable[[Any], None], epoch: int) -> Callable[[Any], None]:
    def release(self: Any) -> None:
        original(self)
        if epoch == _epoch:
            record = self._aioconc_owners
            if record is not None and record.epoch == epoch:
                _drop(record)

    return release


def _wrap_init(original: Callable[..., None], epoch: int) -> Callable[..., None]:
    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._aioconc_owners = Record(epoch, self._value)

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
        holder = hold[0]
        if holder is not None and task is not None and holder() is task:
            del holds[position]
            return
    record.shared = True
    if holds:
        del holds[0]
