"""Who waits for whom among the unfinished tasks of an event loop, as a value and as a text.

`wait_graph` may be called anywhere: in a task, between two steps of the loop, in another thread.
A circle that it reports is certain: none of its members can go on unless somebody cancels it.
Where a lock's holders are not known for sure, or a deadline will help, there is no circle.
"""

import asyncio
import re
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Literal

from aioconc.testing._vertices import Vertex
from aioconc.testing._waits import Waits

# More tasks than a person will read.
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Node:
    """A task, or something that tasks wait for.

    Attributes:
        kind: "task", or "resource" (a lock, an event, a queue, a bare future, ...).
        name: the task's name; a resource's class with a number, such as "Lock#1".
        ident: `id()` of the object.
        state: of a task: "running" (just now), "ready" (will run), "waiting".
        site: of a task: `file:line in function` of the await it is at, in the user's code.
        detail: what else is known, such as "put: it is full".
    """

    kind: Literal["task", "resource"]
    name: str
    ident: int
    state: Literal["running", "ready", "waiting", ""] = ""
    site: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` cannot go on before `target` has acted.

    Attributes:
        label: "waits for" (task to resource), "held by" (resource to task), "awaits" (task to
            task).
        via: what joins the tasks, such as "gather"; of "held by": where it was acquired.
        certain: nobody else can end the wait, so far as the edge alone tells: one of several
            holders may be enough.
    """

    source: Node
    target: Node
    label: Literal["waits for", "held by", "awaits"]
    via: str = ""
    certain: bool = False

    def __str__(self) -> str:
        return f"{self.source} {self.label} {self.target}"


@dataclass(frozen=True)
class WaitGraph:
    """Who waits for whom; `str()` of it is for people.

    Attributes:
        nodes: the tasks by name, then what they wait for.
        edges: who waits for whom.
        cycle: the circle that only a cancellation can break, each node waiting for the next and
            the last one for the first; empty if there is none.
        knot: all that are as entangled as the circle: itself, and what it is tied to.
        likely_cycle: a circle if locks are released only by those who hold them, and deadlines
            are left aside. Equals `cycle` where that is not empty.

    Example:
        >>> async def main():
        ...     async with asyncio.Lock() as lock:
        ...         pass
        ...     return str(wait_graph())
        >>> print(asyncio.run(main(), debug=False).splitlines()[0])
        1 unfinished task, 0 waiting
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    cycle: tuple[Node, ...] = ()
    knot: tuple[Node, ...] = field(default=(), repr=False)
    likely_cycle: tuple[Node, ...] = field(default=(), repr=False)

    @property
    def tasks(self) -> tuple[Node, ...]:
        """The unfinished tasks, by name."""
        return tuple(node for node in self.nodes if node.kind == "task")

    @property
    def tasks_waiting(self) -> int:
        """How many tasks wait for something."""
        return sum(node.state == "waiting" for node in self.nodes)

    def __str__(self) -> str:
        lines = [f"{_count(len(self.tasks), 'unfinished task')}, {self.tasks_waiting} waiting"]
        if self.cycle:
            lines.append(f"circle: {describe_circle(self.cycle)}")
        elif self.likely_cycle:
            lines.append(f"likely circle: {describe_circle(self.likely_cycle)}")
        lines += describe_tasks(self)
        return "\n".join(lines)

    def edges_from(self, node: Node) -> tuple[Edge, ...]:
        """What a task waits for, or who holds a resource."""
        return self._by_source.get(node, ())

    @cached_property
    def _by_source(self) -> dict[Node, tuple[Edge, ...]]:
        return {
            node: tuple(edges) for node, edges in groupby(self.edges, key=lambda each: each.source)
        }


def wait_graph(loop: asyncio.AbstractEventLoop | None = None) -> WaitGraph:
    """Who waits for whom among the unfinished tasks of a loop.

    Args:
        loop: default: the running one.

    Returns:
        A picture of this moment; it holds no task and no lock. Of another thread's loop it may
        mix two moments.

    Raises:
        RuntimeError: no loop was given and none runs here.

    Example:
        >>> async def main():
        ...     ready = asyncio.Event()
        ...     waiter = asyncio.create_task(ready.wait(), name="waiter")
        ...     await asyncio.sleep(0)
        ...     edges = [str(edge) for edge in wait_graph().edges]
        ...     ready.set()
        ...     await waiter
        ...     return edges
        >>> asyncio.run(main())
        ['waiter waits for Event#1']
    """
    if loop is None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("no event loop runs here; give one: wait_graph(loop)") from None
    waits = Waits(sorted(asyncio.all_tasks(loop), key=_by_name))
    try:
        return _draw(waits, tuple(getattr(loop, "_scheduled", ())))
    finally:
        waits.forget()


def cycle_key(graph: WaitGraph) -> Hashable:
    """What stays equal from one graph to the next while the same tasks are entangled.

    Returns:
        None for a graph without a circle. Another key if more tasks have become entangled.
    """
    return frozenset((node.kind, node.ident) for node in graph.knot) or None


def _by_name(task: "asyncio.Task[object]") -> list[tuple[int, str]]:
    """Order by name, with the numbers in it as numbers: Task-2 before Task-10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", task.get_name())
    ]


# ---------------------------------------------------------------------- from vertices to nodes


def _draw(waits: Waits, timers: Iterable[object]) -> WaitGraph:
    likely, blocked = waits.blocked(timers)
    nodes: dict[Vertex, Node] = {}
    names: dict[str, int] = {}
    for vertex in waits.vertices():
        kind = vertex.kind
        if kind == "join":
            continue
        count = names[vertex.title] = names.get(vertex.title, 0) + 1
        name = vertex.title if count == 1 else f"{vertex.title} ({count})"
        state = vertex.state if vertex.kind == "task" else ""
        nodes[vertex] = Node(kind, name, id(vertex.object), state, vertex.site, vertex.detail)
    edges: list[Edge] = []
    for vertex, node in nodes.items():
        for target, via, certain in _beyond_joins(vertex):
            label: Literal["waits for", "held by", "awaits"] = "held by"
            if vertex.kind == "task":
                label = "awaits" if target.kind == "task" else "waits for"
            else:
                via = vertex.notes.get(id(target.object), "")
            edges.append(Edge(node, nodes[target], label, via, certain))
    knot, cycle = _circle(waits, blocked)
    _, likely_cycle = (knot, cycle) if cycle else _circle(waits, likely)
    return WaitGraph(
        nodes=tuple(nodes.values()),
        edges=tuple(edges),
        cycle=tuple(nodes[each] for each in cycle if each in nodes),
        knot=tuple(nodes[each] for each in knot if each in nodes),
        likely_cycle=tuple(nodes[each] for each in likely_cycle if each in nodes),
    )


def _beyond_joins(vertex: Vertex) -> list[tuple[Vertex, str, bool]]:
    """What a vertex waits for, with the joins in between named instead of shown."""
    found: dict[Vertex, tuple[str, bool]] = {}
    todo = [(target, "", vertex.certain) for target in reversed(vertex.targets)]
    while todo:
        target, via, certain = todo.pop()
        if target.kind != "join":
            found.setdefault(target, (via, certain))
        else:
            via = ", ".join(filter(None, [via, target.title]))
            certain = certain and target.certain
            todo += [(each, via, certain) for each in reversed(target.targets)]
    return [(target, via, certain) for target, (via, certain) in found.items()]


def _circle(waits: Waits, blocked: set[Vertex]) -> tuple[list[Vertex], list[Vertex]]:
    """A strongly connected set that nothing leaves, and a shortest circle in it."""
    order = [vertex for vertex in waits.vertices() if vertex in blocked]
    follows = {vertex: [each for each in vertex.targets if each in blocked] for vertex in order}
    # Each blocked vertex waits for another one, so a set that nothing leaves has a circle; and
    # that goes through a task, since locks and joins wait for tasks only.
    start = next((vertex for vertex in order if vertex.kind == "task"), None)
    if start is None:
        return [], []
    met = _closed_set(start, follows)
    knot = [vertex for vertex in order if vertex in met]
    return knot, _shortest(knot[0], follows)


def _closed_set(start: Vertex, follows: dict[Vertex, list[Vertex]]) -> set[Vertex]:
    """The first strongly connected set that a search from `start` ends; Tarjan's algorithm."""
    index = {start: 0}
    lowest = {start: 0}
    path = [start]  # every vertex met: none has been left before the first set is complete
    todo = [(start, iter(follows[start]))]
    while True:
        vertex, targets = todo[-1]
        for target in targets:
            if target not in index:
                index[target] = lowest[target] = len(path)
                path.append(target)
                todo.append((target, iter(follows[target])))
                break
            lowest[vertex] = min(lowest[vertex], index[target])
        else:
            if lowest[vertex] == index[vertex]:
                return set(path[index[vertex] :])
            todo.pop()
            above = todo[-1][0]
            lowest[above] = min(lowest[above], lowest[vertex])


def _shortest(start: Vertex, follows: dict[Vertex, list[Vertex]]) -> list[Vertex]:
    """A shortest way from `start` back to it, without the return."""
    came_from: dict[Vertex, Vertex] = {}
    queue = deque([start])
    while True:
        vertex = queue.popleft()
        for target in follows[vertex]:
            if target is start:
                way = [vertex]
                while way[-1] is not start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if target not in came_from:
                came_from[target] = vertex
                queue.append(target)


# ---------------------------------------------------------------------- for people


def describe_circle(circle: Iterable[Node]) -> str:
    """The circle in one line: `t1 -> Lock#1 held by t2 -> Lock#2 held by t1`."""
    nodes = [*circle]
    text = nodes[0].name
    for position, node in enumerate(nodes):
        following = nodes[(position + 1) % len(nodes)]
        text += f" held by {following}" if node.kind == "resource" else f" -> {following}"
    return text


