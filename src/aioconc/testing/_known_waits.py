"""What the frames of asyncio, anyio and aioconc say about a wait: for which lock, queue or join.

One small reader for each function that waits, in tables by module and function. A function that is
not in them makes a bare future of the wait, about which nothing is claimed.
"""

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aioconc.testing._await_chain import Link, first_argument, peek, variables
from aioconc.testing._vertices import Vertex

if TYPE_CHECKING:
    from aioconc.testing._waits import Waits

Reader = Callable[["Waits", Link], Vertex | None]


def _lock(waits: "Waits", link: Link) -> Vertex:
    return waits.lock(first_argument(link.frame))


def _semaphore(waits: "Waits", link: Link) -> Vertex:
    return waits.semaphore(first_argument(link.frame))


def _plain(detail: str) -> Callable[["Waits", Link], Vertex]:
    """A resource that anybody may set."""

    def read(waits: "Waits", link: Link) -> Vertex:
        return waits.resource(first_argument(link.frame), None, detail)

    return read


def _sleep(waits: "Waits", link: Link) -> Vertex:
    vertex = waits.resource(link.awaitable, "sleep")
    timer = variables(link.frame, "h")[0]
    vertex.detail = f"until loop time {timer.when():.6g}"
    return vertex


def _group(waits: "Waits", link: Link) -> Vertex:
    # A child that fails makes the group cancel the others, so any of them may end it; once the
    # group is shutting down it needs every one.
    group = first_argument(link.frame)
    children = (*group._tasks, *getattr(group, "_background", ()))
    scope = getattr(group, "cancel_scope", None)  # anyio's
    stopping = getattr(group, "_aborting", False) or getattr(scope, "cancel_called", False)
    return waits.join(
        link.awaitable, "TaskGroup", children, every=stopping, limited=deadline_ahead(group)
    )


def _spawn(waits: "Waits", link: Link) -> Vertex:
    group = first_argument(link.frame)
    return waits.join(link.awaitable, "a slot of TaskGroup", group._tasks, every=False, shield=True)


def _wait(waits: "Waits", link: Link) -> Vertex:
    futures, handle, when = variables(link.frame, "fs", "timeout_handle", "return_when")
    return waits.join(
        link.awaitable,
        "asyncio.wait",
        futures,
        every=when == asyncio.ALL_COMPLETED,
        limited=handle is not None,
    )


def _one_future(title: str, *, shield: bool = False) -> Callable[["Waits", Link], Vertex | None]:
    """A wait for a future that the frame calls `fut` or `future`."""

    def read(waits: "Waits", link: Link) -> Vertex | None:
        fut, future, handle = variables(link.frame, "fut", "future", "timeout_handle")
        future = fut if future is None else future
        if not asyncio.isfuture(future):
            return None
        return waits.join(
            link.awaitable, title, [future], every=True, limited=handle is not None, shield=shield
        )

    return read


def _join(waits: "Waits", link: Link) -> Vertex:
    # It waits for one after the other, but one that ends may make the owner cancel the rest.
    futures = variables(link.frame, "futures")[0]
    return waits.join(link.awaitable, "join", futures, every=False)


def _window(waits: "Waits", link: Link) -> Vertex | None:
    window = first_argument(link.frame)
    window = getattr(window, "_window", window)
    return waits.join(link.awaitable, "map", window._running(), every=False)


def _supervisor(waits: "Waits", link: Link) -> Vertex:
    children = first_argument(link.frame)._children
    tasks = [child._task for child in children if child._task is not None]
    return waits.join(link.awaitable, "Supervisor", tasks, every=False)


def _completed(waits: "Waits", link: Link) -> Vertex | None:
    owner = first_argument(link.frame)  # since 3.13
    if owner is None:
        return waits.resource(link.awaitable, "as_completed")
    limited = owner._timeout_handle is not None
    return waits.join(link.awaitable, "as_completed", owner._todo, every=False, limited=limited)


