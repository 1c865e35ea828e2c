"""What a suspended task waits for, and who could end that wait.

Every task, lock, join and future becomes a vertex of an AND/OR graph; `blocked` finds those that
nobody in the graph can ever free. It errs on one side only: where it is not certain who may end a
wait, the wait counts as one that will end. How the result is shown is left to `_wait_graph`.
"""

# Who may end a wait is certain for:
#   tasks, and what joins them (gather, wait, task groups, shield, aioconc's joins);
#   an asyncio Lock or Semaphore whose every holder holds it by an open `async with` block. What
#       was acquired by hand may be released by anybody, and often is: `await slots.acquire()` in
#       a producer, `slots.release()` where the work ends;
#   an anyio Lock: only its owner may release it;
#   an object that tells its owners itself, see `HasOwners`.
# It is not for events, conditions, queues, barriers and bare futures: anybody may set them. And a
# task with a deadline in front of it is not blocked: the deadline frees it.

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from aioconc.testing._await_chain import (
    Chain,
    Link,
    await_chain,
    call_site,
    first_argument,
    is_library,
    open_blocks,
    peek,
    variables,
)
from aioconc.testing._known_waits import AROUND, FINAL, INNERMOST, Reader, deadline_ahead
from aioconc.testing._owners import place_of, recorded
from aioconc.testing._vertices import Vertex, closure, greatest_blocked, joined

# Variables of library functions that have a time limit iff they are not None.
_TIMERS = ("timeout", "timeout_handle")

# Modules whose objects do not follow `HasOwners`: not asked, for speed.
_OWNERLESS = ("asyncio.", "aioconc.testing.")


class HasOwners(Protocol):
    """What a primitive tells that records its owners itself; asked if a task waits inside of it.

    A class may say `_wait_for_graph_only_owners_release = True` if nobody else may release it;
    otherwise a wait for it is certain only if every owner is inside `async with` of it.
    """

    def _wait_for_graph_owners(self, method: str) -> "Iterable[asyncio.Task[Any]] | None":
        """The tasks any of which can end a wait; None if anybody might, or if it is not known.

        Args:
            method: name of the coroutine method in which a task waits, such as "acquire".
        """


