"""Who is blocked, in a graph where some wait for one of several and others for each of several.

Only the graph: what its vertices stand for is left to `_waits`, how it is shown to `_wait_graph`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

State = Literal["running", "ready", "waiting"]
Kind = Literal["task", "resource", "join"]


class Vertex:
    """A task, a resource, or a join that stands between tasks.

    Attributes:
        targets: what it waits for, or who holds it.
        every: blocked iff one target is; else: blocked iff all of them are.
        certain: nothing but the targets can end the wait.
        claims: holders are certain only if they are inside open blocks of this object, each of
            them inside as many as it holds permits.
    """

    __slots__ = (
        "certain",
        "claims",
        "detail",
        "every",
        "kind",
        "limited",
        "notes",
        "number",
        "object",
        "shield",
        "site",
        "state",
        "targets",
        "title",
    )

    def __init__(self, kind: Kind, what: Any, title: str) -> None:
        self.kind: Kind = kind
        self.object = what
        self.title = title
        self.targets: list[Vertex] = []
        self.every = False
        self.certain = False
        self.claims: dict[Vertex, int] = {}
        # A timer will end the wait, whatever the targets do.
        self.limited = False
        # A cancellation of the waiter does not reach the targets.
        self.shield = False
        self.detail = ""
        self.site = ""
        self.state: State = "ready"
        # Of a task: its place in the order in which the tasks were given.
        self.number = -1
        # Of a holder, by its id: how it came to hold this.
        self.notes: dict[int, str] = {}


def greatest_blocked(vertices: set[Vertex]) -> set[Vertex]:
    """The largest set of which each member waits for members in the way that its kind demands."""
    blocked = set(vertices)
    waiters: dict[Vertex, list[Vertex]] = {}
    for vertex in vertices:
        for target in vertex.targets:
            waiters.setdefault(target, []).append(vertex)
    to_check = list(vertices)
    while to_check:
        vertex = to_check.pop()
        if vertex not in blocked:
            continue
        hit = [target in blocked for target in vertex.targets]
        if not (any(hit) if vertex.every else bool(hit) and all(hit)):
            blocked.discard(vertex)
            to_check += waiters.get(vertex, ())
    return blocked


def closure(start: Iterable[Vertex], follows: dict[Vertex, list[Vertex]]) -> set[Vertex]:
    """The vertices themselves, and all that can be reached from them."""
    found: set[Vertex] = set()
    todo = [*start]
    while todo:
        vertex = todo.pop()
        if vertex not in found:
            found.add(vertex)
            todo += follows.get(vertex, ())
    return found


def joined(vertex: Vertex) -> Iterator[Vertex]:
    """The tasks that a cancellation of a waiter for `vertex` reaches."""
    if vertex.kind == "task":
        yield vertex
    elif vertex.kind == "join" and not vertex.shield:
        for target in vertex.targets:
            yield from joined(target)