def _anyio_lock(waits: "Waits", link: Link) -> Vertex:
    lock = first_argument(link.frame)
    vertex = waits.resource(lock)
    owner = waits.tasks.get(id(lock._owner_task))
    vertex.targets = [] if owner is None else [owner]
    vertex.certain = True
    return vertex


def _anyio_limiter(waits: "Waits", link: Link) -> Vertex:
    limiter = first_argument(link.frame)
    vertex = waits.resource(limiter, None, f"{limiter.available_tokens} free")
    if not vertex.targets and limiter.available_tokens <= 0:
        borrowers = tuple(limiter._borrowers)
        vertex.targets = [waits.tasks[id(each)] for each in borrowers if id(each) in waits.tasks]
        vertex.certain = len(vertex.targets) == len(borrowers)
        vertex.claims = dict.fromkeys(vertex.targets, 1)
    return vertex


def deadline_ahead(block: Any) -> bool:
    """Whether leaving this block is only a matter of time."""
    if isinstance(block, asyncio.Timeout):
        return block.when() is not None and not block.expired()
    # aioconc's and anyio's groups keep their scope; async_timeout has a deadline of its own.
    for scope in (block, peek(block, "_scope"), peek(block, "cancel_scope")):
        deadline = peek(scope, "deadline")
        if isinstance(deadline, (int, float)) and deadline != math.inf:
            return not peek(scope, "cancel_called")
    return False


_ANYIO = "anyio._backends._asyncio"

# The frame that awaits the future itself.
INNERMOST: dict[tuple[str, str], Reader] = {
    ("asyncio.locks", "Lock.acquire"): _lock,
    ("asyncio.locks", "Semaphore.acquire"): _semaphore,
    ("asyncio.locks", "Event.wait"): _plain("to be set"),
    ("asyncio.locks", "Condition.wait"): _plain("to be notified"),
    ("asyncio.queues", "Queue.get"): _plain("get: it is empty"),
    ("asyncio.queues", "Queue.put"): _plain("put: it is full"),
    ("asyncio.tasks", "sleep"): _sleep,
    ("asyncio.tasks", "_wait"): _wait,
    ("asyncio.tasks", "wait_for"): _one_future("wait_for"),
    ("asyncio.tasks", "_cancel_and_wait"): _one_future("wait_for"),
    ("asyncio.taskgroups", "TaskGroup.__aexit__"): _group,
    ("aioconc.tasks._join", "wait_done"): _one_future("join", shield=True),
    ("aioconc.tasks._group", "TaskGroup._join_children"): _group,
    ("aioconc.tasks._group", "TaskGroup.spawn"): _spawn,
    ("aioconc.tasks._supervisor", "Supervisor._supervise"): _supervisor,
    ("aioconc.flow._sinks", "Stream._wait"): _window,
    (_ANYIO, "TaskGroup.__aexit__"): _group,
    (_ANYIO, "Lock.acquire"): _anyio_lock,
}

# These tell which resource it is, whatever waits around them: `Condition.wait` that re-acquires,
# `Barrier.wait` that enters.
FINAL = {
    ("asyncio.locks", "Lock.acquire"),
    ("asyncio.locks", "Semaphore.acquire"),
    (_ANYIO, "Lock.acquire"),
}

# A frame around it that knows better.
AROUND: dict[tuple[str, str], Reader] = {
    ("asyncio.queues", "Queue.join"): _plain("join: it has unfinished items"),
    ("asyncio.locks", "Barrier.wait"): _plain("for the others to come"),
    ("asyncio.tasks", "as_completed.<locals>._wait_for_one"): _completed,
    ("asyncio.tasks", "_AsCompletedIterator._wait_for_one"): _completed,
    ("aioconc.tasks._join", "join"): _join,
    ("aioconc.flow._window", "Window.finish"): _window,
    (_ANYIO, "CapacityLimiter.acquire_on_behalf_of"): _anyio_limiter,
}