class Waits:
    """The waits of all unfinished tasks of one loop, read once."""

    def __init__(self, tasks: Iterable["asyncio.Task[Any]"]) -> None:
        self.tasks: dict[int, Vertex] = {}
        self._chains: dict[int, Chain] = {}
        self._others: dict[int, Vertex] = {}
        self._blocks: dict[int, list[Any]] = {}
        self._inside: dict[int, list[Vertex]] | None = None
        self._counts: dict[str, int] = {}
        for number, task in enumerate(tasks):
            vertex = self.tasks[id(task)] = Vertex("task", task, task.get_name())
            vertex.number = number
        for vertex in self.tasks.values():
            self._chains[id(vertex.object)] = await_chain(vertex.object)
        for vertex in self.tasks.values():
            self._read(vertex)

    # ------------------------------------------------------------------ one task

    def _read(self, vertex: Vertex) -> None:
        task = vertex.object
        chain = self._chains[id(task)]
        vertex.site = call_site(chain)
        future = getattr(task, "_fut_waiter", None) if hasattr(task, "_fut_waiter") else chain.end
        if chain.running:
            vertex.state = "running"
        elif future is not None and not future.done() and not getattr(task, "_must_cancel", False):
            vertex.state = "waiting"
            vertex.certain = True
            try:
                target = self._awaited(chain) if chain.end is future else None
                vertex.targets = [self.future(future) if target is None else target]
            except Exception:  # another thread runs this loop, or another version of asyncio
                vertex.targets = [self.resource(future, "Future")]

    def _awaited(self, chain: Chain) -> Vertex | None:
        """What the library's frames at the end of the chain say about the wait."""
        found: tuple[Reader, Link] | None = None
        for depth, link in enumerate(reversed(chain.links)):
            library = is_library(link.frame)
            code = link.frame.f_code
            place = (link.frame.f_globals.get("__name__", ""), code.co_qualname)
            if not place[0].startswith(_OWNERLESS) and (library or depth < 2):
                owner = first_argument(link.frame)
                if hasattr(type(owner), "_wait_for_graph_owners"):
                    return self._told(owner, code.co_name)
            if not library:
                break
            reader = INNERMOST.get(place) if depth == 0 else AROUND.get(place)
            if reader is not None:
                found = reader, link
                if place in FINAL:
                    break
        return None if found is None else found[0](self, found[1])

    # ------------------------------------------------------------------ vertices

    def resource(self, what: Any, title: str | None = None, detail: str = "") -> Vertex:
        """The vertex of a lock, queue, future, ..., which has no known holders yet."""
        vertex = self._others.get(id(what))
        if vertex is None:
            if title is None:
                title = type(what).__name__
                if type(what).__module__.startswith("anyio."):
                    title = f"anyio.{title}"
            number = self._counts[title] = self._counts.get(title, 0) + 1
            vertex = self._others[id(what)] = Vertex("resource", what, f"{title}#{number}")
            vertex.detail = detail
        return vertex

    def join(
        self,
        what: Any,
        title: str,
        futures: Iterable[Any],
        *,
        every: bool,
        limited: bool = False,
        shield: bool = False,
    ) -> Vertex:
        """The vertex of something that ends with the given futures.

        Args:
            every: it needs each of them, even if others fail; else one may end it.
        """
        vertex = self._others[id(what)] = Vertex("join", what, title)
        vertex.targets = [self.future(each) for each in tuple(futures) if not each.done()]
        vertex.targets.sort(key=lambda each: each.number)  # sets of tasks have no order
        vertex.every = every
        vertex.limited = limited
        vertex.shield = shield
        vertex.certain = True
        return vertex

    def future(self, future: Any) -> Vertex:
        """The vertex of a future that is not done."""
        known = self.tasks.get(id(future)) or self._others.get(id(future))
        if known is not None:
            return known
        children = getattr(future, "_children", None)
        if children is not None and type(future).__name__ == "_GatheringFuture":
            every = _gathers_exceptions(future, children)
            return self.join(future, "gather", children, every=every)
        for callback in _callbacks(future):
            name = getattr(callback, "__qualname__", "")
            if name == "shield.<locals>._outer_done_callback":
                inner = _cell(callback, "inner")
                return self.join(future, "shield", [inner], every=True, shield=True)
            if name == "_chain_future.<locals>._call_check_cancel":
                return self.resource(future, "call", "in a thread, a process or an executor")
        return self.resource(future, "Future")

    def lock(self, lock: Any) -> Vertex:
        """An `asyncio.Lock` that somebody waits for."""
        vertex = self.resource(lock)
        if not vertex.targets and lock.locked():
            self._hold(vertex, complete=lambda holds: holds == 1)
        return vertex

    def semaphore(self, semaphore: Any) -> Vertex:
        """An `asyncio.Semaphore` that somebody waits for."""
        vertex = self.resource(semaphore)
        free = getattr(semaphore, "_value", 0)
        vertex.detail = f"{free} free"
        if not vertex.targets and free == 0:
            record = recorded(semaphore)
            bound = getattr(semaphore, "_bound_value", None)
            permits = bound if record is None else record.free_at_start
            self._hold(vertex, complete=lambda holds: holds == permits)
        return vertex

    def _hold(self, vertex: Vertex, *, complete: Callable[[int], bool]) -> None:
        """Find the holders; certain, so far as known, if they are all that there can be."""
        primitive = vertex.object
        record = recorded(primitive)
        holders: list[Vertex] = []
        if record is None or not record.holds:
            holders = [
                each for each in self._insiders(primitive) if not self._gave_up(each, primitive)
            ]
            vertex.certain = complete(len(holders)) and (record is None or not record.shared)
        else:
            lost = 0
            for hold in tuple(record.holds):
                task = None if hold[0] is None else hold[0]()
                holder = None if task is None else self.tasks.get(id(task))
                if holder is None:
                    lost += 1
                elif not self._gave_up(holder, primitive):
                    holders.append(holder)
                    vertex.notes[id(task)] = place_of(hold)
            if lost:
                vertex.detail = ", ".join(
                    filter(
                        None, [vertex.detail, f"{lost} held by what has ended without releasing"]
                    )
                )
            vertex.certain = not record.shared and complete(len(holders))
        for holder in holders:
            vertex.claims[holder] = vertex.claims.get(holder, 0) + 1
        vertex.targets = [*vertex.claims]

    def _told(self, owner: Any, method: str) -> Vertex:
        """An object that knows its owners."""
        vertex = self.resource(owner)
        if not vertex.targets:
            owners = owner._wait_for_graph_owners(method)
            if owners is not None:
                owners = tuple(dict.fromkeys(owners))
                vertex.targets = [self.tasks[id(each)] for each in owners if id(each) in self.tasks]
                vertex.certain = len(vertex.targets) == len(owners)
                if not getattr(owner, "_wait_for_graph_only_owners_release", False):
                    vertex.claims = dict.fromkeys(vertex.targets, 1)
        return vertex

    # ------------------------------------------------------------------ blocks

    def blocks(self, vertex: Vertex) -> list[Any]:
        """The context managers that a task is inside of."""
        key = id(vertex.object)
        if key not in self._blocks:
            try:
                self._blocks[key] = list(open_blocks(self._chains[key]))
            except Exception:  # another thread runs this loop: who knows what is ahead
                self._blocks[key] = []
                vertex.limited = True
        return self._blocks[key]

    def _insiders(self, primitive: Any) -> list[Vertex]:
        """The tasks inside of `async with` of the primitive, once for each block."""
        if self._inside is None:
            self._inside = {}
            for vertex in self.tasks.values():
                for block in self.blocks(vertex):
                    self._inside.setdefault(id(_primitive_of(block)), []).append(vertex)
        return self._inside.get(id(primitive), [])

    def _gave_up(self, vertex: Vertex, primitive: Any) -> bool:
        """Whether the task waits in `Condition.wait`, which has released the condition's lock."""
        for link in self._chains[id(vertex.object)].links:
            if link.frame.f_code.co_qualname == "Condition.wait" and is_library(link.frame):
                if _primitive_of(first_argument(link.frame)) is primitive:
                    return True
        return False

    # ------------------------------------------------------------------ what is blocked

    def forget(self) -> None:
        """Let go of tasks, frames and locks at once: vertices refer to one another in circles."""
        for vertex in self.vertices():
            vertex.targets.clear()
            vertex.claims.clear()
            vertex.object = None
        self.tasks.clear()
        self._others.clear()
        self._chains.clear()
        self._blocks.clear()
        self._inside = None

    def vertices(self) -> list[Vertex]:
        """Every vertex: the tasks in the order in which they were given, then the others."""
        return [*self.tasks.values(), *self._others.values()]

    def blocked(self, timers: Iterable[Any] = ()) -> tuple[set[Vertex], set[Vertex]]:
        """The vertices that likely, and those that certainly, only a cancellation can free.

        Likely: if only the known holders of a lock release it, and no deadline helps.

        Args:
            timers: the loop's timer handles, where it shows them.
        """
        # The first looks are cheap. They take every claim as proved and overlook deadlines.
        likely = greatest_blocked(set(self.vertices()))
        certain = greatest_blocked({each for each in likely if each.certain})
        if certain:
            self._mark_limited(certain, timers)
            certain = greatest_blocked(
                {each for each in certain if not each.limited and self._is_proved(each)}
            )
        return likely, certain

    def _is_proved(self, vertex: Vertex) -> bool:
        return all(
            sum(_primitive_of(block) is vertex.object for block in self.blocks(holder)) >= permits
            for holder, permits in vertex.claims.items()
        )

    def _mark_limited(self, suspects: set[Vertex], timers: Iterable[Any]) -> None:
        """Mark the tasks that a deadline will cancel: their own, or that of whoever joins them."""
        parents = self._parents()
        family = closure((each for each in suspects if each.kind == "task"), parents)
        timed = {id(_acts_on(getattr(timer, "_callback", None))) for timer in timers} - {id(None)}
        children: dict[Vertex, list[Vertex]] = {}
        for vertex in family:
            for parent in parents.get(vertex, ()):
                children.setdefault(parent, []).append(vertex)
        own = [
            vertex
            for vertex in family
            if self._has_deadline(vertex)
            or not timed.isdisjoint(map(id, (vertex.object, *self.blocks(vertex))))
        ]
        for vertex in closure(own, children):
            vertex.limited = True

    def _parents(self) -> dict[Vertex, list[Vertex]]:
        """For a task, those who hand their own cancellation on to it."""
        parents: dict[Vertex, list[Vertex]] = {}
        for vertex in self.tasks.values():
            for target in vertex.targets:
                for task in joined(target):
                    parents.setdefault(task, []).append(vertex)
            for block in self.blocks(vertex):
                for child in _children_of(block):
                    if id(child) in self.tasks:
                        parents.setdefault(self.tasks[id(child)], []).append(vertex)
        return parents

    def _has_deadline(self, vertex: Vertex) -> bool:
        if any(target.limited and target.kind == "join" for target in vertex.targets):
            return True
        if any(deadline_ahead(block) for block in self.blocks(vertex)):
            return True
        # Library calls that keep a timer of their own: aioconc's maps and executors, wait_for.
        for link in self._chains[id(vertex.object)].links:
            if is_library(link.frame):
                own = peek(first_argument(link.frame), "_timeout")
                if any(each is not None for each in (own, *variables(link.frame, *_TIMERS))):
                    return True
        return False


