"""The one fair, cancellable queue of waiters under every primitive: tasks of any loop, and threads.

It guarantees that waiters are served in the order in which they came, and that what was granted to
a waiter who is cancelled, or whose loop is closed, is passed on and never lost. What is granted,
and when, is left to each primitive.
"""

# A waiter:      waiting --grant--> granted --it goes on--> taken
#                   |                  |
#                   '--- gives up      '--- gives up: `_undo`, the next one is granted
#
# Rule 1: all state of a primitive and of its waiters is changed with its `_mutex` held, in one
#         plain method, and never across an await.
# Rule 2: a grant is made under the mutex and is final: the waiter has the lock, the permit, the
#         place. Waking it comes after, outside of the mutex, and may come late or fail.
# Rule 3: a waiter is in its queue iff it is waiting. It gives up at any time, in any of the two
#         states, also between its wake-up and its next step: `_take_back` decides which it was.
# Rule 4: nothing that may run code of others is done under the mutex. It cannot be entered twice:
#         primitives are not for use in `__del__` or in handlers of `signal.signal`, as with
#         `queue.Queue`; handlers of `loop.add_signal_handler` are fine.

import _thread
import asyncio
import threading
from asyncio import InvalidStateError, _get_running_loop, get_running_loop
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat, starmap
from typing import Any, Final

from aioconc._bridge._errand import run_errand
from aioconc._bridge._mailbox import mailbox_of
from aioconc._internal._check import check_timeout
from aioconc.sync._home import home

# The event loop of this thread, or None.
running_loop = _get_running_loop

# Who holds or wants something: a task, or a thread.
Owner = Any


class Waiter:
    """One task or thread that waits; made outside of the mutex."""

    __slots__ = ("granted", "owner", "queue", "value", "waiting")

    def __init__(self, queue: "WaitQueue", owner: Owner = None) -> None:
        self.queue: Final = queue
        # Who is to own what is granted, where that matters.
        self.owner = owner
        # What the granter has to say, where there is something.
        self.value: Any = None
        # True from the grant until it was taken back. Not changed when the waiter goes on; but a
        # queue, where more is done then, clears it once that is done.
        self.granted = False
        # True iff it is in its queue, and was neither granted nor withdrawn.
        self.waiting = False

    def wake(self) -> bool:
        """Have it go on; False if it never will, since its loop is closed."""
        raise NotImplementedError


