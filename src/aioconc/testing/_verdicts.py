"""The texts of the errors that end a run in which nothing moves any more.

Each begins with a verdict in one line; then comes the wait graph, its circle first. When a verdict
is due is left to the loop.
"""

import asyncio
from collections.abc import Mapping, Sequence

from aioconc.testing._wait_graph import (
    Node,
    WaitGraph,
    describe_circle,
    describe_resource,
    describe_tasks,
    is_timer,
    wait_graph,
)


def describe_deadlock(loop: asyncio.AbstractEventLoop) -> str:
    """What `DeadlockError` says: nothing is left to run, and nothing outside will wake a task."""
    graph = wait_graph(loop)
    # Nothing else runs, so nobody else will release a lock: what was likely is so.
    circle = graph.cycle or graph.likely_cycle
    in_circle = sum(node.kind == "task" for node in circle)
    if in_circle == 1:
        verdict = "deadlock: a task waits for itself and nothing is left to run"
    elif circle:
        verdict = f"deadlock: {in_circle} tasks wait for each other and nothing is left to run"
    elif not graph.tasks:
        verdict = "deadlock: no task is left, and what the loop waits for will not come"
    else:
        waiting = (
            "1 task waits" if graph.tasks_waiting == 1 else f"{graph.tasks_waiting} tasks wait"
        )
        verdict = f"deadlock: {waiting} for what nobody will do; nothing is left to run"
    return _text(verdict, graph, circle)


def describe_stuck(loop: asyncio.AbstractEventLoop, outside: Sequence[str]) -> str:
    """What `StuckError` says: only something outside the loop might still wake a task.

    Args:
        outside: what is alive out there, such as "thread 'reader'".
    """
    graph = wait_graph(loop)
    waiting = "1 task waits" if graph.tasks_waiting == 1 else f"{graph.tasks_waiting} tasks wait"
    what = ", ".join(outside) or "something outside"
    verdict = f"stuck: {waiting}, nothing is left to run, and only {what} might wake the loop"
    return _text(verdict, graph, graph.cycle)


def describe_livelock(loop: asyncio.AbstractEventLoop, steps: int, busy: Mapping[str, int]) -> str:
    """What `LivelockError` says: tasks run and run while no time passes.

    Args:
        steps: how many steps were run since time last passed.
        busy: steps that each task, by its name, has run lately.
    """
    graph = wait_graph(loop)
    ranking = sorted(busy.items(), key=lambda item: (-item[1], item[0]))
    spinning = ", ".join(f"{name} ({count} steps)" for name, count in ranking)
    lines = [f"livelock: {steps} steps and no time has passed; spinning: {spinning or 'no task'}"]
    starving = _starving(graph, busy)
    if starving:
        lines.append(f"starving meanwhile: {', '.join(starving)}")
    return _text("\n".join(lines), graph, graph.cycle)


def _starving(graph: WaitGraph, busy: Mapping[str, int]) -> list[str]:
    """Tasks that wait for a timer, which does not fire, or for what a spinning task holds."""
    found: list[str] = []
    for edge in graph.edges:
        if edge.source.kind != "task" or edge.source.name in busy or edge.label != "waits for":
            continue
        holders = [each.target.name for each in graph.edges_from(edge.target)]
        if is_timer(edge.target):
            found.append(f"{edge.source} (waits for a timer)")
        elif any(name in busy for name in holders):
            found.append(f"{edge.source} (waits for {describe_resource(graph, edge.target)})")
    return found


def _text(verdict: str, graph: WaitGraph, circle: Sequence[Node]) -> str:
    lines = [verdict]
    if circle:
        lines.append(f"circle: {describe_circle(circle)}")
    lines += describe_tasks(graph)
    return "\n".join(lines)