def _primitive_of(block: Any) -> Any:
    """The lock inside a Condition or an anyio adapter; anything else as it is."""
    name = "_lock" if isinstance(block, asyncio.Condition) else "_internal_lock"
    inner = peek(block, name)
    return block if inner is None else inner


def _children_of(block: Any) -> Iterator[Any]:
    """The tasks that are cancelled if a cancellation leaves this block."""
    for group in (block, peek(block, "_group")):  # a Supervisor has a group
        for name in ("_tasks", "_background"):
            tasks = peek(group, name)
            if isinstance(tasks, (set, list, tuple)):
                yield from tuple(tasks)
    running = peek(peek(peek(block, "_stream"), "_window"), "_running")  # a MapRun
    if running is not None:
        yield from running()


def _acts_on(callback: Any) -> Any:
    """The object that a timer's callback is a method of."""
    return getattr(getattr(callback, "func", callback), "__self__", None)


def _callbacks(future: Any) -> list[Any]:
    return [entry[0] for entry in getattr(future, "_callbacks", None) or ()]


def _cell(function: Any, name: str) -> Any:
    """The value of a variable that a nested function has from its surroundings."""
    return function.__closure__[function.__code__.co_freevars.index(name)].cell_contents


def _gathers_exceptions(outer: Any, children: Iterable[Any]) -> bool:
    """Whether this gather was told `return_exceptions=True`, and so waits for all."""
    told = [
        _cell(callback, "return_exceptions")
        for child in children
        for callback in _callbacks(child)
        if getattr(callback, "__qualname__", "") == "gather.<locals>._done_callback"
        and _cell(callback, "outer") is outer
    ]
    return True in told
