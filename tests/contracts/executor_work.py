"""Functions for the executor tests to run in workers; imports little, so that workers load fast."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any


def add(a: int, b: int = 0) -> int:
    return a + b


def pause(seconds: float) -> None:
    """As `time.sleep`; in a gevent hub the other greenlets run meanwhile."""
    if threading.current_thread().name.startswith("aioconc-gevent"):
        import gevent

        gevent.sleep(seconds)
    else:
        time.sleep(seconds)


def hold(gate: str) -> str:
    """Say that it runs, then wait to be let go."""
    Path(gate + ".started").touch()
    while not Path(gate + ".go").exists():
        pause(0.002)
    Path(gate + ".ended").touch()
    return gate


def write_pid(path: str) -> None:
    """In one step, so that a reader never sees half of it."""
    Path(path + ".new").write_text(str(os.getpid()))
    Path(path + ".new").rename(path)


def is_alive(pid: int) -> bool:
    """Whether the process exists, be it only as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def numbers(made: str, closed: str) -> Iterator[int]:
    """Count without end; tell of each item, and of the end."""
    try:
        for number in range(10_000):
            with Path(made).open("a") as file:
                file.write(".")
            yield number
    finally:
        Path(closed).write_text("closed")


def count_and_spin(made: str) -> Iterator[int]:
    """Say that it runs, and never come back."""
    Path(made).touch()
    while True:
        pass
    yield 1


def report_much(count: int) -> None:
    from aioconc import worker

    for number in range(count):
        worker.report(number)


async def add_later(a: int, b: int = 0) -> int:
    await asyncio.sleep(0)
    return a + b


async def raise_refused_later() -> None:
    await asyncio.sleep(0)
    raise_refused()


async def count_later(end: int) -> AsyncIterator[int]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


async def hold_later(gate: str) -> None:
    """Say that it runs, then wait for ever; say that it was cancelled."""
    Path(gate + ".started").touch()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await asyncio.sleep(0)
        Path(gate + ".ended").touch()


async def hold_after_one(gate: str) -> AsyncIterator[int]:
    yield 1
    await hold_later(gate)


async def hold_in_loop(path: str) -> None:
    """As `hold_later`, with a clean-up that takes several turns of the loop."""
    Path(path + ".started").touch()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await asyncio.sleep(0.02)
        Path(path + ".ended").touch()


def touch(path: str) -> None:
    Path(path).touch()


class Refused(Exception):
    """Pickles as any exception."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Unruly(Exception):
    """Pickles, but cannot be unpickled: the flaw of many real exceptions."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Odd(BaseException):
    """Not an `Exception`."""


def raise_refused() -> None:
    error = Refused(7)
    error.add_note("a note")
    raise error


def raise_through(depth: int) -> None:
    if depth > 1:
        raise_through(depth - 1)
    raise_refused()


def raise_from() -> None:
    try:
        raise ValueError("the first")
    except ValueError as error:
        raise KeyError("the second") from error


def recurse() -> None:
    recurse()


def make_unimportable(name: str) -> None:
    import sys

    sys.modules[name] = None  # type: ignore[assignment]


def raise_group() -> None:
    group = ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [Refused(2)])])
    group.add_note("of the group")
    raise group


def raise_unruly_group() -> None:
    raise ExceptionGroup("several", [ValueError(1), Unruly("a", "b")])


def raise_this(name: str) -> None:
    match name:
        case "StopIteration":
            raise StopIteration(1)
        case "StopAsyncIteration":
            raise StopAsyncIteration
        case "SystemExit":
            raise SystemExit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "GeneratorExit":
            raise GeneratorExit
        case "CancelledError":
            raise asyncio.CancelledError("mine")
        case "Odd":
            raise Odd("strange")
        case "TimeoutError":
            raise TimeoutError("of the function")
        case "Unruly":
            raise Unruly("a", "b")
        case _:
            raise AssertionError(name)


class NoReturn:
    """Can be pickled, but not unpickled in the process that `where` says."""

    def __init__(self, where: int | None = None) -> None:
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return (_explode, (self.where,))


def _explode(where: int | None) -> Any:
    import os

    if where is None or where == os.getpid():
        raise ValueError("cannot be made here")
    return NoReturn(where)


def make_unpicklable() -> Any:
    import threading

    return threading.Lock()


def make_no_return(where: int) -> NoReturn:
    return NoReturn(where)


def append_line(path: str, line: str) -> None:
    with Path(path).open("a") as file:
        file.write(line + "\n")
