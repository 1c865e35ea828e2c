"""Makes tasks that wait, and the graph of them."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aioconc.testing._wait_graph import WaitGraph, wait_graph


async def all_wait() -> WaitGraph:
    """Let the loop run until every task but the caller waits; the graph of that moment."""
    quiet = 0
    while True:
        graph = wait_graph()
        # A task may wait for what a callback of the next pass will do, so one quiet pass is not
        # enough; wake-ups take two passes at most here.
        quiet = 0 if any(node.state == "ready" for node in graph.tasks) else quiet + 1
        if quiet > 3:
            return graph
        await asyncio.sleep(0)


@asynccontextmanager
async def waiting(**coroutines: Coroutine[Any, Any, Any]) -> AsyncIterator[WaitGraph]:
    """The graph when each coroutine runs in a task of that name and all wait; then ends them."""
    tasks = [asyncio.create_task(coro, name=name) for name, coro in coroutines.items()]
    try:
        yield await all_wait()
    finally:
        # What is gathered or in a group ends with its parent; what is merely awaited does not.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*tasks, *rest, return_exceptions=True)


def names(graph: WaitGraph) -> list[str]:
    """The circle by names."""
    return [node.name for node in graph.cycle]


def edges(graph: WaitGraph) -> list[str]:
    """Every edge as a text."""
    return [str(edge) for edge in graph.edges]