class TaskWaiter(Waiter):
    """A task of the running loop."""

    __slots__ = ("future", "loop")

    def __init__(self, queue: "WaitQueue", owner: Owner = None) -> None:
        self.queue = queue  # type: ignore[misc]  # written out: half of the costs of a waiter
        self.owner = owner
        self.value = None
        self.granted = self.waiting = False
        self.loop = loop = get_running_loop()
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        if running_loop() is not self.loop:
            return mailbox_of(self.loop).post(self.loop, self._go_on)
        try:  # rather than ask first: here it is nearly never cancelled
            self.future.set_result(None)
        except InvalidStateError:
            pass
        return True

    def _go_on(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class ThreadWaiter(Waiter):
    """A thread that blocks."""

    __slots__ = ("gate",)

    def __init__(self, queue: "WaitQueue", owner: Owner = None) -> None:
        self.queue = queue  # type: ignore[misc]  # as in `TaskWaiter`
        self.owner = owner
        self.value = None
        self.granted = self.waiting = False
        self.gate = _thread.allocate_lock()
        self.gate.acquire()

    def wake(self) -> bool:
        self.gate.release()
        return True


class WaitQueue(deque[Waiter]):
    """Those who wait for one thing, first come first. It is true iff somebody waits.

    Who withdraws is passed over later, so that taking the first and withdrawing any other cost the
    same for one waiter and for a hundred thousand. An ordered dictionary does that too, and costs a
    hand-over of a lock five percent.
    """

    # Rule: the first one waits, and at least half of all whenever one has withdrawn.
    __slots__ = ("_withdrawn",)

    def __init__(self) -> None:
        super().__init__()
        # How many in it do not wait any more.
        self._withdrawn = 0

    def count_waiting(self) -> int:
        """How many wait; `len` counts withdrawn ones too, since `bool`, asked all day, asks it."""
        return len(self) - self._withdrawn

    def __iter__(self) -> Iterator[Waiter]:
        return (waiter for waiter in super().__iter__() if waiter.waiting)

    def add(self, waiter: Waiter) -> None:
        """The waiter is last in the queue now."""
        waiter.waiting = True
        self.append(waiter)

    def withdraw(self, waiter: Waiter) -> None:
        """The waiter does not wait any more, if it did."""
        if not waiter.waiting:
            return
        waiter.waiting = False
        self._withdrawn += 1
        if self[0] is waiter:
            self._pass_over()
        if 2 * self._withdrawn > len(self):
            waiters = tuple(self)
            self.clear()
            self.extend(waiters)
            self._withdrawn = 0

    def grant(self, value: Any = None) -> Waiter:
        """Grant the first one; who calls it wakes that one once the mutex is released."""
        waiter = self[0]
        del self[0]  # no call, after which KeyboardInterrupt would lose the waiter
        waiter.waiting = False
        waiter.value = value
        waiter.granted = True
        if self._withdrawn:
            self._pass_over()
        return waiter

    def grant_all(self, value: Any = None) -> "Sequence[Waiter]":
        """Grant everyone."""
        waiters = tuple(self)
        self.clear()
        self._withdrawn = 0
        for waiter in waiters:
            waiter.waiting = False
            waiter.value = value
            waiter.granted = True
        return waiters

    def _pass_over(self) -> None:
        while self and not self[0].waiting:
            self.popleft()
            self._withdrawn -= 1


class Waitable:
    """What every primitive has: the mutex, and how a task and a thread wait."""

    __slots__ = ("__weakref__", "_entry", "_home", "_mutex")

    def __init__(self) -> None:
        self._mutex = mutex = _thread.allocate_lock()
        # Each step of it acquires the mutex. So
        #     for _ in self._entry:
        #         try: ...
        #         finally: self._mutex.release()
        #         break
        # is `with self._mutex: ...` at half of the costs, for what programs do all day. As with
        # `with`, and not with a call of `acquire`, no KeyboardInterrupt comes between the two.
        self._entry: Iterator[bool] = starmap(mutex.acquire, repeat(()))
        self._home = home()

    async def _wait(self, waiter: TaskWaiter) -> None:
        """Until granted. If cancelled, the place or the grant is given up."""
        try:
            await waiter.future
        except BaseException:
            self._give_up(waiter)
            raise

    def _park(self, waiter: ThreadWaiter, timeout: float | None) -> bool:
        """Block the thread until granted, or give up: False if the time was over before."""
        try:
            # A grant may come after the time is up; who gives up then takes it all the same.
            if timeout is None:
                return waiter.gate.acquire()
            if waiter.gate.acquire(timeout=seconds_to_park(timeout)):
                return True
        except BaseException:  # KeyboardInterrupt
            self._give_up(waiter)
            raise
        with self._mutex:
            if waiter.granted:
                return True
            woken = self._take_back(waiter)
        self._wake(woken)
        return False

    def _give_up(self, waiter: Waiter) -> None:
        # A coroutine whose loop was closed under it ends when it is collected, at any line: also at
        # one that has the mutex.
        if (
            isinstance(waiter, TaskWaiter)
            and waiter.loop is not running_loop()
            and self._mutex.locked()
        ):
            run_errand(self._give_up_now, waiter)
        else:
            self._give_up_now(waiter)

    def _give_up_now(self, waiter: Waiter) -> None:
        with self._mutex:
            woken = self._take_back(waiter)
        self._wake(woken)

    def _take_back(self, waiter: Waiter) -> Iterable[Waiter]:
        """With the mutex: the waiter will not go on. Who has been granted something instead."""
        if waiter.granted:
            waiter.granted = False
            return self._undo(waiter)
        waiter.queue.withdraw(waiter)
        woken = self._left(waiter)
        waiter.owner = None  # a task with its result; the queue may pass over the waiter much later
        return woken

    def _undo(self, waiter: Waiter) -> Iterable[Waiter]:
        """With the mutex: take back what was granted and grant it to others, who are returned."""
        return ()

    def _left(self, waiter: Waiter) -> Iterable[Waiter]:
        """With the mutex: a waiter has left the queue without a grant."""
        return ()

    def _wake(self, waiters: Iterable[Waiter]) -> None:
        """Without the mutex: have those who were granted something go on.

        Where a loop was closed under its waiter, the grant goes to the next; the caller never
        hears of it.
        """
        while waiters:
            instead: list[Waiter] = []
            for waiter in waiters:
                if not waiter.wake():
                    with self._mutex:
                        instead += self._take_back(waiter)
            waiters = instead

    def _wait_for_graph_owners(self, method: str) -> "Iterable[asyncio.Task[Any]] | None":
        """For `aioconc.testing.wait_graph`: not known, unless a primitive says so."""
        return None


@dataclass(frozen=True)
class WaitStatistics:
    """How many wait.

    Attributes:
        tasks_waiting: tasks that wait, of all event loops.
        threads_waiting: threads that wait.
    """

    tasks_waiting: int
    threads_waiting: int


def waiting(*queues: WaitQueue) -> tuple[int, int]:
    """How many tasks and how many threads wait; with the mutex."""
    tasks = sum(isinstance(waiter, TaskWaiter) for queue in queues for waiter in queue)
    return tasks, sum(queue.count_waiting() for queue in queues) - tasks


def me() -> Owner:
    """The running task, or the thread where there is no event loop."""
    if running_loop() is None:
        return threading.current_thread()
    return asyncio.current_task() or threading.current_thread()


def name_of(owner: Owner) -> str:
    """The owner, for people."""
    if isinstance(owner, threading.Thread):
        return f"thread {owner.name!r}"
    get_name = getattr(owner, "get_name", None)
    return repr(owner) if get_name is None else f"task {get_name()!r}"


def tasks_among(owners: Iterable[Owner]) -> "list[asyncio.Task[Any]] | None":
    """The owners, if all of them are tasks: what the wait graph can follow."""
    owners = list(owners)
    if not owners or any(not isinstance(owner, asyncio.Future) for owner in owners):
        return None
    return owners


def check_blocking(call: str, instead: str) -> None:
    """Refuse to block the thread of a running event loop."""
    if running_loop() is not None:
        raise RuntimeError(
            f"{call} would block the event loop that runs in this thread; write `{instead}`"
        )


def seconds_to_park(timeout: float | None) -> float:
    """As `acquire` of a lock wants it: -1 for no limit."""
    return -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)


def check_wait(timeout: float | None) -> float | None:
    """A timeout of the blocking face."""
    return check_timeout("timeout", timeout)
