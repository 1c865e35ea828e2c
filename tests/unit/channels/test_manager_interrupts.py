"""Ctrl+C at every line of a call that blocks: nothing is held by nobody, and the next call works."""

import asyncio
import linecache
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import aioconc.channels
from aioconc.channels import Manager, open_manager
from aioconc.channels._manager._remote_client import RemoteClient

pytestmark = pytest.mark.loops("asyncio")

SOURCES = aioconc.channels.__path__[0]


class Interrupt:
    """Raises KeyboardInterrupt in this thread, at the line of that number since the first question."""

    def __init__(self, line: int) -> None:
        self.left = line
        self.at = ""
        self.counts = False

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        source = frame.f_code.co_filename
        if not source.startswith(SOURCES):
            return None
        self.counts = self.counts or frame.f_code.co_name == "block"
        text = linecache.getline(source, frame.f_lineno).strip()
        # The line of a `with` is passed again on its way out, where no interrupt is seen.
        if self.counts and event == "line" and not (text.startswith("with ") and "_mutex" in text):
            self.left -= 1
            if self.left == 0:
                self.at = f"{source}:{frame.f_lineno}: {text}"
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


class Process:
    """As another process has the objects of a manager; here it is in this one."""

    def __init__(self, manager: Manager) -> None:
        self.client = RemoteClient(manager._client.new_end(), manager._client.token)

    def has(self, shared: Any) -> Any:
        return type(shared)(self.client, shared._number, *shared._options()).sync

    def end(self) -> None:
        with self.client._mutex:
            woken = self.client._close()
        self.client._wake(woken)


# What is interrupted, and what is looked at afterwards. Both are given the object as the
# interrupted process has it, and as another one has it.
Do = Callable[[Any, Any], object]


def interrupted(manager: Manager, shared: Any, line: int, do: Do, check: Do) -> bool:
    """Whether there was such a line."""
    one, other = Process(manager), Process(manager)
    interrupt = Interrupt(line)
    mine, theirs = one.has(shared), other.has(shared)
    try:
        mine.statistics()  # the connection is in use
        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            do(mine, theirs)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        try:
            check(mine, theirs)
        except Exception as error:
            raise AssertionError(f"interrupted at line {line}, {interrupt.at}") from error
        return bool(interrupt.at)
    finally:
        one.end()
        other.end()


def until(is_so: Callable[[], bool]) -> None:
    """What two processes say to the broker comes in any order."""
    end = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.0001)


def look_at_lock(mine: Any, theirs: Any) -> None:
    if mine._shared._note().ask is not None:
        mine.release()
    for each in (theirs, mine):
        assert each.acquire(timeout=5), "nobody holds it, and it is not free"
        each.release()


def look_at_semaphore(mine: Any, theirs: Any) -> None:
    if mine._shared._note().taken:
        mine.release()
    for each in (theirs, mine):
        assert each.acquire(timeout=5)
        each.release()
    until(lambda: theirs.statistics().permits_free == 1)


def look_at_queue(mine: Any, theirs: Any) -> None:
    until(lambda: theirs.statistics().used == theirs.statistics().items)
    if not theirs.statistics().items:
        theirs.put("another", timeout=5)
    assert mine.get(timeout=5)
    mine.put("last", timeout=5)
    assert theirs.get(timeout=5)


def take_and_release(mine: Any, theirs: Any) -> None:
    mine.acquire()
    mine.release()


def try_to_take(mine: Any, theirs: Any) -> None:
    mine.acquire(timeout=0)


def put_and_get(mine: Any, theirs: Any) -> None:
    mine.put("item")
    mine.get(timeout=5)


def put_in_time(mine: Any, theirs: Any) -> None:
    mine.put("item", timeout=5)


def put_many(mine: Any, theirs: Any) -> None:
    mine.put_many(["item"])


CASES: "dict[str, tuple[Callable[[Manager], Any], Do, Do]]" = {
    "lock": (Manager.Lock, take_and_release, look_at_lock),
    "lock-now": (Manager.Lock, try_to_take, look_at_lock),
    "rlock": (Manager.RLock, take_and_release, look_at_lock),
    "semaphore": (Manager.Semaphore, take_and_release, look_at_semaphore),
    "queue": (lambda manager: manager.Queue(1), put_and_get, look_at_queue),
    "queue-in-time": (lambda manager: manager.Queue(1), put_in_time, look_at_queue),
    "queue-many": (lambda manager: manager.Queue(1), put_many, look_at_queue),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
async def test_an_interrupt_at_any_line_leaves_nothing_behind(case: str) -> None:
    """A process that catches it, and goes on, finds all as if it had not asked, or had been answered."""
    make, do, check = CASES[case]
    async with open_manager() as manager:
        line = 1
        while await asyncio.to_thread(interrupted, manager, make(manager), line, do, check):
            line += 1
        assert line > 50


@pytest.mark.slow
async def test_an_interrupt_while_it_waits_for_a_condition_takes_the_lock_again() -> None:
    """Wherever it comes from the question on, the lock is held when `wait` ends, or free."""

    def wait(mine: Any, theirs: Any) -> None:
        trace = sys.gettrace()
        sys.settrace(None)
        mine.acquire()
        sys.settrace(trace)
        mine.wait(timeout=0)

    def check(mine: Any, theirs: Any) -> None:
        if mine._shared._lock._note().ask is not None:
            mine.release()
        assert theirs.acquire(timeout=5)
        theirs.release()

    async with open_manager() as manager:
        line = 1
        while await asyncio.to_thread(interrupted, manager, manager.Condition(), line, wait, check):
            line += 1
        assert line > 100