def describe_tasks(graph: WaitGraph) -> list[str]:
    """Two lines for each task, those of the circle first."""
    first = [node for node in graph.cycle or graph.likely_cycle if node.kind == "task"]
    nodes = [*dict.fromkeys([*first, *graph.tasks])]
    lines: list[str] = []
    for node in nodes[:_SHOWN]:
        lines.append(describe_task(graph, node))
        if node.site:
            lines.append(f"    at {node.site}")
    if len(nodes) > _SHOWN:
        lines.append(f"... and {_count(len(nodes) - _SHOWN, 'more task')}")
    return lines


def describe_task(graph: WaitGraph, task: Node) -> str:
    """One line: what the task waits for, and who holds that."""
    if task.state != "waiting":
        return f"{task} is {task.state}"
    awaited = graph.edges_from(task)
    joined = [edge for edge in awaited if edge.label == "awaits"]
    parts: list[str] = []
    if joined:
        names = ", ".join(edge.target.name for edge in joined)
        via = joined[0].via
        parts.append(f"awaits {names}" + (f" ({via})" if via else ""))
    parts += [_describe_wait(graph, edge.target) for edge in awaited if edge not in joined]
    return f"{task} {' and '.join(parts) or 'waits'}"


def _describe_wait(graph: WaitGraph, resource: Node) -> str:
    if is_timer(resource):
        return f"sleeps {resource.detail}"
    return f"waits for {describe_resource(graph, resource)}"


def is_timer(resource: Node) -> bool:
    """Whether the resource is the time, in `asyncio.sleep`."""
    return resource.name.startswith("sleep#")


def describe_resource(graph: WaitGraph, resource: Node) -> str:
    """A resource with its state and its holders."""
    text = f"{resource} ({resource.detail})" if resource.detail else resource.name
    holders = [
        f"{edge.target}" + (f" (acquired at {edge.via})" if edge.via else "")
        for edge in graph.edges_from(resource)
    ]
    return f"{text}, held by {' and '.join(holders)}" if holders else text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
