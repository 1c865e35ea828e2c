"""Who waits for whom among the unfinished tasks of an event loop."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Node:
    """A task, or something that tasks wait for."""

    kind: Literal["task", "resource"]
    name: str
    ident: int


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` cannot go on before `target` acts."""

    source: Node
    target: Node
    label: Literal["waits for", "held by", "awaits"]


@dataclass(frozen=True)
class WaitGraph:
    """Who waits for whom; `str()` of it is for people."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    cycle: tuple[Node, ...]

    @property
    def tasks_waiting(self) -> int:
        """How many tasks wait."""
        return len({edge.source for edge in self.edges if edge.source.kind == "task"})

    def __str__(self) -> str:
        return "\n".join(f"{node.name} is unfinished" for node in self.nodes)


def wait_graph(loop: asyncio.AbstractEventLoop | None = None) -> WaitGraph:
    """Who waits for whom among the unfinished tasks of `loop` (default: the running one)."""
    loop = asyncio.get_running_loop() if loop is None else loop
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    return WaitGraph(tuple(Node("task", task.get_name(), id(task)) for task in tasks), (), ())


def cycle_key(graph: WaitGraph) -> Hashable:
    """A stable identity of the circle in `graph`; None where there is none."""
    return frozenset((node.kind, node.ident) for node in graph.cycle) or None
